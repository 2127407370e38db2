"""What every engine promises, on the golden model; the fake stands beside the real ones."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.engines import litert, onnx, open_engine
from edge_sdk.errors import CorruptArtifactError, EngineError, EngineNotInstalledError
from edge_sdk.ports import Engine
from edge_sdk.testing import FakeEngine
from edge_sdk.types import Tensor
from edge_sdk.vision.images import read_image

pytestmark = pytest.mark.computes

_SHAPE = (1, 32, 32, 3)
_CLASSES = 10
_REAL = ("litert", "litert-noxnnpack", "tflite-runtime")


def _tensor(seed: int = 0) -> Tensor:
    return np.random.default_rng(seed).integers(0, 256, _SHAPE, np.uint8)


def _fake() -> FakeEngine:
    weights = np.random.default_rng(1).normal(size=(32 * 32 * 3, _CLASSES)).astype(np.float32)
    return FakeEngine(lambda tensor: tensor.reshape(1, 32 * 32 * 3) @ weights)


def _need(backend: str) -> None:
    package = {"onnx": "onnxruntime"}.get(backend, backend.removesuffix("-noxnnpack"))
    module = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}.get(package, package)
    if package != "cpu" and importlib.util.find_spec(module) is None:
        pytest.skip(f"{package} is not installed")


@pytest.fixture(params=[*_REAL, "onnx", "fake"])
def engine(request: pytest.FixtureRequest, int8_artifact: Path, onnx_artifact: Path) -> Engine:
    if request.param == "fake":
        return _fake()
    _need(request.param)
    if request.param == "onnx":
        return onnx.OnnxEngine(onnx_artifact.read_bytes())
    return litert.LiteRTEngine(
        int8_artifact.read_bytes(),
        package=request.param.removesuffix("-noxnnpack"),
        xnnpack=not request.param.endswith("-noxnnpack"),
    )


def test_it_is_an_engine(engine: Engine) -> None:
    assert isinstance(engine, Engine)


def test_a_tensor_goes_in_and_a_tensor_of_scores_comes_out(engine: Engine) -> None:
    result = engine.infer(_tensor())
    assert (result.shape, result.dtype) == ((1, _CLASSES), np.float32)


def test_the_same_tensor_has_the_same_answer(engine: Engine) -> None:
    first = engine.infer(_tensor())
    engine.infer(_tensor(1))
    np.testing.assert_array_equal(engine.infer(_tensor()), first)


def test_an_answer_is_not_changed_by_the_next_inference(engine: Engine) -> None:
    first = engine.infer(_tensor(0))
    kept = first.copy()
    second = engine.infer(_tensor(1))
    assert not np.array_equal(second, kept)
    np.testing.assert_array_equal(first, kept)


def test_an_answer_can_be_written_to(engine: Engine) -> None:
    first = engine.infer(_tensor())
    kept = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(engine.infer(_tensor()), kept)


def test_the_input_is_left_as_it_is(engine: Engine) -> None:
    tensor = _tensor()
    engine.infer(tensor)
    np.testing.assert_array_equal(tensor, _tensor())


def test_an_answer_outlives_the_engine(engine: Engine) -> None:
    result = engine.infer(_tensor())
    kept = result.copy()
    engine.close()
    np.testing.assert_array_equal(result, kept)


@pytest.mark.parametrize(
    "shape", [(1, 16, 16, 3), (2, 32, 32, 3), (1, 32, 32, 1), (0, 32, 32, 3)], ids=str
)
def test_a_tensor_of_another_shape_is_refused_and_the_next_one_served(
    shape: tuple[int, ...], engine: Engine
) -> None:
    with pytest.raises(EngineError):
        engine.infer(np.zeros(shape, np.uint8))
    assert engine.infer(_tensor()).shape == (1, _CLASSES)


def test_after_close_there_is_no_inference(engine: Engine) -> None:
    engine.infer(_tensor())
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(_tensor())


def test_closing_twice_is_closing_once(engine: Engine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(_tensor())


@pytest.mark.parametrize("backend", [*_REAL, "onnx"])
def test_a_tensor_of_another_dtype_is_refused(
    backend: str, int8_artifact: Path, onnx_artifact: Path
) -> None:
    _need(backend)
    model = onnx_artifact if backend == "onnx" else int8_artifact
    engine = open_engine(model.read_bytes(), backend)
    with pytest.raises(EngineError):
        engine.infer(_tensor().astype(np.float32))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", ["cpu", *_REAL, "onnx"])
def test_every_backend_knows_the_digits(
    backend: str, threads: int, int8_artifact: Path, onnx_artifact: Path, digit_pictures: Path
) -> None:
    _need(backend)
    model = onnx_artifact if backend == "onnx" else int8_artifact
    engine = open_engine(model.read_bytes(), backend, threads=threads)
    for picture in sorted(digit_pictures.rglob("*.png")):
        scores = engine.infer(read_image(picture).pixels[np.newaxis])
        assert scores.argmax() == int(picture.parent.name)


_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"This is not a model, however long it is.",
    "another-magic": lambda model: model[:4] + b"XXXX" + model[8:],
}


@pytest.mark.parametrize("damage", _DAMAGES.values(), ids=_DAMAGES)
@pytest.mark.parametrize("backend", [*_REAL, "onnx"])
def test_what_is_no_model_is_refused(
    backend: str, damage: Callable[[bytes], bytes], int8_artifact: Path
) -> None:
    _need(backend)
    with pytest.raises(CorruptArtifactError):
        open_engine(damage(int8_artifact.read_bytes()), backend)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = ("edgecls_absent.interpreter", "ai-edge-litert")
    monkeypatch.setitem(litert._MODULES, "litert", absent)
    with pytest.raises(EngineNotInstalledError, match="pip install ai-edge-litert"):
        litert.LiteRTEngine(b"", package="litert")


def test_a_missing_onnx_runtime_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, onnx_artifact: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineNotInstalledError, match=r"pip install 'edgecls\[onnx\]'"):
        open_engine(onnx_artifact.read_bytes(), "onnx")
