"""`edgecls calibrate-scores` on a real int8 artifact: what it changes, and what it does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.vision.images import read_image
from edge_sdk.vision.tensors import temper
from host_tools.package import add_provenance
from host_tools.tflite import pack_model, unpack_model
from tests.integration.host import QUICK, edgecls, golden_weights, some_digits

pytestmark = pytest.mark.computes

pytest.importorskip("tensorflow", reason="the extra [host] is not installed")


@pytest.fixture
def artifact(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(built / "digits_int8.tflite", tmp_path / "mine_int8.tflite"))


@pytest.fixture(scope="module")
def strange(all_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits that the model was not trained on, labelled or not."""
    return some_digits(all_digits, tmp_path_factory.mktemp("strange") / "some", (2, 3, 8), 60)


def _fit(artifact: Path, data: Path, *more: object, code: int | None = 0) -> tuple[Any, str]:
    result = edgecls("calibrate-scores", artifact, "--data", data, "--json", *more)
    assert result.exit_code in ((0, 4) if code is None else (code,)), result.output
    return (json.loads(result.stdout) if result.stdout else None), result.stderr


def test_an_earlier_threshold_does_not_go_in_silence(artifact: Path, digits: Path) -> None:
    _fit(artifact, digits, "--coverage", 0.9)
    _, words = _fit(artifact, digits, code=None)  # 4 where mistakes are too few
    manifest = Artifact.open(artifact).manifest
    assert manifest is not None
    # It belongs to scores at one temperature, and stays as long as that does.
    taken = "the temperature stays" not in words
    assert ("is removed" in words) == taken == (manifest.threshold == 0)
    assert ("--coverage" in words) >= taken
    _, words = _fit(artifact, digits, code=None)
    assert "is removed" not in words


def test_what_was_fitted_is_in_the_manifest_and_is_applied(artifact: Path, digits: Path) -> None:
    before = Artifact.open(artifact)
    found, words = _fit(artifact, digits, "--coverage", 0.9)
    (entry,) = found["artifacts"]
    assert (found["schema"], found["type"]) == (1, "score_calibration")
    assert (entry["verdict"], entry["written"], entry["format"]) == ("pass", True, "int8")
    assert "wrote temperature and threshold" in words
    after = Artifact.open(artifact)
    assert after.manifest is not None
    assert before.manifest is not None
    assert after.data[: after.model_bytes] == before.data[: before.model_bytes]
    assert after.manifest.model_sha256 == before.manifest.model_sha256
    assert after.labels == before.labels
    assert after.manifest.threshold == entry["threshold"]["value"] > 0
    assert after.manifest.temperature == entry["temperature"]["value"]
    record = after.manifest.provenance["scores"]
    assert record["split"] == "validation"
    assert record["threshold"] == entry["threshold"]
    assert "path" not in record  # an artifact does not contain paths of the machine that made it
    kept = {key: value for key, value in after.manifest.provenance.items() if key != "scores"}
    assert kept == before.manifest.provenance
    # The same pictures, on what a device does now.
    picture = next((digits / "4").iterdir())
    with Classifier.open(artifact) as classifier:
        scores = classifier.classify(read_image(picture)).scores
        classifier.temperature = 1.0
        plain = classifier.classify(read_image(picture)).scores
        assert np.array_equal(scores, temper(plain, after.manifest.temperature))
    shown = json.loads(edgecls("inspect", artifact, "--json").stdout)["score"]
    assert shown == {
        "threshold": after.manifest.threshold,
        "temperature": after.manifest.temperature,
    }


def test_the_counts_are_those_of_the_splits(artifact: Path, digits: Path, strange: Path) -> None:
    found, _ = _fit(artifact, digits, "--coverage", 0.9, "--unknown", strange, "--dry-run")
    entry = found["artifacts"][0]
    assert entry["temperature"]["n"] == entry["fit"]["coverage"]["n"]
    assert entry["report"]["accuracy"]["n"] == entry["before"]["nll"]["n"]
    halves = entry["fit"]["false_accepts"]["n"], entry["report"]["false_accepts"]["n"]
    assert sum(halves) == 180
    assert min(halves) > 50
    assert entry["report"]["coverage"]["n"] + entry["fit"]["coverage"]["n"] < 400


