"""The interpreter alone: the frames are tensors already, and only ``invoke`` is timed."""

from __future__ import annotations

from protocol import serve, top


def open_peer(model, labels):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def classify(tensor):
        interpreter.set_tensor(entry, tensor)
        interpreter.invoke()
        return top(interpreter.get_tensor(result)[0], labels)

    return classify, lambda _: interpreter.invoke()


if __name__ == "__main__":
    serve(open_peer)
