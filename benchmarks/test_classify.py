"""``Classifier.classify`` beside the interpreter's own ``invoke``: the difference is our cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from pytest_benchmark.fixture import BenchmarkFixture

from edge_sdk import Classifier, Frame, read_image
from edge_sdk.vision.preprocess import Crop, Preprocessing, preprocess

_LARGE = "720p frame, MobileNetV2 1.0 224 int8, 1 thread"
_SMALL = "32x32 picture, digits int8, 1 thread"


def _prepared(model: Path, pixels: np.ndarray) -> Interpreter:
    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[np.newaxis])
    return interpreter


def _best(interpreter: Interpreter) -> int:
    interpreter.invoke()
    return int(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).argmax())


@pytest.mark.benchmark(group=_LARGE)
def test_invoke_alone(
    benchmark: BenchmarkFixture, mobilenet: Path, imagenet_labels: tuple[str, ...], cat: Frame
) -> None:
    # Its -1..1 falls on 0..255 within one count: the stored values are the pixels themselves.
    interpreter = _prepared(mobilenet, preprocess(cat, Preprocessing(224, 224)))
    assert "cat" in imagenet_labels[_best(interpreter)]
    benchmark(interpreter.invoke)


@pytest.mark.benchmark(group=_LARGE)
@pytest.mark.parametrize("crop", ["center", "squash", "letterbox"])
def test_classify(
    benchmark: BenchmarkFixture,
    mobilenet: Path,
    imagenet_labels: tuple[str, ...],
    cat: Frame,
    crop: Crop,
) -> None:
    with Classifier.open(
        mobilenet, labels=imagenet_labels, normalize="symmetric", crop=crop
    ) as classifier:
        assert "cat" in classifier.classify(cat).top(1)[0].label
        benchmark(classifier.classify, cat)


@pytest.mark.benchmark(group=_SMALL)
def test_invoke_alone_small(benchmark: BenchmarkFixture, golden: Path) -> None:
    pixels = read_image(golden / "digits" / "3" / "0003.png").pixels
    interpreter = _prepared(golden / "digits_int8.tflite", pixels)
    assert _best(interpreter) == 3
    benchmark(interpreter.invoke)


@pytest.mark.benchmark(group=_SMALL)
def test_classify_small(benchmark: BenchmarkFixture, golden: Path) -> None:
    frame = read_image(golden / "digits" / "3" / "0003.png")
    with Classifier.open(golden / "digits_int8.tflite") as classifier:
        assert classifier.classify(frame).label == "3"
        benchmark(classifier.classify, frame)


@pytest.mark.benchmark(group="open an artifact and run its self-test")
@pytest.mark.parametrize("model", ["digits_int8", "digits_float16"])
def test_open(benchmark: BenchmarkFixture, golden: Path, model: str) -> None:
    path = golden / f"{model}.tflite"

    def open_and_close() -> int:
        with Classifier.open(path) as classifier:
            return len(classifier.labels)

    assert open_and_close() == 10
    benchmark(open_and_close)
