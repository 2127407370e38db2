"""Measuring for real, with little time: what is in a result, what is left out, and why."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import Classifier, Frame
from edge_sdk.artifact.tflite import summarize
from edge_sdk.bench.costs import measure_age, profile_operators, slowdown_percent
from edge_sdk.bench.measure import measure
from edge_sdk.bench.plan import (
    BenchPlan,
    Camera,
    OpeningOptions,
    as_frame,
    made_up,
    pictures_of_folder,
)
from edge_sdk.bench.results import Window, parse_benchmark
from edge_sdk.bench.timing import (
    BLOCKS_LEAST,
    BLOCKS_MOST,
    LatencyTimer,
    thread_counts,
    time_interleaved,
)
from edge_sdk.engines.operators import slice_operators
from edge_sdk.errors import (
    DelegateError,
    EdgeClsError,
    EngineError,
    SourceLostError,
    SourceNotFoundError,
    UnreadableImageError,
)
from edge_sdk.machine.board import System
from edge_sdk.machine.power import open_energy
from edge_sdk.sources.fake import FakeCamera
from edge_sdk.testing import FakeSource

# Whatever the machine's load: 20 turns of as many runs as a block may have.
_ALL_TURNS = {"seconds": 20.0, "precision_percent": 1e9}


def _quick(*models: Path, **more: object) -> BenchPlan:
    """A plan that takes a second."""
    openings = tuple(OpeningOptions(path) for path in models)
    plan = BenchPlan(openings, seconds=0.1, precision_percent=50.0, cold_starts=0, operators=False)
    return replace(plan, **more)  # type: ignore[arg-type]


def _board(root: Path, throttled: str | None = None) -> System:
    """A machine of files, whose firmware says so."""

    def output(command: Sequence[str]) -> str | None:
        return f"throttled={throttled}" if throttled and command[-1] == "get_throttled" else None

    root.mkdir(exist_ok=True)
    return System(root, output)


@pytest.fixture
def board(tmp_path: Path) -> System:
    """A machine that has nothing to say."""
    return _board(tmp_path / "board")


def test_everything_is_measured(int8_artifact: Path, board: System) -> None:
    plan = _quick(int8_artifact, cold_starts=1, cores=2, operators=True, sustained_s=0.1)
    told: list[str] = []
    done = measure(plan, system=board, note=told.append)
    assert done.errors == ()
    benchmark = done.benchmark
    (model,) = benchmark.models
    assert benchmark.complete
    assert benchmark.valid
    assert model.latency is not None
    assert len(model.samples) > 0
    assert min(model.samples.inference_ms) > 0
    assert list(model.samples.at_s) == sorted(model.samples.at_s)
    assert model.pictures.origin == "self-test"
    assert model.warmup > 0
    assert model.load_ms > 0
    assert model.first_ms > 0
    assert model.cold_start_ms is not None
    assert model.cold_start_ms > model.load_ms
    assert model.peak_rss_mb is not None
    assert 20 < model.peak_rss_mb < 500
    assert model.xnnpack is True
    assert model.runtime.startswith("ai-edge-litert ")
    assert [point.threads for point in model.scaling] == [1, 2]
    assert model.operators is not None
    assert {o.operator for o in model.operators.operators} >= {"CONV_2D", "SOFTMAX"}
    assert sum(o.share for o in model.operators.operators) == pytest.approx(1)
    assert model.sustained is not None
    assert model.energy is None
    assert any("has no energy counter" in note for note in model.notes)
    assert any("cold start" in text for text in told)
    again = parse_benchmark(json.loads(json.dumps(benchmark.to_json())), "x")
    assert again.models[0].operators is not None


def test_models_take_turns(int8_artifact: Path, float16_artifact: Path, board: System) -> None:
    plan = _quick(int8_artifact, float16_artifact, **_ALL_TURNS)
    first, second = measure(plan, system=board).benchmark.models
    assert [first.name, second.name] == ["digits_int8", "digits_float16"]
    assert set(first.samples.block) == set(second.samples.block)
    assert len(set(first.samples.block)) >= BLOCKS_LEAST
    began = [dict(zip(m.samples.block, m.samples.at_s, strict=True)) for m in (first, second)]
    leads = [began[0][block] < began[1][block] for block in began[0]]
    assert any(leads)
    assert not all(leads)
    order = sorted((at, block) for one in began for block, at in one.items())
    assert [block for _, block in order] == sorted(block for _, block in order)


class _Told:
    """A timer that only says when its turn is."""

    spent_s = 0.0

    def __init__(self, name: str, seen: list[str]) -> None:
        self._name, self._seen = name, seen

    def warm_up(self, longest_s: float) -> None:
        self._seen.append(f"warm {self._name} {longest_s:g}")

    def block(self, number: int, seconds: float, origin_ns: int) -> None:
        assert origin_ns > 0
        assert seconds == 0.25
        self._seen.append(f"{number}{self._name}")

    def half_width_percent(self) -> float:
        return 1.0


def _order(seed: int, precision: float = 1.0) -> list[str]:
    seen: list[str] = []
    timers: list[Any] = [_Told(name, seen) for name in "abc"]
    time_interleaved(
        timers, seconds=20, precision_percent=precision, seed=seed, failed=lambda *_: None
    )
    assert seen[:3] == ["warm a 5", "warm b 5", "warm c 5"]
    return seen[3:]


def test_the_order_of_turns_comes_from_the_seed() -> None:
    assert _order(1) == _order(1) != _order(2)
    assert len(_order(1)) == 3 * BLOCKS_LEAST
    turns = [_order(1)[i : i + 3] for i in range(0, 3 * BLOCKS_LEAST, 3)]
    assert [sorted(turn) for turn in turns] == [
        [f"{n}a", f"{n}b", f"{n}c"] for n in range(BLOCKS_LEAST)
    ]
    assert len({turn[0][-1] for turn in turns}) == 3


def test_turns_end_where_a_median_stays_unknown() -> None:
    assert len(_order(1, precision=0.5)) == 3 * BLOCKS_MOST


def test_backends_and_threads_are_entries_of_their_own(int8_artifact: Path, board: System) -> None:
    openings = tuple(
        OpeningOptions(int8_artifact, backend, threads)
        for backend in ("litert", "litert-noxnnpack")
        for threads in (1, 2)
    )
    done = measure(replace(_quick(), openings=openings, cores=2), system=board).benchmark
    assert [(m.backend, m.threads, m.xnnpack) for m in done.models] == [
        ("litert", 1, True),
        ("litert", 2, True),
        ("litert-noxnnpack", 1, False),
        ("litert-noxnnpack", 2, False),
    ]
    for model in done.models:
        assert [point.threads for point in model.scaling] == [1, 2]


def test_an_onnx_model_is_measured_too(onnx_artifact: Path, board: System) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    (model,) = measure(_quick(onnx_artifact, operators=True), system=board).benchmark.models
    assert model.runtime.startswith("onnxruntime ")
    assert model.operators is None
    assert any("single operators" in note for note in model.notes)


def test_one_bad_model_does_not_spoil_the_others(
    int8_artifact: Path, tmp_path: Path, board: System
) -> None:
    damaged, missing = tmp_path / "damaged.tflite", tmp_path / "missing.tflite"
    damaged.write_bytes(int8_artifact.read_bytes()[:5000])
    done = measure(_quick(damaged, int8_artifact, missing), system=board)
    assert [m.name for m in done.benchmark.models] == ["digits_int8"]
    assert [f.kind for f in done.benchmark.failed] == [
        "CorruptArtifactError",
        "ArtifactNotFoundError",
    ]
    assert [type(e).__name__ for e in done.errors] == [f.kind for f in done.benchmark.failed]


def test_a_model_for_a_delegate_that_is_missing(public_data: Path, board: System) -> None:
    compiled = public_data / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    for backend in ("cpu", "edgetpu"):
        plan = replace(_quick(), openings=(OpeningOptions(compiled, backend),))
        done = measure(plan, system=board)
        assert isinstance(done.errors[0], DelegateError)
        assert done.benchmark.models == ()


def test_a_model_that_fails_midway_leaves_the_others(
    int8_artifact: Path, float16_artifact: Path, board: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = LatencyTimer._timed

    def fails(self: LatencyTimer, runs: int, number: int) -> None:
        if number == 3 and self.classifier.artifact.path == float16_artifact:
            raise EngineError("the delegate has gone")
        timed(self, runs, number)

    monkeypatch.setattr(LatencyTimer, "_timed", fails)
    done = measure(_quick(int8_artifact, float16_artifact, **_ALL_TURNS), system=board)
    assert [m.name for m in done.benchmark.models] == ["digits_int8"]
    assert done.benchmark.failed[0].error == "the delegate has gone"


@pytest.mark.parametrize(
    ("executable", "said"),
    [
        ("/bin/false", "a fresh process could not classify with it (no output)"),
        ("/bin/echo", "expected its figures"),  # what a library prints at the end
    ],
)
def test_what_else_fails_is_only_left_out(
    executable: str,
    said: str,
    int8_artifact: Path,
    board: System,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fresh processes that find no package, and threads that the engine does not take."""
    opened = OpeningOptions.open

    def one_thread_only(self: OpeningOptions) -> Classifier:
        if self.threads > 1:
            raise EngineError("one thread only")
        return opened(self)

    monkeypatch.setattr(OpeningOptions, "open", one_thread_only)
    monkeypatch.setattr(sys, "executable", executable)
    done = measure(_quick(int8_artifact, cold_starts=2, cores=2), system=board)
    (model,) = done.benchmark.models
    assert done.errors == ()
    assert model.latency is not None
    assert model.cold_start_ms is None
    assert model.scaling == ()
    cold, threads = (n for n in model.notes if "was not measured" in n)
    assert said in cold
    assert threads == "throughput over threads was not measured: one thread only"


