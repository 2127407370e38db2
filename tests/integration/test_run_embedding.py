"""Every block of docs/embedding.md, run unchanged; and other uses of the library."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import (
    Artifact,
    Classifier,
    Frame,
    FrameRecord,
    Record,
    RunStatistics,
    open_camera,
    read_image,
    run,
)
from edge_sdk.errors import ConcurrentUseError
from edge_sdk.testing import FakeEngine
from edge_sdk.types import Tensor

_TEXT = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text("utf-8")
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_every_block_runs_in_the_order_of_the_page(
    int8_artifact: Path,
    digit_pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("PIL", reason="the extra [host] is not installed")
    shutil.copy(int8_artifact, tmp_path / "digits_int8.tflite")
    shutil.copy(next((digit_pictures / "7").glob("*.png")), tmp_path / "seven.png")
    shutil.copytree(digit_pictures, tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "embedding"}
    blocks = list(_BLOCK.finditer(_TEXT))
    assert len(blocks) >= 8
    for block in blocks:
        line = _TEXT[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block.group(1), "docs/embedding.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.startswith("7 0.")
    assert "10 frames, " in printed
    assert "('appeared', '7', 0.0)" in printed
    assert len((tmp_path / "answers.jsonl").read_text("utf-8").splitlines()) == 10


def _left_behind() -> tuple[int, set[str]]:
    return len(list(Path("/proc/self/fd").iterdir())), {t.name for t in threading.enumerate()}


class _Also:
    """Another model that looks at what the first one was shown."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.seen: list[tuple[int, str | None, str | None]] = []

    def write(self, record: Record) -> None: ...

    def see(self, frame: Frame, record: FrameRecord) -> None:
        self.seen.append((record.frame, record.label, self.classifier.classify(frame).label))

    def close(self) -> None: ...


def test_several_classifiers_see_the_same_frames_of_one_camera(
    int8_artifact: Path, float16_artifact: Path, digit_pictures: Path
) -> None:
    def watch() -> tuple[RunStatistics, _Also, _Also]:
        with (
            Classifier.open(int8_artifact) as one,
            Classifier.open(int8_artifact) as two,
            Classifier.open(float16_artifact) as three,
            open_camera(f"fake:{digit_pictures}?fps=50") as camera,
        ):
            same, other = _Also(two), _Also(three)
            return run(camera, one, [same, other], limit=30), same, other

    watch()  # what is loaded once
    before = _left_behind()
    done, same, other = watch()
    assert _left_behind() == before
    assert done.frames == 30
    assert [n for n, _, _ in same.seen] == [n for n, _, _ in other.seen]
    assert [n for n, _, _ in same.seen] == sorted({n for n, _, _ in same.seen})
    assert all(a == b for _, a, b in same.seen)
    assert len({label for _, label, _ in same.seen}) > 3
    # Two formats of one model agree on nearly all of their own pictures.
    assert sum(a == b for _, a, b in other.seen) >= 25


def test_asyncio_goes_on_while_a_camera_is_watched(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    async def watch() -> tuple[int, int]:
        loop, stop = asyncio.get_running_loop(), threading.Event()
        answers: asyncio.Queue[Record] = asyncio.Queue()
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.005)
                beats += 1

        class Hand:
            def write(self, record: Record) -> None:
                loop.call_soon_threadsafe(answers.put_nowait, record)

            def close(self) -> None: ...

        with (
            Classifier.open(int8_artifact) as classifier,
            open_camera(f"fake:{digit_pictures}?fps=50") as camera,
        ):
            heart = asyncio.create_task(beat())
            work = asyncio.create_task(
                asyncio.to_thread(run, camera, classifier, [Hand()], stop=stop)
            )
            for _ in range(20):
                assert isinstance(await answers.get(), FrameRecord)
            stop.set()
            done = await work
            heart.cancel()
        return done.frames, beats

    frames, beats = asyncio.run(watch())
    assert frames >= 20
    assert beats >= 20  # 80 on a machine that has nothing else to do


def test_one_classifier_in_two_threads_says_so_and_two_do_not_disturb_each_other(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    picture = read_image(next((digit_pictures / "7").glob("*.png")))
    inside, go_on = threading.Event(), threading.Event()

    def infer(_: Tensor) -> Tensor:
        inside.set()
        assert go_on.wait(20)
        return np.full((1, 10), 0.1, np.float32)

    with Classifier(Artifact.open(int8_artifact), FakeEngine(infer)) as shared:
        other = threading.Thread(target=shared.classify, args=(picture,))
        other.start()
        assert inside.wait(20)
        with pytest.raises(ConcurrentUseError):
            shared.classify(picture)
        go_on.set()
        other.join()
    labels: list[str | None] = []

    def work() -> None:
        with Classifier.open(int8_artifact) as own:
            labels.extend(own.classify(picture).label for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert labels == ["7"] * 200


@pytest.mark.parametrize("what", ["source", "sink"])
def test_a_source_or_a_sink_of_ones_own_takes_about_ten_lines(what: str) -> None:
    block = _BLOCK.findall(_TEXT.split(f"## A {what} of your own")[1])[0]
    body = block.split("\n\n\n")[0]
    lines = [line for line in body.splitlines() if line.strip() and '"""' not in line]
    assert len(lines) <= 10


def test_the_doorman_says_what_appeared_and_ends_upon_sigterm(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    main = Path(__file__).parents[2] / "firmware_examples" / "camera_events" / "main.py"
    process = subprocess.Popen(
        [sys.executable, main, int8_artifact, f"fake:{digit_pictures / '7'}?fps=30"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(main.parents[2])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "7 appeared\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
