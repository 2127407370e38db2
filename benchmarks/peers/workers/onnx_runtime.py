"""ONNX Runtime on its CPU provider, with OpenCV's linear resize in front."""

from __future__ import annotations

from protocol import serve, top


def open_peer(model, labels):
    import cv2
    import numpy as np
    import onnxruntime

    cv2.setNumThreads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    _, height, width, _ = entry.shape

    def classify(frame):
        pixels = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
        (scores,) = session.run(None, {entry.name: pixels[np.newaxis]})
        return top(scores[0], labels)

    return classify, classify


if __name__ == "__main__":
    serve(open_peer)
