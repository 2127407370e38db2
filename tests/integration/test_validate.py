"""`edgecls validate`: score differences, flips, and what cannot be compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_sdk import Artifact, Classifier, read_image
from edge_sdk.errors import MissingExtraError
from host_tools.predict import load_scores, save_scores
from tests.integration.host import edgecls, some_digits
from tests.integration.runtimes import as_third_party

pytestmark = pytest.mark.computes


@pytest.fixture(scope="module")
def all_ten(all_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of each digit."""
    return some_digits(all_digits, tmp_path_factory.mktemp("ten") / "data", tuple(range(10)), 20)


@pytest.fixture
def nudged(float16_artifact: Path, tmp_path: Path) -> tuple[object, ...]:
    """A copy of the golden model that answers 3 too readily, described."""
    path, words = as_third_party(float16_artifact, tmp_path / "nudged.tflite", bias={3: 8.0})
    return (path, *words)


def _json(*words: object) -> dict[str, Any]:
    result = edgecls("validate", *words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_score_differences_are_those_of_the_classifiers(
    int8_artifact: Path, float16_artifact: Path, digit_pictures: Path
) -> None:
    words = ("--reference", float16_artifact, "--data", digit_pictures, "--split", "all")
    found = _json(int8_artifact, *words)
    with Classifier.open(int8_artifact) as one, Classifier.open(float16_artifact) as other:
        apart = np.array(
            [
                np.abs(one.classify(frame).scores - other.classify(frame).scores)
                for frame in map(read_image, sorted(digit_pictures.rglob("*.png")))
            ]
        )
    difference = found["artifacts"][0]["score_difference"]
    assert difference["mean"] == pytest.approx(float(apart.mean()), rel=1e-4)
    assert difference["max"] == pytest.approx(float(apart.max()), rel=1e-4)
    text = edgecls("validate", int8_artifact, *words).stdout
    assert "scores differ" in text
    assert f"{difference['max']:.2g}" in text
    expected = {"width": 32, "height": 32, "color": "rgb", "crop": "center"}
    assert found["reference"]["preprocess"] == found["artifacts"][0]["preprocess"] == expected


# Flips


def test_flips_become_a_page_and_a_list(
    nudged: tuple[object, ...], float16_artifact: Path, all_ten: Path, tmp_path: Path
) -> None:
    words = (*nudged, "--reference", float16_artifact, "--data", all_ten, "--split", "all")
    more = ("--flips", tmp_path / "out", "--max-flips", 2, "--seconds", 5)
    found = _json(*words, *more)["artifacts"][0]
    listed = json.loads((tmp_path / "out" / "flips.json").read_text())
    (artifact,) = listed["artifacts"]
    flips = artifact["flips"]
    assert len(flips) == found["flips"] > 2
    assert all(flip["artifact"]["topk"][0]["label"] == "3" for flip in flips)
    assert artifact["right_to_wrong"] - artifact["wrong_to_right"] == pytest.approx(
        found["drop_points"] * 200 / 100
    )
    for flip in flips:
        assert (all_ten / flip["path"]).exists()
        assert flip["path"].startswith(f"{flip['truth']}/")

    page = (tmp_path / "out" / "index.html").read_text()
    assert f"{len(flips)} of 200 answers changed" in page
    assert f"{len(flips) - 2} more are not shown here" in page
    assert page.count("as the models see it</figcaption>") == 2
    assert page.count('alt="Occlusion') == 4
    assert flips[0]["path"] in page
    assert flips[2]["path"] not in page
    for outside in ("http://", "https://", 'src="/', str(all_ten), str(tmp_path)):
        assert outside not in page
    assert str(all_ten) not in (tmp_path / "out" / "flips.json").read_text()


def test_no_flips_are_said(
    int8_artifact: Path, float16_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    words = ("--reference", float16_artifact, "--data", digit_pictures, "--split", "all")
    found = _json(int8_artifact, *words, "--flips", tmp_path / "out")
    assert found["artifacts"][0]["flips"] == 0
    assert "No answer changed" in (tmp_path / "out" / "index.html").read_text()
    listed = json.loads((tmp_path / "out" / "flips.json").read_text())
    assert listed["artifacts"][0]["flips"] == []


def test_a_keras_reference_has_grad_cam_too(
    built: Path, digits: Path, float16_artifact: Path, tmp_path: Path
) -> None:
    from host_tools.third_party.keras import load_keras

    other = tmp_path / "other"
    shutil.copytree(built, other)
    model = load_keras(other / "model.keras")
    bias = model.get_layer("logits").bias
    bias.assign(bias.numpy() + np.array([4, 0, 0, 0], np.float32))
    model.save(other / "model.keras")
    words = ("--reference", other, "--data", digits, "--flips", tmp_path / "out")
    found = _json(built / "digits_int8.tflite", *words, "--max-flips", 1, "--seconds", 5)
    assert found["artifacts"][0]["flips"] > 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count('alt="Occlusion') == 2
    assert page.count('alt="Grad-CAM') == 1
    assert "Agreement of the two occlusion maps" in page


@pytest.mark.parametrize(("seconds", "maps"), [("0", 0), ("5", 1)])
def test_saved_scores_have_no_model_to_look_into(
    seconds: str,
    maps: int,
    nudged: tuple[object, ...],
    float16_artifact: Path,
    all_ten: Path,
    tmp_path: Path,
) -> None:
    scores = tmp_path / "scores.npz"
    data = ("--data", all_ten, "--split", "all")
    saved = edgecls(
        *("validate", float16_artifact, "--reference", float16_artifact, *data),
        *("--save-scores", scores),
    )
    assert saved.exit_code == 0, saved.output
    words = ("--reference", scores, *data, "--flips", tmp_path / "out", "--max-flips", "1")
    result = edgecls("validate", *nudged, *words, "--seconds", seconds)
    assert result.exit_code == 0, result.output
    assert ("heat maps of the artifact alone" in result.stderr) == bool(maps)
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count('alt="Occlusion') == maps


def test_names_are_escaped_on_the_page(
    nudged: tuple[object, ...], float16_artifact: Path, all_ten: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(all_ten, data)
    for picture in list(data.rglob("*.png")):
        picture.rename(picture.with_name(f"<script>{picture.name}"))
    words = ("--reference", float16_artifact, "--data", data, "--split", "all")
    _json(*nudged, *words, "--flips", tmp_path / "out", "--seconds", 0)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_folder_that_cannot_be_made_is_said(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    words = ("--reference", int8_artifact, "--data", digit_pictures, "--split", "all")
    result = edgecls("validate", int8_artifact, *words, "--flips", tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert "choose another folder with --flips" in result.stderr


def test_a_page_that_cannot_be_made_is_said_before_the_validation(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingExtraError("this needs jinja2; pip install 'edgecls[host]'")

    monkeypatch.setattr("host_tools.pages.check_installed", missing)
    words = ("--reference", int8_artifact, "--data", digit_pictures, "--split", "all")
    result = edgecls("validate", int8_artifact, *words, "--flips", tmp_path / "out")
    assert result.exit_code == 5
    assert "pip install 'edgecls[host]'" in result.stderr
    assert "validating on" not in result.stderr


# What cannot be compared


def _with_manifest(source: Path, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    import io
    import zipfile

    artifact = Artifact.open(source)
    with zipfile.ZipFile(io.BytesIO(artifact.data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["edgecls.json"])
    change(manifest)
    files["edgecls.json"] = json.dumps(manifest).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    path.write_bytes(artifact.data[: artifact.model_bytes] + buffer.getvalue())
    return path


def test_an_artifact_of_another_manifest_version_is_refused(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    newer = _with_manifest(int8_artifact, tmp_path / "new.tflite", lambda m: m.update(schema=2))
    data = ("--data", digit_pictures, "--split", "all")
    for words in ((newer, "--reference", int8_artifact), (int8_artifact, "--reference", newer)):
        result = edgecls("validate", *words, *data)
        assert result.exit_code == 7
        assert "new.tflite: its manifest has schema 2" in result.stderr


@pytest.mark.parametrize("side", ["artifact", "reference"])
def test_another_crop_is_refused_until_it_is_wanted(
    side: str, int8_artifact: Path, float16_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    path, words = as_third_party(float16_artifact, tmp_path / "third_party.tflite")
    squashed = (*words[:-1], "squash")
    models = (
        (path, "--reference", int8_artifact)
        if side == "artifact"
        else (int8_artifact, "--reference", path)
    )
    data = ("--data", digit_pictures, "--split", "all")
    refused = edgecls("validate", *models, *squashed, *data)
    assert refused.exit_code == 1
    assert "RGB pixels, squash" in refused.stderr
    assert "RGB pixels, center" in refused.stderr
    assert "--any-preprocessing" in refused.stderr
    found = _json(*models, *squashed, *data, "--any-preprocessing")
    crops = (found["reference"]["preprocess"]["crop"], found["artifacts"][0]["preprocess"]["crop"])
    assert sorted(crops) == ["center", "squash"]


def test_saved_scores_know_their_preprocessing(
    int8_artifact: Path, float16_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.npz"
    data = ("--data", digit_pictures, "--split", "all")
    words = ("validate", int8_artifact, "--reference", int8_artifact, *data)
    assert edgecls(*words, "--save-scores", scores).exit_code == 0
    assert load_scores(scores).preprocessing == Artifact.open(int8_artifact).preprocessing
    path, described = as_third_party(float16_artifact, tmp_path / "third_party.tflite")
    same = edgecls("validate", path, *described, "--reference", scores, *data)
    assert same.exit_code == 0, same.output
    other = edgecls("validate", path, *described[:-1], "squash", "--reference", scores, *data)
    assert other.exit_code == 1
    assert "the drop would measure the preprocessing" in other.stderr


def test_models_of_other_classes_are_refused(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.npz"
    words = ("validate", int8_artifact, "--data", digit_pictures, "--split", "all", "--reference")
    assert edgecls(*words, int8_artifact, "--save-scores", scores).exit_code == 0
    saved = load_scores(scores)
    save_scores(scores, replace(saved, labels=("1", "0", *saved.labels[2:])))
    result = edgecls(*words, scores)
    assert result.exit_code == 1
    assert "different labels or another order" in result.stderr
    assert "number 0 is '0' and '1'" in result.stderr


def test_a_file_of_labels_that_does_not_fit_is_refused(
    int8_artifact: Path, float16_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    path, words = as_third_party(float16_artifact, tmp_path / "third_party.tflite")
    (tmp_path / "third_party.txt").write_text("0\n1\n2\n")
    data = ("--data", digit_pictures, "--split", "all")
    result = edgecls("validate", path, *words, "--reference", int8_artifact, *data)
    assert result.exit_code == 2
    assert "labels" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("side", ["artifact", "reference"])
def test_weights_that_are_no_numbers_are_found(
    side: str, int8_artifact: Path, float16_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    path, words = as_third_party(float16_artifact, tmp_path / "nan.tflite", bias={4: np.nan})
    models = (
        (path, "--reference", int8_artifact)
        if side == "artifact"
        else (int8_artifact, "--reference", path)
    )
    result = edgecls("validate", *models, *words, "--data", digit_pictures, "--split", "all")
    assert result.exit_code == 1
    assert "nan.tflite: the model returned NaN" in result.stderr


@pytest.mark.parametrize(
    ("value", "part"), [(np.nan, "answers with NaN"), (None, "its scores are no probabilities")]
)
def test_a_keras_reference_without_probabilities_is_refused(
    value: float | None, part: str, built: Path, digits: Path, tmp_path: Path
) -> None:
    from host_tools.extras import require
    from host_tools.third_party.keras import load_keras

    run = tmp_path / "run"
    shutil.copytree(built, run)
    model = load_keras(run / "model.keras")
    if value is None:
        require("keras").Model(model.inputs, model.get_layer("logits").output).save(
            run / "model.keras"
        )
    else:
        kernel = model.get_layer("logits").kernel
        kernel.assign(np.full(kernel.shape, value, np.float32))
        model.save(run / "model.keras")
    result = edgecls("validate", built / "digits_int8.tflite", "--reference", run, "--data", digits)
    assert result.exit_code == 1
    assert part in result.stderr


def test_a_bare_keras_reference_of_another_size_is_refused_in_words(
    built: Path, digits: Path, tmp_path: Path
) -> None:
    from host_tools.extras import require

    layers = require("keras").layers
    with Classifier.open(built / "digits_int8.tflite") as classifier:
        classes = len(classifier.labels)
    tall = layers.Input((40, 32, 3))
    scores = layers.Dense(classes, activation="softmax")(layers.GlobalAveragePooling2D()(tall))
    require("keras").Model(tall, scores).save(tmp_path / "tall.keras")
    words = ("--reference", tmp_path / "tall.keras", "--data", digits)
    result = edgecls("validate", built / "digits_int8.tflite", *words)
    assert result.exit_code == 1
    assert "no recipe beside it; it is given pixels of 0..255" in result.stderr
    assert "32 x 40 RGB pixels, center" in result.stderr.replace("32x40", "32 x 40")
    assert "--any-preprocessing" in result.stderr


def test_an_empty_data_folder_is_no_data_set(int8_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    result = edgecls(
        *("validate", int8_artifact, "--reference", int8_artifact, "--data", tmp_path / "data")
    )
    assert result.exit_code == 1
    assert "no pictures in it; expected a folder per class" in result.stderr


def test_a_folder_of_pictures_that_cannot_be_read_gives_no_figures(
    int8_artifact: Path, tmp_path: Path
) -> None:
    for digit in ("3", "4"):
        (tmp_path / "data" / digit).mkdir(parents=True)
        (tmp_path / "data" / digit / "a.png").write_bytes(b"no picture")
    words = ("--data", tmp_path / "data", "--split", "all")
    for more in (("--reference", int8_artifact), ("--backend", "litert", "--backend", "cpu")):
        result = edgecls("validate", int8_artifact, *words, *more)
        assert result.exit_code == 1
        assert "no picture to validate on" in result.stderr


def test_saved_scores_of_none_of_the_pictures_are_said(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.npz"
    words = ("validate", int8_artifact, "--reference")
    data = ("--data", digit_pictures, "--split", "all")
    assert edgecls(*words, int8_artifact, *data, "--save-scores", scores).exit_code == 0
    (tmp_path / "data" / "3").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "data" / "3" / "new.png"), np.zeros((32, 32, 3), np.uint8))
    result = edgecls(*words, scores, "--data", tmp_path / "data")
    assert result.exit_code == 1
    assert "0 of the 10 pictures with saved scores" in result.stderr
    assert "no picture to validate on" in result.stderr
