"""Keras files whose configuration names code: refused before Keras opens them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import ConversionError
from host_tools.third_party.keras import load_keras

keras = pytest.importorskip("keras", reason="the extra [host] is not installed")

_INPUT = {
    "module": "keras.layers",
    "class_name": "InputLayer",
    "config": {"batch_shape": [None, 8, 8, 3], "name": "i"},
}


def _layer(name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": {"name": "x", **config}}


def _model(*layers: dict[str, Any]) -> dict[str, Any]:
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "s", "layers": [_INPUT, *layers]},
    }


def _function(name: str, module: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name}


def _write(path: Path, config: Any) -> Path:
    text = config if isinstance(config, str) else json.dumps(config)
    if path.suffix == ".h5":
        import h5py

        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = text
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", text)
        archive.writestr("metadata.json", json.dumps({"keras_version": keras.__version__}))
    return path


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras does not open the file, whatever its version would refuse."""

    def seen(*_: Any, **__: Any) -> None:
        pytest.fail("Keras was asked to load it")

    monkeypatch.setattr(keras.models, "load_model", seen)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("config", "named"),
    [
        (_model(_layer("TFSMLayer", filepath="/tmp/x")), "TFSMLayer"),
        (_model(_layer("Lambda")), "Lambda"),
        (_model(_layer("Lambda", None)), "Lambda"),
        (_model(_layer("TorchModuleWrapper")), "TorchModuleWrapper"),
        (_model(_layer("JaxLayer")), "JaxLayer"),
        (_model(_layer("FlaxLayer", "keras.src.utils.jax_layer")), "FlaxLayer"),
        # Within another layer, or another model.
        (_model(_layer("TimeDistributed", layer=_layer("Lambda"))), "Lambda"),
        (_model(_model(_layer("TFSMLayer"))), "TFSMLayer"),
        # As a function that Keras would call.
        (_model(_layer("Dense", activation=_function("TFSMLayer", "keras.layers"))), "TFSMLayer"),
        (_model(_layer("Dense", activation=_function("get_file", "keras.utils"))), "get_file"),
        (
            _model(_layer("Dense", activation=_function("load_model", "keras.models"))),
            "load_model",
        ),
        (_function("enable_unsafe_deserialization", "keras.config"), "enable_unsafe"),
        # Of no part of Keras.
        (_model(_layer("Popen", "subprocess")), "subprocess.Popen"),
        (_model(_layer("Dense", "keras_extras.layers")), "keras_extras"),
        (_model({**_layer("Mine"), "registered_name": "pkg>Lambda"}), "Lambda"),
    ],
)
@pytest.mark.usefixtures("unseen")
def test_code_is_refused_by_name_before_keras_sees_it(
    config: Any, named: str, suffix: str, tmp_path: Path
) -> None:
    path = _write(tmp_path / f"x{suffix}", config)
    with pytest.raises(ConversionError, match=rf"x\{suffix}: (has a|needs) .*{named}"):
        load_keras(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("text", ["", "{", "[" * 100_000], ids=["empty", "cut", "deep"])
@pytest.mark.usefixtures("unseen")
def test_a_description_that_is_none_is_refused(text: str, suffix: str, tmp_path: Path) -> None:
    if suffix == ".h5" and len(text) > 60_000:
        text = "[" * 60_000  # an attribute holds no more
    with pytest.raises(ConversionError, match="not a Keras model, or a damaged one"):
        load_keras(_write(tmp_path / f"x{suffix}", text))


@pytest.mark.usefixtures("unseen")
def test_a_description_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (65 << 20))
    with pytest.raises(ConversionError, match="more than 64 MB"):
        load_keras(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_of_standard_layers_is_loaded(suffix: str, tmp_path: Path) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(2, 3, kernel_regularizer="l2", activation="relu", name="Lambda"),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    path = tmp_path / f"x{suffix}"
    model.save(path)
    assert [layer.name for layer in load_keras(path).layers][1] == "Lambda"


def test_operations_are_standard_layers(tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 3))
    outputs = keras.ops.mean(keras.ops.relu(inputs) * 2 + 1, axis=(1, 2))
    keras.Model(inputs, outputs).save(tmp_path / "x.keras")
    assert load_keras(tmp_path / "x.keras").output_shape == (None, 3)
