"""TensorFlow's classic example ``label_image.py``, line by line, for a frame instead of a file."""

from __future__ import annotations

from protocol import serve, top


def open_peer(model, labels):
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    input_details = interpreter.get_input_details()
    output_details = interpreter.get_output_details()
    height = int(input_details[0]["shape"][1])
    width = int(input_details[0]["shape"][2])

    def classify(frame):
        img = Image.fromarray(frame).resize((width, height))
        input_data = np.expand_dims(img, axis=0)
        interpreter.set_tensor(input_details[0]["index"], input_data)
        interpreter.invoke()
        output_data = interpreter.get_tensor(output_details[0]["index"])
        return top(np.squeeze(output_data), labels)

    return classify, classify


if __name__ == "__main__":
    serve(open_peer)
