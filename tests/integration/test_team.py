"""Training shared by several processes and devices: one network, however it is computed."""

from __future__ import annotations

import csv
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host_tools.train.distributed import Team
from tests.integration.host import edgecls, some_digits

pytest.importorskip("tensorflow", reason="the extra [host] is not installed")
pytest.importorskip("jax", reason="the extra [jax] is not installed")

_EDGECLS = "from host_tools.cli import main; main()"
# Without augmentation and dropout every process must end with the same numbers.
_SETTINGS = (
    *("training.batch_size=32", "training.optimizer=sgd", "training.learning_rate=0.05"),
    *("training.schedule=constant", "model.width=0.25", "data.width=16", "data.height=16"),
    *("model.dropout=0", "model.block_dropout=0", "augmentation.horizontal_flip=0"),
    *("augmentation.shift=0", "augmentation.zoom=0", "augmentation.brightness=0"),
    *("augmentation.rotation=0", "training.patience=0"),
)
_JOINED_S = 240


def _words(data: Path, out: Path, epochs: int, *more: object) -> list[str]:
    sets = [word for setting in _SETTINGS for word in ("--set", setting)]
    cache = out.parent / "cache"
    words = ("small-cnn", "--data", data, "--out", out, "--cache", cache, *more)
    return ["train", *map(str, words), *sets, "--set", f"training.epochs={epochs}"]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _started(
    commands: list[list[str]], folder: Path, **environment: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """A process per command, which writes into FOLDER/said-N; killed at the end if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    # Keras has been imported here, on TensorFlow; the new processes choose for themselves.
    inherited = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    # What one test has compiled, the next need not.
    inherited["JAX_COMPILATION_CACHE_DIR"] = str(folder.parent / "compiled")
    inherited["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    processes = []
    try:
        for rank, words in enumerate(commands):
            with (folder / f"said-{rank}").open("w") as said:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-c", _EDGECLS, *words],
                        stdout=said,
                        stderr=subprocess.STDOUT,
                        text=True,
                        cwd=Path(__file__).parents[2],
                        env=inherited | environment,
                    )
                )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _together(commands: list[list[str]], folder: Path) -> list[str]:
    """Runs processes to their end, all of them well; what each said."""
    with _started(commands, folder) as processes:
        codes = [process.wait(_JOINED_S) for process in processes]
    said = [(folder / f"said-{rank}").read_text() for rank in range(len(commands))]
    assert codes == [0] * len(codes), "\n".join(said)
    return said


def _pair(data: Path, out: Path, epochs: int, *more: object) -> list[list[str]]:
    """The commands of two processes on loopback."""
    where = ("--nodes", 2, "--coordinator", f"127.0.0.1:{_free_port()}")
    return [_words(data, out, epochs, *where, "--node-rank", rank, *more) for rank in (0, 1)]


def _history(run: Path) -> list[tuple[float, float]]:
    with (run / "history.csv").open() as file:
        return [(float(row["loss"]), float(row["val_loss"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def pictures(all_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return some_digits(all_digits, tmp_path_factory.mktemp("three") / "three", (0, 1, 4), 80)


@pytest.fixture(scope="module")
def pair(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Two epochs by two processes: the run directory, and what each process said."""
    folder = tmp_path_factory.mktemp("pair")
    said = _together(_pair(pictures, folder / "run", 2), folder)
    return folder / "run", said


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights(pair: tuple[Path, list[str]]) -> None:
    run, said = pair
    weights = [re.findall(r"process (\d) of 2: weights ([0-9a-f]{16})", text) for text in said]
    assert [found[0][0] for found in weights] == ["0", "1"]
    assert weights[0][0][1] == weights[1][0][1]
    assert "rank 0 writes the run directory" in said[1]
    assert (run / "report.html").exists()


@pytest.mark.slow
def test_what_two_processes_trained_is_what_one_would_have(
    pair: tuple[Path, list[str]], pictures: Path, tmp_path: Path
) -> None:
    words = _words(pictures, tmp_path / "one", 2, "--devices", "all")
    _together([words], tmp_path)
    for mine, theirs in zip(_history(tmp_path / "one"), _history(pair[0]), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_all_devices_of_one_process_share_a_batch(
    pair: tuple[Path, list[str]], pictures: Path, tmp_path: Path
) -> None:
    words = _words(pictures, tmp_path / "one", 2, "--devices", "all")
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    with _started([words], tmp_path, **flags) as (process,):
        assert process.wait(_JOINED_S) == 0
    assert "on 2 devices of 1 processes" in (tmp_path / "said-0").read_text()
    for mine, theirs in zip(_history(tmp_path / "one"), _history(pair[0]), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_what_two_processes_trained_converts_as_usual(
    pair: tuple[Path, list[str]], pictures: Path, tmp_path: Path
) -> None:
    result = edgecls("convert", pair[0], "--data", pictures, "--format", "int8", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    artifact = tmp_path / "small-cnn_int8.tflite"
    checked = edgecls("validate", artifact, "--reference", pair[0], "--data", pictures)
    assert checked.exit_code == 0, checked.output


@pytest.mark.slow
def test_when_one_dies_the_others_say_so_and_all_can_resume(
    pair: tuple[Path, list[str]], pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    # Many epochs, so that there is one to die in.
    with _started(_pair(pictures, run, 500), tmp_path) as (first, second):
        deadline = time.monotonic() + _JOINED_S
        while not (run / "checkpoint.npz").exists():
            assert first.poll() is None, (tmp_path / "said-0").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        second.send_signal(signal.SIGKILL)
        assert first.wait(90) not in (0, None)
    said = (tmp_path / "said-0").read_text()
    assert "lost the others" in said
    assert "--resume" in said
    assert "Traceback" not in said
    with (run / "logs" / "history.csv").open() as file:
        done = len(list(csv.DictReader(file)))
    # The identity holds the number of epochs; the same command goes on, and is let live.
    with _started(_pair(pictures, run, 500, "--resume"), tmp_path) as (first, second):
        deadline = time.monotonic() + _JOINED_S
        log = tmp_path / "said-0"
        while f"epoch {done + 2}/500" not in log.read_text():
            assert first.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert "epoch 1/500" not in log.read_text()


@pytest.mark.slow
def test_processes_with_different_pictures_refuse_to_train(
    pictures: Path, all_digits: Path, tmp_path: Path
) -> None:
    other = some_digits(all_digits, tmp_path / "other", (0, 1, 4), 79)
    commands = _pair(pictures, tmp_path / "run", 2)
    commands[1][commands[1].index("--data") + 1] = str(other)
    with _started(commands, tmp_path) as processes:
        assert [process.wait(_JOINED_S) for process in processes] == [1, 1]
    for rank in (0, 1):
        said = (tmp_path / f"said-{rank}").read_text()
        assert "process 1 has another recipe, other pictures" in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--nodes", 2), "needs --coordinator HOST:PORT"),
        (("--nodes", 2, "--coordinator", "h:1"), "--node-rank 0 to 1"),
        (("--nodes", 2, "--coordinator", "h:1", "--node-rank", 2), "expected 0 to 1"),
        (("--coordinator", "h:1"), "need --nodes"),
        (("--node-rank", 0), "need --nodes"),
    ],
)
def test_half_a_meeting_is_a_mistake_of_usage(
    words: tuple[object, ...], message: str, pictures: Path, tmp_path: Path
) -> None:
    result = edgecls(*_words(pictures, tmp_path / "run", 1, *words))
    assert result.exit_code == 2
    assert message in result.output


def test_another_backend_is_refused(pictures: Path, tmp_path: Path) -> None:
    # This process has Keras on TensorFlow by now.
    import keras

    assert keras.backend.backend() == "tensorflow"
    result = edgecls(*_words(pictures, tmp_path / "run", 1, "--devices", "all"))
    assert result.exit_code == 1
    assert "unset it" in result.output


def test_a_batch_that_devices_cannot_share_is_refused(pictures: Path, tmp_path: Path) -> None:
    words = _words(pictures, tmp_path / "run", 1, "--devices", "all")
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    with _started([words], tmp_path, **flags) as (process,):
        assert process.wait(_JOINED_S) == 1
    assert "set it to 33" in (tmp_path / "said-0").read_text()


def test_shares_of_a_batch_are_all_of_it_once() -> None:
    import numpy as np

    batch = np.arange(12)
    shares = [Team(3, rank, 6).share(batch) for rank in range(3)]
    assert sorted(np.concatenate(shares).tolist()) == batch.tolist()
    assert {len(share) for share in shares} == {4}
    assert Team(3, 0, 6).whole(np.arange(17)).tolist() == list(range(12))
