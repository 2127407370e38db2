"""From a trained run to ONNX files, and everything that takes a model with them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk import Artifact, Classifier, EdgeClsError, read_image
from edge_sdk.artifact.container import read_container
from edge_sdk.errors import ConversionError, CorruptArtifactError, EngineError
from tests.integration.host import edgecls

onnx = pytest.importorskip("onnx", reason="the extra [host] is not installed")
pytest.importorskip("tf2onnx", reason="the extra [host] is not installed")

_LABELS = ("0", "1", "4", "7")


@pytest.fixture(scope="module")
def converted(built: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's model as digits_onnx.onnx and digits_onnx_int8.onnx."""
    out = tmp_path_factory.mktemp("onnx")
    result = edgecls(
        *("convert", built, "--data", digits, "--format", "onnx", "--format", "onnx-int8"),
        *("--out", out),
    )
    assert result.exit_code == 0, result.output
    assert [Path(line).name for line in result.stdout.splitlines()] == [
        "digits_onnx.onnx",
        "digits_onnx_int8.onnx",
    ]
    return out


@pytest.fixture(scope="module")
def floating(converted: Path) -> Path:
    return converted / "digits_onnx.onnx"


@pytest.fixture(scope="module")
def integer(converted: Path) -> Path:
    return converted / "digits_onnx_int8.onnx"


def _picture(digits: Path) -> Path:
    return next((digits / "7").glob("*.png"))


# What is in the files.


def test_the_onnx_package_finds_nothing_wrong(floating: Path, integer: Path) -> None:
    for path in (floating, integer):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert (model.ir_version, model.opset_import[0].version) == (8, 17)
        assert [entry.domain for entry in model.opset_import] == [""]
        assert {p.key for p in model.metadata_props} == {
            "labels.txt",
            "edgecls.json",
            "edgecls.json.sha256",
        }


def test_integers_reach_from_the_pixels_to_the_logits(integer: Path) -> None:
    graph = onnx.load(integer).graph
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    takers = {node.op_type for node in graph.node if graph.input[0].name in node.input}
    assert takers == {"DequantizeLinear"}  # the pixels are the quantised values
    softmax = graph.node[-1]
    assert (softmax.op_type, list(softmax.output)) == ("Softmax", [graph.output[0].name])
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    kernels = [value for value in tensors.values() if value.ndim == 4]
    assert kernels
    assert {value.dtype for value in kernels} == {np.dtype(np.int8)}
    makers = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        if node.op_type == "Conv":
            scales = tensors[makers[node.input[1]].input[1]]
            assert scales.shape == (tensors[makers[node.input[1]].input[0]].shape[0],)


def test_they_are_as_docs_say(floating: Path, integer: Path) -> None:
    for path, format_, dtype in ((floating, "onnx", "float32"), (integer, "onnx-int8", "uint8")):
        artifact = Artifact.open(path)
        assert (artifact.format, artifact.labels) == (format_, _LABELS)
        assert (artifact.input.dtype, artifact.input.shape) == (dtype, (1, 32, 32, 3))
        assert artifact.manifest is not None
        assert ("calibration" in artifact.manifest.provenance) is (format_ == "onnx-int8")
    assert integer.stat().st_size < floating.stat().st_size


def test_the_same_model_gives_the_same_bytes(
    built: Path, digits: Path, integer: Path, tmp_path: Path
) -> None:
    # Keras counts what a process has traced; none of it may end up in the file.
    words = ("--data", digits, "--format", "onnx-int8", "--out", tmp_path)
    assert edgecls("convert", built, *words).exit_code == 0
    assert (tmp_path / integer.name).read_bytes() == integer.read_bytes()


# What they answer.


