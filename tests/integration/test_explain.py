"""`edgecls explain` with real models, and user errors."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result

from tests.integration.host import edgecls

pytest.importorskip("tensorflow", reason="the extra [host] is not installed")
pytest.importorskip("shap", reason="the extra [shap] is not installed")

from edge_sdk import Classifier, Preprocessing
from edge_sdk.errors import ExplanationError, ValidationError, WriteError
from host_tools.explain import explain as explain_module
from host_tools.explain.grad_cam import GradCam
from host_tools.explain.methods import METHODS, choose_methods
from host_tools.explain.subjects import Subject, open_subjects
from host_tools.extras import require
from host_tools.predict import ArtifactPredictor, KerasPredictor, Opening

_SIDE = 32
# In cells of 4 pixels: the only part of the picture that the answer depends on.
_ROWS, _COLUMNS = range(1, 3), range(5, 7)


def _lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def _region_model(end: str = "softmax") -> Any:
    """A network whose answer depends on the brightness of one region alone."""
    keras = require("keras")
    layers = keras.layers
    inputs = keras.Input((_SIDE, _SIDE, 3))
    x = layers.AveragePooling2D(4)(layers.Rescaling(1 / 255)(inputs))
    x = layers.Dense(64, use_bias=False, name="mask")(layers.Flatten()(x))
    x = layers.Conv2D(1, 1, name="conv")(layers.Reshape((8, 8, 1))(x))
    x = layers.GlobalAveragePooling2D()(x)
    if end == "softmax":
        outputs = layers.Dense(2, activation="softmax", name="head")(x)
    else:
        outputs = layers.Softmax()(layers.Dense(2, name="head")(x))
    model = keras.Model(inputs, outputs)
    mask = np.zeros((8, 8, 3, 64), np.float32)
    for row in _ROWS:
        for column in _COLUMNS:
            mask[row, column, :, 8 * row + column] = 1
    model.get_layer("mask").set_weights([mask.reshape(192, 64)])
    model.get_layer("conv").set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    model.get_layer("head").set_weights([np.array([[20.0, -20.0]]), np.array([-2.0, 2.0])])
    return model


def _predictor(model: Any, name: str) -> KerasPredictor:
    height, width, channels = model.inputs[0].shape[1:]
    how = Preprocessing(width, height, channels, "squash")
    return KerasPredictor(Path(name), model, ("bright", "dark"), how)


def _region_picture() -> np.ndarray[Any, np.dtype[np.uint8]]:
    picture = np.random.default_rng(0).integers(0, 60, (_SIDE, _SIDE, 3)).astype(np.uint8)
    picture[4:12, 20:28] += 150
    return picture


@pytest.mark.slow
@pytest.mark.parametrize("end", ["softmax", "layer"])
def test_all_three_methods_find_the_region_that_the_answer_depends_on(end: str) -> None:
    scorer = _predictor(_region_model(end), "region.keras")
    subject = Subject("region", "region.keras", ("bright", "dark"), None, scorer, None)  # type: ignore[arg-type]
    methods = choose_methods(METHODS, [subject])
    for method in METHODS:
        (heat,) = methods.maps(method, [subject], _region_picture(), 0, 20, "it")
        assert heat is not None
        row, column = np.unravel_index(heat.values.argmax(), heat.values.shape)
        assert 4 <= row < 12, method
        assert 20 <= column < 28, method
        inside = np.abs(heat.values[2:14, 18:30]).sum() / np.abs(heat.values).sum()
        assert inside > 0.6, (method, inside)


def test_grad_cam_of_a_logit_and_not_of_a_saturated_probability() -> None:
    model = _region_model()
    model.get_layer("head").set_weights([np.array([[9e3, -9e3]]), np.zeros(2)])
    heat = GradCam(_predictor(model, "sure.keras")).map(_region_picture(), 0)
    assert heat.values.max() > 0


def test_a_sub_model_that_gives_back_a_feature_map_is_looked_into(tmp_path: Path) -> None:
    keras = require("keras")
    layers = keras.layers
    body = keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(4, 3), layers.ReLU()])
    pooled = keras.Sequential([body, layers.GlobalAveragePooling2D()])
    nested = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            body,
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    hidden = keras.Sequential(
        [keras.Input((16, 16, 3)), pooled, layers.Dense(2, activation="softmax")]
    )
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    assert GradCam(_predictor(nested, "x")).map(picture, 0).values.shape == (16, 16)
    with pytest.raises(ExplanationError, match=r"within the sub-model .* use --method occlusion"):
        GradCam(_predictor(hidden, "x"))


def test_a_model_without_probabilities_is_refused() -> None:
    model = _region_model("layer")
    logits = require("keras").Model(model.inputs[0], model.layers[-1].input)
    with pytest.raises(ValidationError, match="no probabilities"):
        _predictor(logits, "logits.keras").warm_up()


@pytest.mark.parametrize("crop", ["center", "squash", "letterbox"])
def test_pictures_of_the_model_size_pass_through_preprocessing_unchanged(
    int8_artifact: Path, crop: Any
) -> None:
    from edge_sdk.vision.preprocess import preprocess
    from host_tools.predict import _frame

    for channels in (1, 3):
        pixels = np.random.default_rng(1).integers(0, 256, (32, 24, channels)).astype(np.uint8)
        same = preprocess(_frame(pixels), Preprocessing(24, 32, channels, crop))
        assert (same == pixels).all()
    with Classifier.open(int8_artifact) as classifier:
        pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
        scores = ArtifactPredictor(classifier).score(pixels)
        assert scores.shape == (3, 10)
        assert scores.dtype == np.float32
        assert (scores[1] == classifier.classify(pixels[1]).scores).all()


def test_a_run_against_its_int8_artifact(built: Path, digits: Path, tmp_path: Path) -> None:
    artifact = next(built.glob("*_int8.tflite"))
    pictures = sorted((digits / "4").iterdir())[:2]
    words = ("explain", built, *pictures, "--against", artifact, "--seconds", 5, "--json")
    result = edgecls(*words, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "grad-cam is left out for" in result.stderr
    explained = _lines(result)
    assert [e["path"] for e in explained] == [str(p) for p in pictures]
    first = explained[0]
    assert first["schema"] == 1
    assert first["type"] == "explanation"
    assert first["truth"] is None
    assert first["class"] == first["models"][0]["topk"][0]["label"]
    assert len(first["models"][1]["topk"]) == 3
    methods = {m["method"]: m for m in first["methods"]}
    assert list(methods) == ["grad-cam", "occlusion", "shap"]
    assert [m["model"] for m in methods["grad-cam"]["maps"]] == [str(built)]
    assert methods["grad-cam"]["agreement"] is None
    assert methods["grad-cam"]["difference"] is None
    assert methods["occlusion"]["agreement"] > 0.8
    assert methods["occlusion"]["maps"][0]["evaluations"] > 25
    files = [m["file"] for method in methods.values() for m in method["maps"]]
    for file in [*files, methods["shap"]["difference"], first["picture"]]:
        assert cv2.imread(file).shape[0] >= 256
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert page.count("<section>") == 3
    assert "agreement" in page
    assert "http" not in page.replace("http-equiv", "")
    assert 'src="data:image/png' in page


def test_the_worst_mistakes_come_with_their_true_labels(
    built: Path, digits: Path, int8_artifact: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--data", digits, "--worst", 2, "--method", "grad-cam", "--out", out, "--json")
    result = edgecls("explain", built, *words, "--split", "all")
    assert result.exit_code == 0, result.output
    assert "looking for mistakes in the all split" in result.stderr
    found = _lines(result)
    assert 0 < len(found) <= 2
    scores = [e["models"][0]["score"] for e in found]
    assert scores == sorted(scores, reverse=True)
    for e in found:
        assert e["truth"] == Path(e["path"]).parent.name != e["class"]
        assert e["class"] == e["models"][0]["topk"][0]["label"]
    assert "wrong</span>" in (out / "index.html").read_text("utf-8")


def test_flips_are_right_in_one_and_wrong_in_the_other(
    built: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    """A damaged copy of the same network stands in for a bad conversion."""
    keras = require("keras")
    damaged = tmp_path / "damaged"
    shutil.copytree(built, damaged)
    model = keras.models.load_model(damaged / "model.keras")
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel[:, ::-1], bias])
    model.save(damaged / "model.keras")
    data = tmp_path / "data"
    for label in (built / "labels.txt").read_text().split():
        shutil.copytree(digit_pictures / label, data / label)
    words = ("--data", data, "--flips", 2, "--split", "all", "--method", "occlusion")
    result = edgecls(
        "explain", built, "--against", damaged, *words, "--out", tmp_path / "out", "--json"
    )
    assert result.exit_code == 0, result.output
    for e in _lines(result):
        first, second = (m["topk"][0]["label"] for m in e["models"])
        assert first == e["truth"] != second
    assert len(_lines(result)) == 2


@pytest.fixture
def a_picture(digit_pictures: Path) -> Path:
    return next((digit_pictures / "7").glob("*.png"))


def _explain(model: Path, *words: object, out: Path) -> Result:
    return edgecls("explain", model, *words, "--out", out, "--seconds", 1)


def test_a_picture_that_cannot_be_read_does_not_stop_the_others(
    int8_artifact: Path, a_picture: Path, tmp_path: Path
) -> None:
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_text("a shopping list")
    words = (broken, missing, a_picture, "--method", "occlusion")
    result = _explain(int8_artifact, *words, "--json", out=tmp_path / "out")
    assert result.exit_code == 1
    assert [line["type"] for line in _lines(result)] == ["error", "error", "explanation"]
    result = _explain(int8_artifact, *words, out=tmp_path / "out")
    assert result.exit_code == 1
    assert f"{broken}: " in result.stderr
    result = _explain(int8_artifact, broken, out=tmp_path / "none")
    assert result.exit_code == 1
    assert "nothing to explain" in result.stderr
    assert not (tmp_path / "none" / "index.html").exists()


def test_gray_and_colour_pictures(
    built: Path, int8_artifact: Path, a_picture: Path, tmp_path: Path
) -> None:
    gray = cv2.imread(str(a_picture), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    words = ("--method", "occlusion", "--json")
    result = _explain(int8_artifact, tmp_path / "gray.png", *words, out=tmp_path / "out")
    assert result.exit_code == 0
    assert _lines(result)[0]["class"] == "7"

    keras = require("keras")
    inputs = keras.Input((16, 16, 1))
    features = keras.layers.Conv2D(3, 3)(keras.layers.Rescaling(1 / 255)(inputs))
    scores = keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(features))
    model = keras.Model(inputs, keras.layers.Softmax()(scores))
    model.save(tmp_path / "gray.keras")
    (tmp_path / "two.txt").write_text("a\nb\n")
    colour = cv2.applyColorMap(cv2.resize(gray, (40, 30)), cv2.COLORMAP_JET)
    cv2.imwrite(str(tmp_path / "colour.png"), colour)
    result = _explain(
        tmp_path / "gray.keras",
        tmp_path / "colour.png",
        *("--labels", tmp_path / "two.txt", "--json"),
        out=tmp_path / "out2",
    )
    assert result.exit_code == 0, result.output
    assert len(_lines(result)[0]["methods"]) == 3


def test_pictures_of_one_name_do_not_overwrite_each_other(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    for digit in "37":
        (tmp_path / digit).mkdir()
        shutil.copy(next((digit_pictures / digit).glob("*.png")), tmp_path / digit / "same.png")
    both = (tmp_path / "3" / "same.png", tmp_path / "7" / "same.png")
    result = _explain(int8_artifact, *both, "--method", "occlusion", "--json", out=tmp_path / "out")
    files = [e["methods"][0]["maps"][0]["file"] for e in _lines(result)]
    assert len(set(files)) == 2
    assert all(Path(file).exists() for file in files)
    assert [e["class"] for e in _lines(result)] == ["3", "7"]


def test_names_are_escaped_on_the_page(tmp_path: Path, a_picture: Path) -> None:
    _region_model().save(tmp_path / "m.keras")
    (tmp_path / "labels.txt").write_text("<script>alert(1)</script>\nb & c\n")
    evil = tmp_path / "<img src=x onerror=alert(2)>.png"
    shutil.copy(a_picture, evil)
    result = _explain(
        tmp_path / "m.keras",
        *(evil, "--labels", tmp_path / "labels.txt", "--method", "grad-cam"),
        out=tmp_path / "out",
    )
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert all("<" not in file.name for file in (tmp_path / "out").iterdir())


def test_methods_that_cannot_be_done(
    int8_artifact: Path, built: Path, a_picture: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    out = tmp_path / "out"
    result = _explain(int8_artifact, a_picture, "--method", "grad-cam", out=out)
    assert result.exit_code == 1
    assert "a TFLite file has no gradients" in result.stderr

    keras = require("keras")
    inputs = keras.Input((8, 8, 3))
    dense = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(inputs))
    keras.Model(inputs, dense).save(tmp_path / "dense.keras")
    (tmp_path / "two.txt").write_text("a\nb\n")
    words = (a_picture, "--labels", tmp_path / "two.txt", "--method")
    result = _explain(tmp_path / "dense.keras", *words, "grad-cam", out=out)
    assert result.exit_code == 1
    assert "needs a network with a convolution" in result.stderr
    assert "--method occlusion or --method shap" in result.stderr
    assert _explain(tmp_path / "dense.keras", *words, "occlusion", out=out).exit_code == 0

    real = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name.startswith("shap"):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.delitem(sys.modules, "shap", raising=False)
    monkeypatch.setattr("importlib.import_module", import_module)
    result = _explain(built, a_picture, "--method", "shap", out=out)
    assert result.exit_code == 5
    assert "pip install 'edgecls[shap]'" in result.stderr
    result = _explain(built, a_picture, "--json", out=out)
    assert result.exit_code == 0, result.output
    assert [m["method"] for m in _lines(result)[0]["methods"]] == ["grad-cam", "occlusion"]
    assert "shap is left out: this needs shap, which is not installed" in result.stderr
    assert "pip install 'edgecls[shap]'" in result.stderr


def test_the_class_that_is_asked_for(
    int8_artifact: Path, a_picture: Path, tmp_path: Path, public_data: Path
) -> None:
    words = (a_picture, "--method", "occlusion", "--json", "--class")
    result = _explain(int8_artifact, *words, "1", out=tmp_path / "out")
    explained = _lines(result)[0]
    assert explained["class"] == "1"
    assert explained["models"][0]["topk"][0]["label"] == "7"
    assert explained["models"][0]["score"] < 0.5
    model = public_data / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    labels = public_data / "models" / "imagenet_labels.txt"
    result = _explain(model, *words, "Egyptain cat", "--labels", labels, out=tmp_path / "out")
    assert result.exit_code == 2
    assert "did you mean Egyptian cat" in result.stderr


def test_an_edge_tpu_file_without_a_coral(
    public_data: Path, a_picture: Path, tmp_path: Path
) -> None:
    models = public_data / "models"
    file = models / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    labels = ("--labels", models / "imagenet_labels.txt")
    result = _explain(file, a_picture, *labels, out=tmp_path / "out")
    assert result.exit_code == 5
    assert "compiled for the Coral Edge TPU" in result.stderr
    result = _explain(
        models / "mobilenet_v1_0.25_128_quant.tflite",
        *(a_picture, "--against", file, *labels, "--backend", "edgetpu"),
        out=tmp_path / "out",
    )
    assert result.exit_code == 5
    assert "it runs on the CPU" in result.stderr


def test_models_that_cannot_be_compared(
    int8_artifact: Path, built: Path, a_picture: Path, tmp_path: Path
) -> None:
    result = _explain(built, a_picture, "--against", int8_artifact, out=tmp_path / "out")
    assert result.exit_code == 1
    assert "different labels" in result.stderr
    _region_model().save(tmp_path / "m.keras")
    inputs = require("keras").Input((40, 32, 3))
    flat = require("keras").layers.Flatten()(inputs)
    require("keras").Model(
        inputs, require("keras").layers.Dense(2, activation="softmax")(flat)
    ).save(tmp_path / "tall.keras")
    (tmp_path / "two.txt").write_text("a\nb\n")
    with pytest.raises(ValidationError, match="their maps lie on different pixels"):
        open_subjects(
            tmp_path / "m.keras",
            tmp_path / "tall.keras",
            Opening(labels=tmp_path / "two.txt", crop="squash"),
        )


def test_a_bare_keras_file_needs_labels(a_picture: Path, tmp_path: Path) -> None:
    _region_model().save(tmp_path / "m.keras")
    result = _explain(tmp_path / "m.keras", a_picture, out=tmp_path / "out")
    assert result.exit_code == 2
    assert "give --labels FILE" in result.stderr
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    words = (a_picture, "--labels", tmp_path / "three.txt")
    result = _explain(tmp_path / "m.keras", *words, out=tmp_path / "out")
    assert result.exit_code == 1
    assert "2 scores for 3 labels" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to explain"),
        (("{picture}", "--worst", "3"), "add --data DIR"),
        (("{picture}", "--split", "test"), "add --data DIR"),
        (("{picture}", "--data", "{digits}", "--worst", "3"), "give one of them"),
        (("--data", "{digits}"), "--worst N or --flips N"),
        (("--data", "{digits}", "--flips", "3"), "add --against MODEL"),
        (("{picture}", "--method", "lime"), "lime"),
        (("{picture}", "--seconds", "0"), "--seconds"),
        (("--data", "{nowhere}", "--worst", "1"), "does not exist"),
    ],
)
def test_words_that_do_not_fit_together(
    words: tuple[str, ...],
    message: str,
    int8_artifact: Path,
    digit_pictures: Path,
    a_picture: Path,
    tmp_path: Path,
) -> None:
    places = {"{picture}": a_picture, "{digits}": digit_pictures, "{nowhere}": tmp_path / "no"}
    said = [places.get(word, word) for word in words]
    result = edgecls("explain", int8_artifact, *said, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_data_of_other_classes_is_refused(
    int8_artifact: Path, a_picture: Path, tmp_path: Path
) -> None:
    for name in ("seven", "eight"):
        (tmp_path / "data" / name).mkdir(parents=True)
        shutil.copy(a_picture, tmp_path / "data" / name)
    words = ("--data", tmp_path / "data", "--worst", 1)
    result = _explain(int8_artifact, *words, out=tmp_path / "out")
    assert result.exit_code == 1
    assert "is not exactly one label" in result.stderr


def test_pictures_left_out_of_the_search_are_counted(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(digit_pictures, tmp_path / "data")
    (data / "7" / "broken.png").write_text("a shopping list")
    words = ("--data", data, "--worst", 1, "--split", "all")
    result = _explain(int8_artifact, *words, out=tmp_path / "out")
    assert "1 picture cannot be read and is left out, such as" in result.stderr


def test_no_mistakes_is_said(int8_artifact: Path, digit_pictures: Path, tmp_path: Path) -> None:
    words = ("--data", digit_pictures, "--worst", 1, "--split", "all")
    result = _explain(int8_artifact, *words, out=tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "0 of 10 pictures wrong" in result.stderr
    assert "nothing to explain" in result.stderr


def test_a_full_disk(
    int8_artifact: Path, a_picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    result = _explain(int8_artifact, a_picture, out=tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert "--out" in result.stderr

    def full(path: Path, data: bytes) -> None:
        raise WriteError(f"{path}: could not be written (No space left on device)")

    monkeypatch.setattr(explain_module, "write_atomically", full)
    result = _explain(int8_artifact, a_picture, "--method", "occlusion", out=tmp_path / "out")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr


def test_an_interruption_leaves_what_is_done(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = explain_module._explain_one, 0

    def interrupted(*words: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(*words)

    monkeypatch.setattr(explain_module, "_explain_one", interrupted)
    result = _explain(int8_artifact, digit_pictures, "--method", "occlusion", out=tmp_path / "out")
    assert result.exit_code == 130
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert page.count("<section>") == 3
    assert len(list((tmp_path / "out").glob("*_occlusion.png"))) == 2