def test_foreign_models_need_no_labels(public_data: Path, board: System) -> None:
    foreign = public_data / "models" / "mobilenet_v1_0.25_128_quant.tflite"
    (model,) = measure(_quick(foreign, cold_starts=1), system=board).benchmark.models
    assert model.pictures.origin == "made-up"
    assert any("synthetic pictures" in note for note in model.notes)
    assert model.cold_start_ms is not None


@pytest.mark.parametrize(
    ("bits", "reason"), [("0x4", "throttled"), ("0x1", "under-voltage"), ("0x8", "too hot")]
)
def test_a_flag_of_the_firmware_invalidates(
    int8_artifact: Path, tmp_path: Path, bits: str, reason: str
) -> None:
    done = measure(_quick(int8_artifact), system=_board(tmp_path / "pi", bits)).benchmark
    assert not done.valid
    assert reason in done.invalid_reasons[0]
    assert not done.models[0].valid
    assert done.models[0].invalid_reasons == done.invalid_reasons


def test_what_happened_before_does_not_invalidate(int8_artifact: Path, tmp_path: Path) -> None:
    done = measure(_quick(int8_artifact), system=_board(tmp_path / "pi", "0x40000")).benchmark
    assert done.valid
    assert any("since boot" in note for note in done.models[0].notes)


