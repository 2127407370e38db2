"""User errors on the workstation: the exit code of each, and that nothing is lost."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.integration.host import QUICK, edgecls, some_digits


def _train(data: Path, out: Path, *more: str) -> tuple[int, str]:
    result = edgecls("train", "digits", "--data", data, "--out", out, *QUICK, *more)
    return result.exit_code, result.stderr


def test_an_empty_folder_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    code, message = _train(tmp_path / "data", tmp_path / "run")
    assert code == 1
    assert "no pictures in it; expected a folder per class" in message


def test_empty_class_folders_are_named(digits: Path, tmp_path: Path) -> None:
    data = some_digits(digits, tmp_path / "data", (0, 1), 5)
    (data / "nothing").mkdir()
    code, message = _train(data, tmp_path / "run")
    assert code == 1
    assert "class folder nothing" in message


def test_one_class_is_not_enough(digits: Path, tmp_path: Path) -> None:
    code, message = _train(some_digits(digits, tmp_path / "data", (4,), 5), tmp_path / "run")
    assert code == 1
    assert "only one class, 4" in message


def test_a_class_with_a_single_picture_is_named(digits: Path, tmp_path: Path) -> None:
    data = some_digits(digits, tmp_path / "data", (0, 1), 5)
    (data / "lonely").mkdir()
    shutil.copy(next((digits / "7").iterdir()), data / "lonely")
    code, message = _train(data, tmp_path / "run")
    assert code == 1
    assert "a single picture in class lonely" in message


def test_a_missing_data_folder_is_a_usage_error(tmp_path: Path) -> None:
    code, message = _train(tmp_path / "nowhere", tmp_path / "run")
    assert code == 2
    assert "nowhere" in message


@pytest.mark.slow
def test_unreadable_pictures_are_left_out_and_named(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="the extra [host] is not installed")
    data = some_digits(digits, tmp_path / "data", (0, 1), 40)
    good = sorted((data / "0").iterdir())[0].read_bytes()
    (data / "0" / "a_cut.png").write_bytes(good[: len(good) // 2])
    (data / "0" / "b_text.jpg").write_text("a shopping list")
    (data / "1" / "c_empty.png").write_bytes(b"")
    code, message = _train(data, tmp_path / "run")
    assert code == 0
    assert "3 pictures cannot be read and are left out" in message
    report = (tmp_path / "run" / "report.json").read_text()
    for name in ("a_cut.png", "b_text.jpg", "c_empty.png"):
        assert name in report


def test_a_class_of_unreadable_pictures_stops_the_training(digits: Path, tmp_path: Path) -> None:
    data = some_digits(digits, tmp_path / "data", (0, 1), 20)
    (data / "broken").mkdir()
    for number in range(3):
        (data / "broken" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    code, message = _train(data, tmp_path / "run")
    assert code == 1
    assert "no training picture left for class broken" in message
    assert "3 could not be read" in message


def test_an_unknown_recipe_key_names_the_nearest(tmp_path: Path, digits: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "mine"\n[training]\nepoch = 3\n')
    result = edgecls("build", recipe, "--data", digits, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "did you mean training.epochs?" in result.stderr


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path, digits: Path) -> None:
    result = edgecls("build", "digit", "--data", digits, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "did you mean digits?" in result.stderr


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("model.architecture=resnet9", "did you mean resnet8?"),
        ("model.weights=nowhere.h5", "nowhere.h5 is not a file"),
        ("model.trainable=head", "needs pretrained weights"),
    ],
)
def test_a_model_that_cannot_be_built_is_a_recipe_error(
    setting: str, part: str, digits: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow", reason="the extra [host] is not installed")
    code, message = _train(digits, tmp_path / "run", "--set", setting)
    assert code == 2
    assert part in message


def test_weights_that_do_not_fit_are_a_recipe_error(
    digits: Path, tmp_path: Path, built: Path
) -> None:
    for weights, part in (
        (tmp_path / "nowhere.h5", "is not a file"),
        (built / "model.keras", "does not fit mobilenet-v2"),
    ):
        code, message = _train(
            *(digits, tmp_path / "run", "--set", "model.architecture=mobilenet-v2"),
            *("--set", f"model.weights={weights}", "--set", "model.width=0.35"),
        )
        assert code == 2
        assert part in message


def test_without_the_extra_a_host_command_says_what_to_type(tmp_path: Path, digits: Path) -> None:
    # A fresh process in which neither TensorFlow nor Keras can be found.
    program = (
        "import sys, importlib.abc\n"
        "class Missing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('tensorflow', 'keras', 'sklearn'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from host_tools.cli import main; main()"
    )
    for words in (
        ["train", "digits", "--data", str(digits), "--out", str(tmp_path / "run")],
        ["demo", "--out", str(tmp_path / "demo")],
    ):
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


def test_converting_to_int8_without_pictures_is_a_usage_error(built: Path) -> None:
    result = edgecls("convert", built, "--format", "int8")
    assert result.exit_code == 2
    assert "give --data DIR" in result.stderr


def test_float16_needs_no_pictures(built: Path, tmp_path: Path) -> None:
    result = edgecls("convert", built, "--format", "float16", "--out", tmp_path)
    assert result.exit_code == 0
    assert (tmp_path / "digits_float16.tflite").exists()


def test_a_missing_model_is_exit_code_2(tmp_path: Path, digits: Path) -> None:
    result = edgecls("convert", tmp_path, "--data", digits)
    assert result.exit_code == 2
    assert "no model.keras in this folder" in result.stderr


def test_another_data_set_with_other_classes_is_refused(
    built: Path, all_digits: Path, tmp_path: Path
) -> None:
    other = some_digits(all_digits, tmp_path / "other", (2, 3), 30)
    converted = edgecls("convert", built, "--data", other, "--format", "int8")
    assert converted.exit_code == 1
    assert "are not the labels of" in converted.stderr
    words = ("validate", built / "digits_int8.tflite", "--reference", built, "--data", other)
    validated = edgecls(*words, "--split", "all")
    assert validated.exit_code == 1
    assert "the data has the class 2, 3" in validated.stderr


def test_other_pictures_of_the_same_classes_are_said(
    built: Path, all_digits: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for digit in (0, 1, 4, 7):
        (other / str(digit)).mkdir(parents=True)
        for picture in sorted((all_digits / str(digit)).glob("*.png"))[100:140]:
            shutil.copy(picture, other / str(digit))
    words = ("validate", built / "digits_int8.tflite", "--reference", built, "--data", other)
    result = edgecls(*words, "--split", "all")
    assert result.exit_code == 0
    assert "these are other pictures" in result.stderr


# A process of its own makes the file: one that made a Lambda layer has its code already.
_MAKE_EVIL = """
import sys, keras
code = (lambda x: __import__("pathlib").Path(%r).touch() or x)
inputs = keras.Input((32, 32, 3))
x = keras.layers.Lambda(code)(inputs)
x = keras.layers.Dense(4)(keras.layers.Flatten()(x))
keras.Model(inputs, keras.layers.Softmax()(x)).save(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_file_with_code_in_it_is_refused(suffix: str, digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="the extra [host] is not installed")
    evil, marker = tmp_path / f"evil{suffix}", tmp_path / "executed"
    program = _MAKE_EVIL % str(marker)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, evil],
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert marker.exists()  # the code works: making the model has run it
    marker.unlink()
    for words in (
        ("convert", evil, "--data", digits),
        ("convert", evil, "--format", "float16"),
        ("train", "digits", "--data", digits, "--set", f"training.teacher={evil}"),
        ("train", "digits", "--data", digits, "--set", f"model.weights={evil}"),
    ):
        result = edgecls(*words, "--out", tmp_path / "run")
        assert result.exit_code in (1, 2), result.output
        if "weights" not in str(words[-1]) or suffix == ".keras":
            assert "Lambda" in result.stderr
        assert not marker.exists()


