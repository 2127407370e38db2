"""Ours. The artifact has its labels and its crop with it."""

from __future__ import annotations

from protocol import TOP_K, serve


def open_peer(model, _labels):  # they are in the file
    from edge_sdk import Classifier

    classifier = Classifier.open(model)

    def classify(frame):
        return [(best.label, best.score) for best in classifier.classify(frame).top(TOP_K)]

    return classify, classify


if __name__ == "__main__":
    serve(open_peer)