@pytest.mark.parametrize("where", ["opening", "cold start", "timing", "threads", "operators"])
def test_ctrl_c_leaves_what_there_is(int8_artifact: Path, board: System, where: str) -> None:
    def tell(text: str) -> None:
        if where in text:
            raise KeyboardInterrupt

    plan = _quick(int8_artifact, cold_starts=1, cores=2, operators=True)
    done = measure(plan, system=board, note=tell).benchmark
    assert not done.complete
    assert len(done.models) == (0 if where == "opening" else 1)
    for model in done.models:
        assert not model.complete
        assert (len(model.samples) > 0) == (where in ("threads", "operators"))
    assert parse_benchmark(json.loads(json.dumps(done.to_json())), "x") is not None


def test_ctrl_c_within_a_block_keeps_the_blocks_before(
    int8_artifact: Path, board: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = LatencyTimer._timed

    def interrupted(self: LatencyTimer, runs: int, number: int) -> None:
        if number == 5:
            raise KeyboardInterrupt
        timed(self, runs, number)

    monkeypatch.setattr(LatencyTimer, "_timed", interrupted)
    (model,) = measure(_quick(int8_artifact, **_ALL_TURNS), system=board).benchmark.models
    assert set(model.samples.block) == {0, 1, 2, 3, 4}
    assert not model.complete


def test_pictures_of_a_folder(
    digit_pictures: Path, tmp_path: Path, int8_artifact: Path, board: System
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    one = sorted(digit_pictures.rglob("*.png"))[0]
    (tmp_path / one.name).write_bytes(one.read_bytes())
    chosen = pictures_of_folder(tmp_path, 0)
    assert chosen.described.origin == "data"
    assert chosen.described.n == 1
    assert len(chosen.unreadable) == 1
    plan = _quick(int8_artifact, data=tmp_path, cold_starts=1)
    (model,) = measure(plan, system=board).benchmark.models
    assert model.pictures.place == str(tmp_path)
    assert any("omitted" in note for note in model.notes)


def test_zero_pictures(tmp_path: Path, int8_artifact: Path, board: System) -> None:
    with pytest.raises(SourceNotFoundError, match="no pictures found there"):
        measure(_quick(int8_artifact, data=tmp_path), system=board)
    with pytest.raises(SourceNotFoundError, match="no such file or folder"):
        measure(_quick(int8_artifact, data=tmp_path / "none"), system=board)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(SourceNotFoundError, match="none of its 1 pictures can be read"):
        measure(_quick(int8_artifact, data=tmp_path), system=board)


def test_gray_models_get_gray_frames() -> None:
    frame = as_frame(made_up(8, 6, 1)[0])
    assert frame.format == "gray"
    assert frame.pixels.shape == (8, 6)


class _Queue:
    """A camera whose driver keeps frames: what is read was seen so many frames ago."""

    def __init__(self, source: FakeCamera, frames: int) -> None:
        self._source = source
        self._waiting: deque[Frame | None] = deque()
        self._frames = frames
        self.dropped = 0

    def take_health(self) -> Sequence[object]:
        return ()

    def read(self) -> Frame | None:
        while len(self._waiting) <= self._frames:
            frame = self._source.read()
            self._waiting.append(
                None if frame is None else replace(frame, pixels=frame.pixels.copy())
            )
            self.dropped += 2
        return self._waiting.popleft()

    def close(self) -> None:
        self._source.close()


def test_a_camera_with_a_queue_of_100_ms_shows(
    digit_pictures: Path, int8_artifact: Path, board: System
) -> None:
    camera = Camera("queue", lambda _: _Queue(FakeCamera(digit_pictures, "fps=50"), 6))
    (model,) = measure(
        _quick(int8_artifact, camera=camera, seconds=0.3), system=board
    ).benchmark.models
    assert model.pictures.origin == "camera"
    assert model.age is not None
    assert model.age.age is not None
    assert min(model.age.age_ms) >= 100
    assert model.age.frames == len(model.age.age_ms) == len(model.age.capture_ms)
    assert model.age.dropped == 2 * model.age.frames
    content = model.to_json()
    assert content["age_ms"]["p50"] >= 100
    assert content["age"]["duplicates"] == 0


def test_duplicates_and_broken_frames_are_counted(int8_artifact: Path) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    other = np.full_like(pixels, 9)
    settle = [Frame(pixels, timestamp_ns=n) for n in range(1, 6)]
    script: list[Frame | Exception] = [
        *settle,
        Frame(pixels, timestamp_ns=5),
        Frame(pixels, timestamp_ns=6),
        UnreadableImageError("camera", "torn"),
        Frame(pixels, timestamp_ns=6),
        Frame(other),
        Frame(other.copy()),
        Frame(pixels),
    ]
    with Classifier.open(int8_artifact) as classifier:
        age = measure_age(FakeSource(script), classifier, camera="fake", seconds=60)
        silent = measure_age(FakeSource([Frame(pixels)] * 7), classifier, camera="fake", seconds=60)
    assert (age.frames, age.duplicates, age.unreadable) == (6, 3, 1)
    assert len(age.age_ms) == 3
    assert silent.frames == 2
    assert silent.age is None
    assert "no timestamps" in silent.note


def test_a_camera_that_is_lost_leaves_the_timings(int8_artifact: Path, board: System) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    openings: list[int] = []

    def opened(_: tuple[int, int]) -> FakeSource:
        openings.append(1)
        if len(openings) == 1:
            return FakeSource([Frame(pixels)])
        return FakeSource([Frame(pixels), SourceLostError("the camera is gone")])

    done = measure(_quick(int8_artifact, camera=Camera("fake", opened)), system=board)
    (model,) = done.benchmark.models
    assert model.latency is not None
    assert model.age is None
    assert isinstance(done.errors[0], SourceLostError)
    assert any("the camera failed" in note for note in model.notes)


def test_a_camera_and_a_bad_first_model(int8_artifact: Path, board: System) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    camera = Camera("fake", lambda _: FakeSource([Frame(pixels)] * 9))
    done = measure(_quick(Path("none.tflite"), int8_artifact, camera=camera), system=board)
    assert [f.kind for f in done.benchmark.failed] == ["ArtifactNotFoundError"]
    assert done.benchmark.models[0].age is not None
    done = measure(_quick(Path("none.tflite"), camera=camera), system=board)
    assert done.benchmark.models == ()


def test_a_camera_without_a_picture(int8_artifact: Path, board: System) -> None:
    with pytest.raises(SourceNotFoundError, match="gave no picture"):
        measure(
            _quick(int8_artifact, camera=Camera("fake", lambda _: FakeSource([]))), system=board
        )


def test_operators_are_cut_out_in_order(int8_artifact: Path) -> None:
    data = int8_artifact.read_bytes()
    slices = list(slice_operators(data))
    assert [one.index for one in slices] == list(range(len(slices)))
    with Classifier.open(int8_artifact) as classifier:
        counts = classifier.artifact.operators
    assert {name: [s.operator for s in slices].count(name) for name in counts} == counts
    profile = profile_operators(
        data, np.zeros((1, 32, 32, 3), np.uint8), backend="litert", threads=1, seconds=0.01
    )
    assert len(profile.operators) == len(slices)
    assert profile.note == ""
    assert profile.sum_ms == pytest.approx(sum(o.ms for o in profile.operators))


def test_weights_in_float16_stay_constant_in_the_slices(float16_artifact: Path) -> None:
    """Each is turned into float32 when the model is loaded, not once per picture."""
    data = float16_artifact.read_bytes()
    with Classifier.open(float16_artifact) as classifier:
        assert classifier.artifact.operators["DEQUANTIZE"] > 5
    slices = list(slice_operators(data))
    assert "DEQUANTIZE" not in {one.operator for one in slices}
    for one in slices:
        summary = summarize(one.model, one.operator)
        assert len(summary.inputs) == 1 + (one.operator == "ADD")
        assert (summary.operators.get("DEQUANTIZE", 0) > 0) == (
            one.operator in ("CONV_2D", "FULLY_CONNECTED")
        )
    profile = profile_operators(
        data, np.zeros((1, 32, 32, 3), np.float32), backend="litert", threads=1, seconds=0.01
    )
    assert profile.note == ""
    assert len(profile.operators) == len(slices)


def test_a_runtime_without_tools_only_leaves_operators_out(
    int8_artifact: Path, board: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.tools.flatbuffer_utils", None)
    plan = _quick(int8_artifact, operators=True)
    (model,) = measure(plan, system=board).benchmark.models
    assert model.operators is None
    assert any("were not timed" in note for note in model.notes)


def test_energy_is_what_the_counter_says_above_rest(int8_artifact: Path, tmp_path: Path) -> None:
    """A processor of 5 W at rest, whose counter starts over."""
    zone = tmp_path / "pi" / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("1000\n")
    (zone / "energy_uj").write_text("990\n")
    counter, why = open_energy(System(tmp_path / "pi", lambda _: None))
    assert counter is not None
    assert why == ""
    assert counter.name == "intel-rapl:0 package-0"
    (zone / "energy_uj").write_text("40\n")
    assert counter.joules() == pytest.approx(50e-6)
    (zone / "energy_uj").unlink()
    with pytest.raises(OSError, match="energy_uj"):
        counter.joules()
    counter, why = open_energy(System(tmp_path / "pi", lambda _: None))
    assert counter is None
    assert "may not read" in why


def test_energy_is_in_the_result_where_it_is_counted(int8_artifact: Path, tmp_path: Path) -> None:
    zone = tmp_path / "pi" / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("1000000\n")
    (zone / "energy_uj").write_text("0\n")
    plan = _quick(int8_artifact)
    (model,) = measure(plan, system=System(tmp_path / "pi", lambda _: None)).benchmark.models
    assert model.energy is not None
    assert model.energy.runs > 0
    assert model.energy.joules_per_run == model.energy.busy_watts == 0.0


def test_slowdown_compares_the_quarters() -> None:
    windows = [Window(float(i), 10, ms, 1.0, None, None) for i, ms in enumerate([4] * 6 + [5] * 2)]
    assert slowdown_percent(windows) == pytest.approx(25)
    assert slowdown_percent(windows[:1]) == 0


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, (1,)), (3, (1, 2, 3)), (6, (1, 2, 3, 4, 6)), (8, (1, 2, 3, 4, 8))]
)
def test_thread_counts(cores: int, counts: tuple[int, ...]) -> None:
    assert thread_counts(cores) == counts


def test_a_lane_makes_room_for_more_runs_than_it_expected(int8_artifact: Path) -> None:
    classifier = Classifier.open(int8_artifact)
    timer = LatencyTimer(classifier, [as_frame(made_up(32, 32, 3)[0])])
    timer.warm_up(0.01)
    origin = time.perf_counter_ns()
    for number in range(8):
        timer.typical_ms = 1e-3
        timer.block(number, 10.0, origin)
    timer.close()
    timed = timer.samples()
    assert len(timed) == timer.runs == 8 * 200
    assert sorted(set(timed.block)) == list(range(8))
    assert min(timed.inference_ms) > 0


def test_errors_are_ours(int8_artifact: Path, board: System) -> None:
    done = measure(
        replace(_quick(), openings=(OpeningOptions(int8_artifact, "gpu"),)), system=board
    )
    assert all(isinstance(error, EdgeClsError) for error in done.errors)
    assert done.benchmark.failed[0].kind == "UnknownBackendError"
