"""Replacing the model of a running loop: real files, real engines, a clock of our own."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import artifact
from edge_sdk.artifact import Artifact, container
from edge_sdk.classifier import Classifier
from edge_sdk.errors import ArtifactNotFoundError, CorruptArtifactError, SelfTestError
from edge_sdk.hotswap import ReloadingClassifier
from edge_sdk.last_good import LastGood
from edge_sdk.loop.run import run
from edge_sdk.testing import FakeEngine, FakeSource, MemorySink
from edge_sdk.types import Frame, FrameRecord, Health, HealthRecord

_PIXELS = np.zeros((32, 32, 3), np.uint8)


class _Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class _Watched:
    """A classifier at a path, and a clock that advances only on request."""

    def __init__(
        self, path: Path, open_model: Callable[[Path], Classifier] = Classifier.open
    ) -> None:
        self.clock = _Clock()
        self.classifier = ReloadingClassifier(path, open_model, clock=self.clock)

    @property
    def sha256(self) -> str:
        return self.classifier.artifact.sha256

    def frames(self, count: int = 1) -> list[str]:
        """So many frames a second apart; the health words reported meanwhile."""
        words = []
        for _ in range(count):
            self.clock.now_s += 1.01
            self.classifier.classify(_PIXELS)
            words += [health.what for health in self.classifier.take_health()]
        return words

    def until_told(self) -> list[str]:
        deadline_s = time.monotonic() + 30
        while not (words := self.frames()):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        return words


@pytest.fixture
def model(tmp_path: Path, int8_artifact: Path) -> Path:
    return Path(shutil.copy(int8_artifact, tmp_path / "model.tflite"))


def _replace(model: Path, content: bytes) -> None:
    beside = model.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(model)


def test_a_renamed_model_takes_over(model: Path, float16_artifact: Path) -> None:
    watched = _Watched(model)
    with watched.classifier:
        before = watched.sha256
        assert watched.frames(3) == []
        _replace(model, float16_artifact.read_bytes())
        assert watched.until_told() == ["model swapped"]
        assert watched.sha256 != before
        assert watched.classifier.artifact.format == "float16"
        assert watched.frames(3) == []


@pytest.mark.parametrize(
    "garbage",
    [b"", b"garbage", "cut", "other zip"],
    ids=["empty", "no-model", "cut", "damaged-inside"],
)
def test_garbage_is_refused_once_and_the_old_model_goes_on(
    garbage: bytes | str, model: Path, int8_artifact: Path, float16_artifact: Path
) -> None:
    good = int8_artifact.read_bytes()
    if garbage == "cut":
        garbage = good[: len(good) // 2]
    elif garbage == "other zip":
        garbage = good[:40_000] + bytes(1000) + good[41_000:]
    assert isinstance(garbage, bytes)
    watched = _Watched(model)
    with watched.classifier:
        before = watched.sha256
        _replace(model, garbage)
        assert watched.until_told() == ["model refused"]
        assert watched.frames(10) == []
        assert watched.sha256 == before
        _replace(model, float16_artifact.read_bytes())  # and a good one is still taken
        assert watched.until_told() == ["model swapped"]


def test_a_bad_candidate_is_read_by_a_child_and_never_by_the_process_of_the_loop(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    parse = container.parse_container

    def counted(data: bytes, path: Path) -> container.Container:
        read.append(data)
        return parse(data, path)

    for module in (container, artifact):
        monkeypatch.setattr(module, "parse_container", counted)
    good = model.read_bytes()
    watched = _Watched(model)
    with watched.classifier:
        assert read == [good]
        _replace(model, good[:40_000])
        assert watched.until_told() == ["model refused"]
        assert read == [good]


def test_a_model_that_fails_its_self_test_is_refused_by_name(model: Path) -> None:
    def open_model(path: Path) -> Classifier:
        if opened:
            raise SelfTestError(f"{path}: answers its golden self-test differently")
        opened.append(path)
        return Classifier.open(path)

    opened: list[Path] = []
    watched = _Watched(model, open_model)
    with watched.classifier:
        watched.classifier.reload()
        watched.classifier.classify(_PIXELS)
        reported: list[Health] = []
        deadline_s = time.monotonic() + 30
        while not reported and time.monotonic() < deadline_s:
            reported += watched.classifier.take_health()
        (health,) = reported
        assert health.what == "model refused"
        assert "golden self-test" in health.detail


def test_a_model_that_answers_with_nan_is_refused(model: Path) -> None:
    opened: list[Classifier] = []

    def open_model(path: Path) -> Classifier:
        if not opened:
            opened.append(Classifier.open(path))
        else:
            nothing = FakeEngine(lambda _: np.full((1, 10), np.nan, np.float32))
            opened.append(Classifier(Artifact.open(path), nothing))
        return opened[-1]

    watched = _Watched(model, open_model)
    watched.classifier.reload()
    assert watched.until_told() == ["model refused"]
    assert opened[1]._engine.closed  # type: ignore[attr-defined]  # a FakeEngine
    watched.classifier.close()


def test_a_file_that_is_being_written_is_left_alone_until_it_stands_still(
    model: Path, float16_artifact: Path
) -> None:
    watched, content = _Watched(model), float16_artifact.read_bytes()
    with watched.classifier:
        for end in range(10_000, len(content), 20_000):
            model.write_bytes(content[:end])
            assert watched.frames() == []
        model.write_bytes(content)
        assert watched.until_told() == ["model swapped"]


def test_a_model_written_in_place_does_not_hurt_the_one_that_runs(model: Path) -> None:
    watched = _Watched(model)
    with watched.classifier:
        expected = watched.classifier.classify(_PIXELS).scores
        model.write_bytes(b"")
        np.testing.assert_array_equal(watched.classifier.classify(_PIXELS).scores, expected)


def test_a_model_that_is_gone_is_no_news_and_comes_back(
    model: Path, float16_artifact: Path
) -> None:
    watched = _Watched(model)
    with watched.classifier:
        model.unlink()
        assert watched.frames(5) == []
        _replace(model, float16_artifact.read_bytes())
        assert watched.until_told() == ["model swapped"]


def test_frames_are_classified_while_a_model_opens(model: Path, float16_artifact: Path) -> None:
    gate = threading.Event()

    def open_model(path: Path) -> Classifier:
        if opened:
            assert gate.wait(30)
        opened.append(path)
        return Classifier.open(path)

    opened: list[Path] = []
    watched = _Watched(model, open_model)
    with watched.classifier:
        before = watched.sha256
        _replace(model, float16_artifact.read_bytes())
        assert watched.frames(20) == []
        assert watched.sha256 == before
        gate.set()
        assert watched.until_told() == ["model swapped"]


def test_a_reload_that_was_asked_for_needs_no_change(model: Path) -> None:
    watched = _Watched(model)
    with watched.classifier:
        watched.classifier.reload()
        assert watched.until_told() == ["model swapped"]
        model.unlink()
        watched.classifier.reload()
        assert watched.until_told() == ["model refused"]


def test_closing_while_a_model_opens_closes_that_one_too(
    model: Path, float16_artifact: Path
) -> None:
    gate, opened = threading.Event(), []

    def open_model(path: Path) -> Classifier:
        if opened:
            assert gate.wait(30)
        opened.append(Classifier.open(path))
        return opened[-1]

    watched = _Watched(model, open_model)
    watched.classifier.reload()
    watched.frames()
    threading.Timer(0.1, gate.set).start()
    watched.classifier.close()
    watched.classifier.close()
    deadline_s = time.monotonic() + 30
    while len(opened) < 2 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(0.05)
    for classifier in opened:
        with pytest.raises(Exception, match="closed"):
            classifier.classify(_PIXELS)


def test_the_first_model_must_be_good(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError):
        ReloadingClassifier(tmp_path / "no.tflite")
    (tmp_path / "bad.tflite").write_bytes(b"bad")
    with pytest.raises(CorruptArtifactError):
        ReloadingClassifier(tmp_path / "bad.tflite")


def test_in_a_run_the_swap_is_a_record_between_two_frames(
    model: Path, float16_artifact: Path
) -> None:
    sink = MemorySink()

    def frames() -> list[Frame | Exception]:
        return [Frame(_PIXELS, index=i) for i in range(400)]

    class Slow(FakeSource):
        def read(self) -> Frame | None:
            time.sleep(0.002)
            return super().read()

    with ReloadingClassifier(model, interval_s=0.05) as classifier:
        _replace(model, float16_artifact.read_bytes())
        run(Slow(frames()), classifier, [sink])
    reported = [record for record in sink.records if isinstance(record, HealthRecord)]
    assert [health.what for health in reported] == ["model swapped"]
    indices = [record.frame for record in sink.records if isinstance(record, FrameRecord)]
    assert indices == list(range(400))


def test_a_model_whose_labels_will_not_do_is_refused(model: Path) -> None:
    clock = _Clock()

    def fits(labels: tuple[str, ...]) -> None:
        raise ValueError(f"the model has no label 'cat' among {len(labels)}")

    with ReloadingClassifier(model, fits=fits, clock=clock) as classifier:
        before = classifier.artifact
        classifier.reload()
        reported: list[Health] = []
        deadline_s = time.monotonic() + 30
        while not reported and time.monotonic() < deadline_s:
            reported += classifier.take_health()
            time.sleep(0.01)
        assert [health.what for health in reported] == ["model refused"]
        assert "no label 'cat'" in reported[0].detail
        assert classifier.artifact is before
        classifier.classify(_PIXELS)


# What a start does about a bad model.


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> LastGood:
    return LastGood(model, tmp_path / "last-good")


def _start(model: Path, copy: LastGood, **options: Any) -> tuple[str, list[str]]:
    """The digest of the model that answers, and the words of health."""
    with ReloadingClassifier(model, last_good=copy, **options) as classifier:
        classifier.classify(_PIXELS)
        reported = [health.what for health in classifier.take_health()]
        return classifier.artifact.sha256, reported


def test_a_start_with_a_bad_model_uses_the_last_good_copy(model: Path, copy: LastGood) -> None:
    good, reported = _start(model, copy)
    assert reported == []
    for garbage in (b"", b"garbage", model.read_bytes()[:40_000]):
        _replace(model, garbage)
        assert _start(model, copy) == (good, ["last good model"])


def test_a_model_that_took_over_is_the_last_good_one(
    model: Path, float16_artifact: Path, copy: LastGood
) -> None:
    clock = _Clock()
    with ReloadingClassifier(model, last_good=copy, clock=clock) as classifier:
        for content, word in (
            (float16_artifact.read_bytes(), "model swapped"),
            (b"garbage", "model refused"),
        ):
            _replace(model, content)
            reported: list[str] = []
            deadline_s = time.monotonic() + 30
            while not reported:
                assert time.monotonic() < deadline_s
                clock.now_s += 1.01
                reported = [health.what for health in classifier.take_health()]
            assert reported == [word]
        swapped = classifier.artifact.sha256
    assert _start(model, copy) == (swapped, ["last good model"])


def test_a_first_model_whose_labels_do_not_fit_is_replaced_by_the_last_good_one(
    model: Path, copy: LastGood
) -> None:
    good, _ = _start(model, copy)

    def fits(labels: tuple[str, ...]) -> None:
        if refused:
            refused.pop()
            raise ValueError("no label 'x'")

    refused = [None]  # the first that is asked about: the file's
    assert _start(model, copy, fits=fits) == (good, ["last good model"])


def test_where_no_model_fits_the_first_is_open_for_whoever_says_so(
    model: Path, copy: LastGood
) -> None:
    good, _ = _start(model, copy)

    def fits(_: tuple[str, ...]) -> None:
        raise ValueError("no label 'x'")

    assert _start(model, copy, fits=fits) == (good, [])


def test_without_a_good_copy_the_first_error_stands(model: Path, copy: LastGood) -> None:
    _replace(model, b"garbage")
    with pytest.raises(CorruptArtifactError, match=r"model\.tflite"):
        ReloadingClassifier(model, last_good=copy)


def test_a_missing_file_is_no_bad_model(model: Path, copy: LastGood) -> None:
    _start(model, copy)
    model.unlink()
    with pytest.raises(ArtifactNotFoundError):
        ReloadingClassifier(model, last_good=copy)


def test_a_model_that_answers_with_nan_is_replaced_by_the_last_good_one(
    model: Path, int8_artifact: Path, copy: LastGood
) -> None:
    """Such a one opens, and is refused while running."""
    good, _ = _start(model, copy)

    def open_model(path: Path) -> Classifier:
        classifier = Classifier.open(path)
        if path != model:
            return classifier
        answer = np.full((1, 10), np.nan, np.float32)
        third_party = replace(classifier.artifact, manifest=None)
        classifier.close()
        return Classifier(third_party, FakeEngine(lambda _: answer))

    assert _start(model, copy, open_model=open_model) == (good, ["last good model"])


def test_a_copy_that_cannot_be_kept_is_told(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    copy = LastGood(model, tmp_path / "file" / "last-good")
    with ReloadingClassifier(model, last_good=copy) as classifier:
        reported: list[str] = []
        deadline_s = time.monotonic() + 30
        while not reported:
            assert time.monotonic() < deadline_s
            reported = [health.what for health in classifier.take_health()]
        assert reported == ["model not kept"]
        classifier.classify(_PIXELS)