def test_a_second_fit_starts_from_the_models_own_scores(artifact: Path, digits: Path) -> None:
    first, _ = _fit(artifact, digits, "--coverage", 0.9)
    data = artifact.read_bytes()
    second, _ = _fit(artifact, digits, "--coverage", 0.9)
    assert first == second
    assert artifact.read_bytes() == data


def test_a_dry_run_changes_nothing(artifact: Path, digits: Path) -> None:
    data = artifact.read_bytes()
    found, _ = _fit(artifact, digits, "--coverage", 0.9, "--dry-run")
    assert (found["artifacts"][0]["verdict"], found["artifacts"][0]["written"]) == ("pass", False)
    assert artifact.read_bytes() == data


def test_too_few_pictures_are_inconclusive_and_change_nothing(artifact: Path, digits: Path) -> None:
    data = artifact.read_bytes()
    found, words = _fit(artifact, digits, "--coverage", 0.99, code=4)
    entry = found["artifacts"][0]
    assert (entry["verdict"], entry["written"]) == ("inconclusive", False)
    assert entry["threshold"]["value"] is None
    assert entry["threshold"]["needed"] == 299
    assert "too few to guarantee at least 99 % of known pictures answered" in words
    assert artifact.read_bytes() == data


def test_false_accepts_are_kept_down(artifact: Path, digits: Path, strange: Path) -> None:
    goal = ("--false-accept", 0.1, "--unknown", strange, "--no-temperature")
    found, _ = _fit(artifact, digits, *goal)
    entry = found["artifacts"][0]
    assert entry["verdict"] == "pass"
    assert entry["fit"]["false_accepts"]["value"] <= 0.1
    low, _ = entry["report"]["false_accepts"]["ci95"]
    assert low <= 0.1
    assert entry["temperature"]["value"] == 1.0


def test_pictures_that_are_new_to_the_model_are_halved(artifact: Path, digits: Path) -> None:
    found, _ = _fit(artifact, digits, "--split", "all", "--coverage", 0.9)
    entry = found["artifacts"][0]
    numbers = entry["fit"]["coverage"]["n"], entry["report"]["coverage"]["n"]
    assert sum(numbers) == 400
    assert min(numbers) > 150


def test_pictures_of_the_data_are_not_unknown(artifact: Path, digits: Path, strange: Path) -> None:
    more = ("--unknown", digits / "4", "--unknown", strange, "--coverage", 0.9)
    found, words = _fit(artifact, digits, *more)
    entry = found["artifacts"][0]
    assert "100 pictures of --unknown are in --data too" in words
    counts = [entry[side]["false_accepts"]["n"] for side in ("fit", "report")]
    assert sum(counts) == 180


def test_a_damaged_picture_is_left_out_and_said(
    artifact: Path, digits: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(digits, tmp_path / "data"))
    (data / "4" / "broken.png").write_bytes(b"no picture")
    _, words = _fit(artifact, data, "--coverage", 0.9)
    assert "1 pictures cannot be read and are left out" in words


