"""The main job end to end, through the commands of users."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import Artifact, Classifier, read_image
from tests.integration.host import QUICK, edgecls

pytestmark = pytest.mark.computes


def test_build_leaves_a_complete_run_directory(built: Path) -> None:
    present = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    events = {name for name in present if name.startswith("logs/events.out.tfevents.")}
    assert len(events) == 1
    assert present - events == {
        "checkpoint.npz",
        "digits_float16.tflite",
        "digits_int8.tflite",
        "history.csv",
        "labels.txt",
        "logs/history.csv",
        "model.keras",
        "plots/architecture.png",
        "plots/calibration.png",
        "plots/classes.png",
        "plots/confusion.png",
        "plots/contact_sheet.jpg",
        "plots/curves.png",
        "plots/drops.png",
        "plots/examples.jpg",
        "plots/mistakes.jpg",
        "recipe.toml",
        "reference_scores.npz",
        "report.html",
        "report.json",
    }


def test_the_model_knows_the_digits_and_the_artifacts_with_it(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    assert report["evaluation"]["accuracy"] > 0.9
    for artifact in report["validation"]["artifacts"]:
        assert abs(artifact["drop_points"]) < 10
        assert (
            artifact["size_bytes"] == (built / f"digits_{artifact['format']}.tflite").stat().st_size
        )


def test_the_history_has_a_row_per_epoch(built: Path) -> None:
    rows = list(csv.DictReader((built / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]


def test_the_page_is_self_contained_and_holds_every_plot(built: Path) -> None:
    page = (built / "report.html").read_text()
    assert page.count("<svg") == 6
    assert re.findall(r'src="(?!data:image/)', page) == []
    assert re.findall(r"url\((?!data:image/|#)", page) == []
    assert 'href="http' not in page


def test_an_artifact_records_where_it_comes_from(built: Path) -> None:
    manifest = Artifact.open(built / "digits_int8.tflite").manifest
    assert manifest is not None
    provenance = manifest.provenance
    assert provenance["recipe"]["training"]["epochs"] == 3
    calibration = provenance["calibration"]
    assert (calibration["split"], calibration["pictures"]) == ("train", 200)
    assert sum(calibration["per_class"].values()) == 200
    assert calibration["lint"]["findings"] == []
    assert set(provenance["tools"]) >= {"edgecls", "tensorflow", "keras", "numpy", "python"}
    assert provenance["validation"]["accuracy"] > 0.9
    assert str(built.parent) not in json.dumps(provenance)


def test_validate_on_the_device_with_saved_scores_gives_the_host_figures(
    built: Path, digits: Path
) -> None:
    words = ("validate", built / "digits_int8.tflite", "--data", digits, "--json", "--reference")
    on_host = json.loads(edgecls(*words, built).stdout)
    on_device = json.loads(edgecls(*words, built / "reference_scores.npz").stdout)
    assert on_device["reference"]["n"] == on_host["reference"]["n"] > 50
    assert on_device["reference"]["accuracy"] == on_host["reference"]["accuracy"]
    assert on_device["artifacts"] == on_host["artifacts"]


def test_validate_takes_another_artifact_as_reference(built: Path, digits: Path) -> None:
    result = edgecls(
        *("validate", built / "digits_int8.tflite", "--data", digits),
        *("--reference", built / "digits_float16.tflite", "--json"),
    )
    assert result.exit_code == 0
    assert json.loads(result.stdout)["artifacts"][0]["agreement"] > 0.9


@pytest.mark.parametrize(
    ("budget", "code", "verdict"),
    [("60", 0, "pass"), ("0.01", 4, "inconclusive")],
)
def test_a_budget_gives_a_verdict_and_an_exit_code(
    budget: str, code: int, verdict: str, built: Path, digits: Path
) -> None:
    result = edgecls(
        *("validate", built / "digits_float16.tflite", "--reference", built, "--data", digits),
        *("--max-drop", budget, "--json"),
    )
    assert result.exit_code == code
    assert json.loads(result.stdout)["artifacts"][0]["verdict"] == verdict


@pytest.mark.slow
def test_a_ruined_artifact_fails_its_gate(built: Path, digits: Path, tmp_path: Path) -> None:
    # The reference sees the pictures as they are, the "artifact" inverted: a drop beyond doubt.
    from host_tools.package import Description, write_artifact
    from host_tools.quantize.convert import convert
    from host_tools.third_party.keras import load_keras

    model = load_keras(built / "model.keras")
    kernel = model.get_layer("logits").kernel
    kernel.assign(-kernel.numpy())
    good = Artifact.open(built / "digits_int8.tflite")
    assert good.manifest is not None
    description = Description(
        "ruined", "", "float32", good.labels, good.preprocessing, good.manifest.provenance
    )
    write_artifact(tmp_path / "ruined.tflite", convert(model, "float32"), description)
    result = edgecls(
        *("validate", tmp_path / "ruined.tflite", built / "digits_int8.tflite"),
        *("--reference", built, "--data", digits, "--max-drop", "5"),
    )
    assert result.exit_code == 3
    assert "a gate failed" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["float32", "float16", "dynamic", "int8", "int16x8"])
def test_every_format_answers_like_the_float_model(
    format_: str, built: Path, digits: Path, tmp_path: Path
) -> None:
    result = edgecls("convert", built, "--data", digits, "--format", format_, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    path = Path(result.stdout.strip())
    assert path == tmp_path / f"digits_{format_}.tflite"
    artifact = Artifact.open(path)
    assert artifact.input.dtype == ("uint8" if format_ == "int8" else "float32")
    assert artifact.output.dtype == "float32"
    compared = edgecls("validate", path, "--reference", built, "--data", digits, "--json")
    figures = json.loads(compared.stdout)["artifacts"][0]
    assert figures["agreement"] > 0.9
    assert figures["format"] == format_


def test_int8_input_spans_exactly_0_to_255(built: Path) -> None:
    spec = Artifact.open(built / "digits_int8.tflite").input
    assert spec.quantization is not None
    assert spec.quantization.scale == pytest.approx(1.0)
    assert spec.quantization.zero_point == 0


@pytest.mark.slow
def test_the_same_model_converts_to_the_same_bytes(
    built: Path, digits: Path, tmp_path: Path
) -> None:
    for out in ("a", "b"):
        words = ("convert", built, "--data", digits, "--format", "int8", "--out", tmp_path / out)
        assert edgecls(*words).exit_code == 0
    first, second = (tmp_path / out / "digits_int8.tflite" for out in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_a_bare_keras_file_converts_with_the_labels_of_the_folder(
    built: Path, digits: Path, tmp_path: Path
) -> None:
    shutil.copy(built / "model.keras", tmp_path / "mine.keras")
    result = edgecls("convert", tmp_path / "mine.keras", "--data", digits, "--format", "int8")
    assert result.exit_code == 0, result.output
    artifact = Artifact.open(tmp_path / "mine_int8.tflite")
    assert artifact.labels == ("0", "1", "4", "7")


@pytest.mark.slow
def test_ready_splits_are_used_as_they_are(digits: Path, tmp_path: Path) -> None:
    for split, part in (
        ("train", slice(0, 60)),
        ("valid", slice(60, 80)),
        ("test", slice(80, 100)),
    ):
        for class_folder in digits.iterdir():
            target = tmp_path / "data" / split / class_folder.name
            target.mkdir(parents=True)
            for picture in sorted(class_folder.iterdir())[part]:
                shutil.copy(picture, target)
    out = tmp_path / "run"
    result = edgecls("train", "digits", "--data", tmp_path / "data", "--out", out, *QUICK)
    assert result.exit_code == 0, result.output
    counts = json.loads((out / "report.json").read_text())["data"]["counts"]
    assert counts == {"train": 240, "validation": 80, "test": 80}


@pytest.mark.slow
def test_grayscale_models_take_one_channel(digits: Path, tmp_path: Path) -> None:
    result = edgecls(
        *("build", "digits", "--data", digits, "--out", tmp_path / "run", *QUICK),
        *("--set", "data.color=gray", "--set", "conversion.formats=['int8']"),
    )
    assert result.exit_code == 0, result.output
    artifact = Artifact.open(tmp_path / "run" / "digits_int8.tflite")
    assert artifact.input.shape == (1, 32, 32, 1)
    picture = next((digits / "0").iterdir())
    with Classifier.open(artifact.path) as classifier:
        assert np.isclose(classifier.classify(read_image(picture)).scores.sum(), 1, atol=1e-3)


def test_the_example_runs_on_a_real_artifact(built: Path, digits: Path) -> None:
    main = Path(__file__).parents[2] / "firmware_examples" / "folder_replay" / "main.py"
    result = subprocess.run(
        [sys.executable, main, built / "digits_int8.tflite", digits / "7"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ": 7 (" in result.stdout


@pytest.mark.slow
def test_a_last_training_learns_from_every_picture(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = edgecls("train", "digits", "--data", digits, "--out", out, "--split", "all", *QUICK)
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert report["data"]["counts"] == {"train": 400, "validation": 0, "test": 0}
    assert report["training"]["best_epoch"] == 2  # nothing to choose by: the last one
    assert "<svg" in (out / "report.html").read_text()


def test_in_a_log_every_long_stage_says_how_far_it_is(
    built: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from host_tools import progress

    # Everything takes longer than that.
    monkeypatch.setattr(progress, "EVERY_S", 1e-9)
    result = edgecls(
        *("build", "digits", "--data", digits, "--out", tmp_path / "run", *QUICK),
        *("--cache", tmp_path / "cache", "--corruptions", "--set", "training.feature_variants=2"),
        *("--set", f"model.weights={built}", "--set", "model.trainable=head"),
        *("--set", "scores.temperature=true", "--set", "conversion.formats=['int8', 'onnx']"),
    )
    assert result.exit_code in (0, 4), result.output
    said = {line.split(":")[0] for line in result.stderr.splitlines() if ":" in line}
    assert said >= {
        *("reading pictures", "computing features, pass 1 of 2", "computing features, pass 2 of 2"),
        *("computing features for validation", "epoch 2/3, steps", "epoch 2/3, validation steps"),
        *("converting to float32", "measuring ranges", "rounding to 8 bits", "converting to ONNX"),
        *("scoring", "validating", "hashing pictures", "corrupted pictures"),
    }
    lines = [line for line in result.stderr.splitlines() if line.startswith("reading pictures:")]
    assert re.fullmatch(r"reading pictures: 201 of 400, [\d,]+/s, about \d+ s left", lines[200])
    assert re.fullmatch(r"reading pictures: 400 of 400 in \d+ s", lines[-1])
