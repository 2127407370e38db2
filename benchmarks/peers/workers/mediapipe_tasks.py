"""MediaPipe Tasks' ImageClassifier in its IMAGE mode; its Python has no option for threads."""

from __future__ import annotations

from protocol import TOP_K, serve


def open_peer(model, _labels):  # they are in the file
    import mediapipe as mp
    from mediapipe.tasks import python as tasks

    options = tasks.vision.ImageClassifierOptions(
        base_options=tasks.BaseOptions(model_asset_path=model), max_results=TOP_K
    )
    classifier = tasks.vision.ImageClassifier.create_from_options(options)

    def classify(frame):
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=frame)
        best = classifier.classify(image).classifications[0].categories
        return [(category.category_name, category.score) for category in best]

    return classify, classify


if __name__ == "__main__":
    serve(open_peer)