def test_the_page_shows_every_artifact(artifact: Path, digits: Path, strange: Path) -> None:
    page = artifact.with_name("scores.html")
    other = Path(shutil.copy(artifact, artifact.with_name("<b>other_int8.tflite")))
    result = edgecls(
        *("calibrate-scores", artifact, other, "--data", digits, "--coverage", 0.9),
        *("--unknown", strange, "--report", page),
    )
    assert result.exit_code == 0, result.output
    assert "coverage" in result.stdout
    text = page.read_text("utf-8")
    assert text.count("<svg") == 8
    assert "&lt;b&gt;other_int8.tflite" in text
    assert "<b>other" not in text
    assert "http://" not in text.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--coverage", "0.9", "--accuracy", "0.9"], "expected one"),
        (["--no-temperature"], "nothing to fit; add a goal"),
        (["--false-accept", "0.1"], "add --unknown DIR"),
        (["--coverage", "95"], "95 % is 0.95"),
        (["--coverage", "1"], "not a share"),
        (["--coverage", "nan"], "not a share"),
        (["--unknown", "nowhere"], "nowhere"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    words: list[str], message: str, artifact: Path, digits: Path
) -> None:
    result = edgecls("calibrate-scores", artifact, "--data", digits, *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_foreign_model_has_nowhere_to_keep_it(
    artifact: Path, digits: Path, tmp_path: Path
) -> None:
    model = unpack_model(artifact.read_bytes())
    model.metadata = []
    third_party, data = tmp_path / "third_party.tflite", pack_model(model)
    third_party.write_bytes(data)
    result = edgecls("calibrate-scores", third_party, "--data", digits)
    assert result.exit_code == 1
    assert "not an artifact of edgecls" in result.stderr
    assert "give --threshold to edgecls run" in result.stderr
    assert third_party.read_bytes() == data


def test_a_manifest_that_does_not_tell_its_splits_needs_other_pictures(
    artifact: Path, digits: Path
) -> None:
    add_provenance(artifact, "recipe", None)
    _, words = _fit(artifact, digits, "--coverage", 0.9, code=1)
    assert "--split all" in words
    _fit(artifact, digits, "--coverage", 0.9, "--split", "all")


def test_other_classes_are_named(artifact: Path, strange: Path) -> None:
    result = edgecls("calibrate-scores", artifact, "--data", strange, "--coverage", 0.9)
    assert result.exit_code == 1
    assert "has the class 2, 3, 8, which is not exactly one label" in result.stderr


def test_an_empty_folder_of_unknown_things_is_refused(
    artifact: Path, digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    more = ("--false-accept", 0.1, "--unknown", tmp_path / "nothing")
    _, words = _fit(artifact, digits, *more, code=1)
    assert "0 unknown pictures, expected enough for two halves" in words


def test_a_folder_without_validation_pictures_is_refused(
    artifact: Path, digits: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for split in ("train", "test"):
        shutil.copytree(digits, data / split)
    shutil.copytree(data / "test", data / "val")
    for picture in (data / "test").rglob("*.png"):
        picture.write_bytes(b"")
    _, words = _fit(artifact, data, "--coverage", 0.9, code=1)
    assert "no test pictures to report on" in words
    assert "--split all" in words


def test_without_the_extra_it_says_so_before_any_work(artifact: Path, digits: Path) -> None:
    program = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] == 'scipy':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from host_tools.cli import main; main()"
    )
    words = ["calibrate-scores", str(artifact), "--data", str(digits), "--coverage", "0.9"]
    result = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 5
    assert "pip install 'edgecls[host]'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_build_fits_what_its_recipe_asks_for(digits: Path, tmp_path: Path) -> None:
    words = ("--set", "scores.temperature=true", "--set", "scores.coverage=0.9")
    more = ("--set", "conversion.formats=['int8']")
    with golden_weights():
        result = edgecls(
            "build", "digits", "--data", digits, "--out", tmp_path / "run", *QUICK, *words, *more
        )
    assert result.exit_code == 0, result.output
    built = tmp_path / "run" / "digits_int8.tflite"
    manifest = Artifact.open(built).manifest
    assert manifest is not None
    assert manifest.threshold > 0
    assert manifest.provenance["scores"]["threshold"]["goal"] == "coverage"
    assert "validation" in manifest.provenance
    # The same as the command finds on the pictures themselves.
    found, _ = _fit(built, digits, "--coverage", 0.9, "--dry-run")
    assert found["artifacts"][0]["threshold"]["value"] == manifest.threshold
    assert found["artifacts"][0]["temperature"]["value"] == manifest.temperature