def test_a_damaged_keras_file_is_refused(built: Path, digits: Path, tmp_path: Path) -> None:
    content = (built / "model.keras").read_bytes()
    for name, damaged in (
        ("cut.keras", content[: len(content) // 2]),
        ("text.keras", b"a shopping list"),
        ("text.h5", b"a shopping list"),
        ("empty.keras", b""),
        ("torn.keras", content[:100] + bytes(200) + content[300:]),
    ):
        (tmp_path / name).write_bytes(damaged)
        result = edgecls("convert", tmp_path / name, "--data", digits)
        assert result.exit_code == 1
        assert f"{name}: not a Keras model, or a damaged one" in result.stderr or (
            f"{name}: Keras does not load it" in result.stderr
        )


def test_a_keras_file_that_asks_for_gigabytes_is_refused(
    built: Path, digits: Path, tmp_path: Path
) -> None:
    """A description of some kilobytes, whose last layer has 100 million outputs."""
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(built / "model.keras") as sound, zipfile.ZipFile(bomb, "w") as archive:
        for name in sound.namelist():
            content = sound.read(name)
            if name == "config.json":
                found = list(re.finditer(rb'"units": (\d+)', content))[-1]
                content = content[: found.start(1)] + b"100000000" + content[found.end(1) :]
            archive.writestr(name, content)
    result = edgecls("convert", bomb, "--data", digits)
    assert result.exit_code == 1
    assert re.search(
        r"bomb\.keras: Keras does not load it \(it takes more than 1\.\d GB", result.stderr
    )


def test_weights_that_are_not_numbers_do_not_convert(
    built: Path, digits: Path, tmp_path: Path
) -> None:
    from host_tools.third_party.keras import load_keras

    model = load_keras(built / "model.keras")
    kernel = model.get_layer("logits").kernel
    kernel.assign(np.full(kernel.shape, np.nan, np.float32))
    model.save(tmp_path / "nan.keras")
    result = edgecls("convert", tmp_path / "nan.keras", "--data", digits)
    assert result.exit_code == 1
    assert "are not finite numbers" in result.stderr


def test_a_diverging_training_stops_and_names_the_step(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="the extra [host] is not installed")
    code, message = _train(
        *(digits, tmp_path / "run", "--set", "training.optimizer=sgd"),
        *("--set", "training.learning_rate=1e3", "--set", "model.architecture=resnet8"),
        *("--set", "training.epochs=20"),
    )
    assert code == 1
    assert "the loss became" in message
    assert "step" in message
    assert not (tmp_path / "run" / "model.keras").exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["digits_int8.tflite", "report.html", "history.csv"])
def test_a_full_disk_leaves_nothing_half_written(
    victim: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(built, run)
    before = (run / victim).read_bytes()
    real = os.fsync

    def full(descriptor: int) -> None:
        if f".{victim}." in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    result = edgecls("build", "digits", "--data", digits, "--out", run, *QUICK, "--resume")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert (run / victim).read_bytes() == before
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


_SIX = ("--set", "training.epochs=6")


def _interrupt(data: Path, out: Path, kind: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Starts a training and sends it a signal once its second epoch is done."""
    words = ["train", "digits", "--data", str(data), "--out", str(out), *QUICK]
    words += _SIX
    process = subprocess.Popen(
        [sys.executable, "-c", "from host_tools.cli import main; main()", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("epoch 2/"):
            time.sleep(0.2)
            process.send_signal(kind)
            break
    stdout, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, stdout, said + stderr)


def _losses(run: Path) -> list[str]:
    # The times and the rest of a row differ between machines; losses must not.
    lines = (run / "history.csv").read_text().splitlines()
    return [line.split(",")[2] for line in lines]


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_history(digits: Path, tmp_path: Path) -> None:
    # A killed one, see test_training.py, says nothing; this one does.
    pytest.importorskip("tensorflow", reason="the extra [host] is not installed")
    assert _train(digits, tmp_path / "whole", *_SIX)[0] == 0
    interrupted = _interrupt(digits, tmp_path / "run", signal.SIGINT)
    assert interrupted.returncode == 130
    assert "--resume continues from there" in interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    assert not (tmp_path / "run" / "model.keras").exists()

    code, message = _train(digits, tmp_path / "run", *_SIX)
    assert code == 1  # without --resume the unfinished training is not overwritten
    assert "add --resume" in message

    assert _train(digits, tmp_path / "run", *_SIX, "--resume")[0] == 0
    assert _losses(tmp_path / "run") == _losses(tmp_path / "whole")


def test_a_checkpoint_of_another_recipe_is_refused(
    built: Path, digits: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(built, run)
    code, message = _train(digits, run, "--resume", "--set", "training.seed=5")
    assert code == 1
    assert "another recipe or other pictures" in message
    for name in ("model.keras", "recipe.toml", "labels.txt", "report.json"):
        assert (run / name).read_bytes() == (built / name).read_bytes()


def test_half_a_checkpoint_is_refused(built: Path, digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(built, run)
    content = (run / "checkpoint.npz").read_bytes()
    (run / "checkpoint.npz").write_bytes(content[: len(content) // 2])
    code, message = _train(digits, run, "--resume")
    assert code == 1
    assert "the checkpoint is damaged" in message


def test_copies_of_a_picture_fall_on_one_side_of_the_split(digits: Path, tmp_path: Path) -> None:
    from edge_sdk.vision.preprocess import Preprocessing
    from host_tools.data.layouts import find_pictures
    from host_tools.data.load import Loading, load_dataset
    from host_tools.data.split import SplitRule

    data = some_digits(digits, tmp_path / "data", (0, 1, 4), 60)
    for picture in list(data.rglob("*.png")):
        # Another format, another name, the same pixels.
        cv2.imwrite(str(picture.with_name(f"copy_{picture.stem}.bmp")), cv2.imread(str(picture)))
    loading = Loading(Preprocessing(32, 32), SplitRule(0.2, 0.3, 1))
    dataset = load_dataset(find_pictures(data), loading)
    sides = [set(subset.digests) for subset in dataset.splits.values()]
    assert all(
        len(side) * 2 == len(s) for side, s in zip(sides, dataset.splits.values(), strict=True)
    )
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]


def test_build_without_test_pictures_stops_before_it_trains(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("build", "digits", "--data", digits, "--out", out, "--set", "data.test=0.0")
    result = edgecls(*words)
    assert result.exit_code == 1
    assert "no test pictures, so the drop could not be measured" in result.stderr
    assert not out.exists()


@pytest.mark.slow
def test_a_picture_over_the_limit_is_left_out_until_the_limit_is_raised(
    digits: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow", reason="the extra [host] is not installed")
    words = ("train", "digits", "--data", digits, "--out", tmp_path / "run", *QUICK)
    refused = edgecls(*words, "--max-megapixels", "0.001")
    assert refused.exit_code == 1
    assert "raise it with --max-megapixels" in refused.stderr
    assert edgecls(*words, "--max-megapixels", "0.002").exit_code == 0


@pytest.mark.slow
def test_training_twice_without_out_keeps_the_first_run(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(built, tmp_path / "runs" / "digits")
    before = (tmp_path / "runs" / "digits" / "model.keras").read_bytes()
    assert edgecls("train", "digits", "--data", digits, *QUICK).exit_code == 0
    assert (tmp_path / "runs" / "digits-2" / "model.keras").exists()
    assert (tmp_path / "runs" / "digits" / "model.keras").read_bytes() == before


@pytest.mark.parametrize(
    "setting", ["training.seed=9", "model.architecture=resnet9", "model.weights=nowhere.h5"]
)
def test_a_training_that_fails_leaves_the_finished_one_alone(
    setting: str, built: Path, digits: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(built, run)
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    code, _ = _train(digits, run, "--resume", "--set", setting)
    assert code in (1, 2)
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_validation_needs_less_of_a_folder_than_training(built: Path, digits: Path) -> None:
    # One picture per class cannot be learnt from, but can be asked about.
    few = built.parent / "few"
    some_digits(digits, few, (0, 1, 4, 7), 1)
    words = ("validate", built / "digits_int8.tflite", "--reference", built, "--data", few)
    result = edgecls(*words, "--split", "all")
    assert result.exit_code == 0, result.output
    assert "on 4 pictures" in result.stdout


def test_saved_scores_of_other_pictures_are_not_guessed(
    built: Path, digits: Path, tmp_path: Path
) -> None:
    words = ("validate", built / "digits_int8.tflite", "--data", digits, "--reference")
    result = edgecls(*words, built / "reference_scores.npz", "--split", "all")
    assert result.exit_code == 1
    assert "its scores were not saved" in result.stderr


def test_a_class_may_be_called_train(digits: Path, tmp_path: Path) -> None:
    from host_tools.data.layouts import find_pictures

    data = some_digits(digits, tmp_path / "data", (0, 1), 3)
    (data / "1").rename(data / "train")
    folder = find_pictures(data)
    assert folder.classes == ("0", "train")
    assert not folder.ready_splits


def test_a_folder_beside_the_splits_is_not_passed_over(digits: Path, tmp_path: Path) -> None:
    from edge_sdk.errors import DatasetError
    from host_tools.data.layouts import find_pictures

    some_digits(digits, tmp_path / "data" / "train", (0, 1), 3)
    some_digits(digits, tmp_path / "data" / "holdout", (0, 1), 3)
    with pytest.raises(DatasetError, match="holdout is beside the splits"):
        find_pictures(tmp_path / "data")


def test_provenance_of_a_newer_edgecls_does_not_stop_validation(
    built: Path, digits: Path, tmp_path: Path
) -> None:
    from edge_sdk import Artifact
    from host_tools.package import add_provenance

    artifact = tmp_path / "newer.tflite"
    shutil.copy(built / "digits_int8.tflite", artifact)
    manifest = Artifact.open(artifact).manifest
    assert manifest is not None
    recipe = {**manifest.provenance["recipe"], "key_of_tomorrow": 1}
    add_provenance(artifact, "recipe", recipe)
    add_provenance(artifact, "data", None)
    words = ("validate", artifact, "--data", digits, "--reference", built / "digits_float16.tflite")
    result = edgecls(*words)
    assert result.exit_code == 0, result.output
    assert "validating on the test split" in result.stderr