def _scores(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    with Classifier.open(path) as classifier:
        return np.stack([classifier.classify(picture).scores for picture in pixels])


def test_float_answers_as_keras_does_and_int8_nearly(
    built: Path, digits: Path, floating: Path, integer: Path
) -> None:
    from host_tools.third_party.keras import load_keras

    pictures = sorted(digits.rglob("*.png"))[::10]
    pixels = np.stack([np.asarray(read_image(picture).pixels) for picture in pictures])
    expected = np.asarray(load_keras(built / "model.keras")([pixels.astype(np.float32)]))
    np.testing.assert_allclose(_scores(floating, pixels), expected, atol=1e-5)
    close = _scores(integer, pixels)
    assert (close.argmax(1) == expected.argmax(1)).mean() > 0.9
    assert np.abs(close - expected).mean() < 0.03


@pytest.mark.parametrize("words", [(), ("--backend", "onnx", "--threads", "2")])
def test_every_command_takes_them(
    words: tuple[str, ...], integer: Path, digits: Path, built: Path, tmp_path: Path
) -> None:
    picture = _picture(digits)
    result = edgecls("classify", integer, picture, "--json", *words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["label"] in _LABELS
    result = edgecls("run", integer, "--source", picture.parent, "--limit", 3, "--json", *words)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 3
    result = edgecls(
        *("validate", integer, "--reference", built, "--data", digits, "--json"),
        *("--max-drop", 50, *words),
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["artifacts"][0]
    assert (found["format"], found["verdict"]) == ("onnx-int8", "pass")
    assert abs(found["drop_points"]) < 20
    result = edgecls(
        *("explain", integer, picture, "--against", built, "--method", "occlusion"),
        *("--out", tmp_path / "page", *words),
    )
    assert result.exit_code == 0, result.output


def test_inspect_tells_of_them(integer: Path) -> None:
    result = edgecls("inspect", integer, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["labels"] == list(_LABELS)
    assert found["input"] == {
        "shape": [1, 32, 32, 3],
        "dtype": "uint8",
        "scale": 1,
        "zero_point": 0,
    }
    assert found["ops"]["Softmax"] == 1
    assert found["size_bytes"] > found["model_bytes"] > 0


def test_another_name_changes_nothing(integer: Path, digits: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "model.tflite"
    renamed.write_bytes(integer.read_bytes())
    assert edgecls("classify", renamed, _picture(digits)).exit_code == 0


def test_provenance_is_added_without_a_change_to_the_model(integer: Path, tmp_path: Path) -> None:
    from host_tools.package import add_provenance

    path = tmp_path / "x.onnx"
    path.write_bytes(integer.read_bytes())
    add_provenance(path, "validation", {"accuracy": 0.5})
    before, after = read_container(integer), read_container(path)
    assert after.data[: after.model_bytes] == before.data[: before.model_bytes]
    assert after.manifest is not None
    assert after.manifest.provenance["validation"] == {"accuracy": 0.5}
    Classifier.open(path).close()


# What goes wrong.


def test_a_tflite_on_onnx_runtime_is_a_mistake_of_usage(built: Path, digits: Path) -> None:
    result = edgecls(
        "classify", built / "digits_int8.tflite", _picture(digits), "--backend", "onnx"
    )
    assert result.exit_code == 2
    assert "edgecls convert --format onnx" in result.stderr


def test_an_onnx_on_litert_is_a_mistake_of_usage(integer: Path, digits: Path) -> None:
    result = edgecls("classify", integer, _picture(digits), "--backend", "litert")
    assert result.exit_code == 2
    assert "leave --backend out" in result.stderr


@pytest.mark.parametrize("words", [(), ("--backend", "onnx")])
def test_without_onnx_runtime_it_is_exit_5(
    words: tuple[str, ...], integer: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = edgecls("classify", integer, _picture(digits), *words)
    assert result.exit_code == 5
    assert "pip install 'edgecls[onnx]'" in result.stderr


def test_without_tf2onnx_a_conversion_is_exit_5(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tf2onnx", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Without("tf2onnx"), *sys.meta_path])
    result = edgecls("convert", built, "--format", "onnx", "--out", tmp_path)
    assert result.exit_code == 5
    assert "pip install 'edgecls[host]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


class _Without:
    """An importer that finds one package missing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self._name:
            raise ModuleNotFoundError(name)


def test_int8_needs_pictures(built: Path, tmp_path: Path) -> None:
    result = edgecls("convert", built, "--format", "onnx-int8", "--out", tmp_path)
    assert result.exit_code == 2
    assert "onnx-int8" in result.stderr
    assert "--data" in result.stderr


def test_a_model_that_does_not_convert_is_our_error() -> None:
    from host_tools.extras import require
    from host_tools.quantize.onnx import to_onnx

    keras = require("keras")

    class Strange(keras.layers.Layer):  # type: ignore[misc]  # of a package without types
        def call(self, pixels: Any) -> Any:
            import tensorflow as tf

            return tf.math.bessel_i0e(pixels[:, 0, 0])

    image = keras.Input(batch_shape=(1, 4, 4, 3))
    with pytest.raises(ConversionError, match="choose another --format"):
        to_onnx(keras.Model(image, Strange()(image)))


# Third-party files.


def _third_party(path: Path, *, channels_first: bool, logits: bool = False) -> Path:
    """Four classes by the mean of each channel: as any exporter could write it."""
    helper, types = onnx.helper, onnx.TensorProto
    shape = ["N", 3, 8, 6] if channels_first else ["N", 8, 6, 3]
    weights = np.array([[9, 0, 0, 3], [0, 9, 0, 3], [0, 0, 9, 3]], np.float32)
    nodes = [
        helper.make_node(
            "ReduceMean",
            ["image"],
            ["means"],
            keepdims=0,
            axes=[2, 3] if channels_first else [1, 2],
        ),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["answer"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes[:2] if logits else nodes,
        "third-party",
        [helper.make_tensor_value_info("image", types.FLOAT, shape)],
        [helper.make_tensor_value_info("logits" if logits else "answer", types.FLOAT, ["N", 4])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


_COLOURS = ("red", "green", "blue", "gray")


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("logits", [False, True])
def test_a_third_party_model_with_its_channels_first_or_last(
    channels_first: bool, logits: bool, tmp_path: Path
) -> None:
    path = _third_party(tmp_path / "x.onnx", channels_first=channels_first, logits=logits)
    picture = np.zeros((20, 10, 3), np.uint8)
    with Classifier.open(path, labels=_COLOURS, normalize="unit") as classifier:
        assert classifier.artifact.input.shape == (1, 8, 6, 3)
        for channel, colour in enumerate(_COLOURS[:3]):
            picture[:] = 0
            picture[..., channel] = 255
            prediction = classifier.classify(picture)
            assert prediction.label == colour
            assert prediction.scores.sum() == pytest.approx(1, abs=1e-5)


def test_missing_descriptions_of_a_third_party_model_are_errors(
    digits: Path, tmp_path: Path
) -> None:
    path = _third_party(tmp_path / "x.onnx", channels_first=False)
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(_COLOURS))
    result = edgecls("classify", path, _picture(digits))
    assert (result.exit_code, "--labels" in result.stderr) == (2, True)
    result = edgecls("classify", path, _picture(digits), "--labels", labels)
    assert (result.exit_code, "--normalize" in result.stderr) == (2, True)
    result = edgecls("classify", path, _picture(digits), "--labels", labels, "--normalize", "unit")
    assert (result.exit_code, result.stderr.count("Note:")) == (0, 1)


def test_an_operator_nobody_knows_is_a_bad_model(tmp_path: Path) -> None:
    path = _third_party(tmp_path / "x.onnx", channels_first=False)
    path.write_bytes(path.read_bytes().replace(b"ReduceMean", b"ReduceSoup"))
    with pytest.raises(CorruptArtifactError, match=r"x\.onnx.*cannot run it"):
        Classifier.open(path, labels=_COLOURS, normalize="unit")


def test_damaged_third_party_models_are_refused_or_run(tmp_path: Path) -> None:
    from edge_sdk.engines import open_engine

    model = _third_party(tmp_path / "x.onnx", channels_first=False).read_bytes()
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        data = bytearray(model)
        data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
        try:
            engine = open_engine(bytes(data), "onnx")
            engine.infer(np.zeros((1, 8, 6, 3), np.float32))
            outcomes.add("ran")
        except EdgeClsError as error:
            outcomes.add(type(error).__name__)
    assert {"ran", "CorruptArtifactError"} <= outcomes


def test_an_inference_that_fails_is_an_engine_error(tmp_path: Path) -> None:
    from edge_sdk.engines import open_engine

    path = _third_party(tmp_path / "x.onnx", channels_first=False)
    model = onnx.load(path)
    wrong = onnx.numpy_helper.from_array(np.array([2, 3]), "shape")
    model.graph.initializer.append(wrong)
    model.graph.node[1].input[0] = "reshaped"
    model.graph.node.insert(1, onnx.helper.make_node("Reshape", ["means", "shape"], ["reshaped"]))
    engine = open_engine(model.SerializeToString(), "onnx")
    with pytest.raises(EngineError, match="inference failed"):
        engine.infer(np.zeros((1, 8, 6, 3), np.float32))
