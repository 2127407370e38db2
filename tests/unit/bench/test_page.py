"""Reports of a benchmark: what they say, and that nothing in a file's name can get out of them."""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.bench import charts, plots
from edge_sdk.bench.accuracy import Accuracy, accuracy_of, parse_accuracies, read_accuracies
from edge_sdk.bench.charts import Axis
from edge_sdk.bench.compare import BenchmarkComparison, compare
from edge_sdk.bench.figures import ms, rate, ratio, size, titles
from edge_sdk.bench.markdown import code, comparison_markdown, escape, markdown
from edge_sdk.bench.markup import Markup, bars, tag
from edge_sdk.bench.markup import table as html_table
from edge_sdk.bench.page import page, write_page
from edge_sdk.bench.page_comparison import comparison_page, write_comparison_page
from edge_sdk.bench.page_costs import command
from edge_sdk.bench.results import (
    Age,
    Benchmark,
    Distribution,
    Energy,
    Failure,
    ModelResult,
    OperatorProfile,
    OperatorTime,
    PictureSet,
    Samples,
    Settings,
    Sustained,
    ThreadPoint,
    Window,
)
from edge_sdk.bench.table import comparison_table, table
from edge_sdk.errors import BaselineError, WriteError
from edge_sdk.machine.facts import read_machine
from edge_sdk.machine.power import Throttling
from edge_sdk.machine.watch import Conditions, Reading

_HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=http://evil.example/x onerror=alert(1)>',
    "${body} $title {{x}} %s",
    "a|b`c``d\n| e | f |\n\n# g",
    "\x1b[31mred\x1b[0m\r\b\u202egnp.exe",
    "[click](javascript:alert(1)) @everyone ![x](http://evil.example/y)",
    "&lt;b&gt; &amp; ' \" <b>",
    "--report",
    "",
    "x" * 5000,
)
_LOADS = re.compile(r"url\(|@import|image-set|https?:")  # in a style sheet


def _samples(n: int = 200, p50: float = 3.0, slow: int = 3, seed: int = 0) -> Samples:
    chance = np.random.default_rng(seed)
    inference = p50 * (1 + 0.05 * chance.standard_gamma(2, n))
    inference[chance.choice(n, slow, replace=False)] *= 15
    return Samples(
        block=tuple(int(i) for i in np.arange(n) // 20),
        at_s=tuple(np.linspace(0, 8, n).tolist()),
        preprocess_ms=(0.3,) * n,
        inference_ms=tuple(inference.tolist()),
        postprocess_ms=(0.05,) * n,
    )


def _model(name: str = "digits_int8", **changes: object) -> ModelResult:
    model = ModelResult(
        path=f"models/{name}.tflite",
        name=name,
        sha256="ab" * 32,
        format="int8",
        backend="litert",
        runtime="ai-edge-litert 2.3.0",
        xnnpack=True,
        threads=1,
        size_bytes=91_700,
        model_bytes=87_800,
        input_px=(32, 32),
        pictures=PictureSet("data", "/pictures", 5, (640, 480)),
        load_ms=2.9,
        first_ms=0.6,
        cold_start_ms=101.5,
        cold_starts_ms=(99.0, 101.5, 120.0),
        peak_rss_mb=68.2,
        warmup=50,
        stable=True,
        settled=True,
        samples=_samples(),
    )
    return replace(model, **changes)  # type: ignore[arg-type]


def _benchmark(*models: ModelResult, **changes: object) -> Benchmark:
    readings = tuple(
        Reading(float(t), 1800.0 - t, 50.0 + t, Throttling.decode(0), False, None, 0.1, 0.0, 0.0)
        for t in range(5)
    )
    benchmark = Benchmark(
        created="2026-11-21T15:14:36.841+00:00",
        edgecls="0.1.0",
        machine=replace(read_machine(), board="Raspberry Pi 4 Model B Rev 1.4", virtualised=None),
        settings=Settings(10.0, 1.0, 0),
        models=models,
        conditions=Conditions(4, "performance", "cpufreq-dt", 80.0, readings, 0.1, 0.0, None),
    )
    return replace(benchmark, **changes)  # type: ignore[arg-type]


def _full() -> Benchmark:
    """Everything that can be measured."""
    profile = OperatorProfile(
        tuple(OperatorTime(i, "CONV_2D", f"conv{i}", 0.2, 0.1) for i in range(10)),
        2.0,
        2.4,
        "a note",
    )
    windows = tuple(
        Window(float(t), 100, 3.0 + t / 10, 300.0, 1800.0 - t, 60.0 + t) for t in range(8)
    )
    first = _model(
        "mobilenet",
        samples=_samples(p50=3),
        scaling=tuple(ThreadPoint(n, 100, 3 / n, (2.9 / n, 3.1 / n), 300.0 * n) for n in (1, 2, 4)),
        operators=profile,
        sustained=Sustained(30.0, windows, 12.0),
        energy=Energy("intel-rapl:0 package-0", 5.0, 1000, 0.012, 14.0, 3.0),
        age=Age("picamera:0", 100, 5.0, 2, 1, 0, tuple(np.linspace(60, 120, 100)), (5.0,) * 100),
    )
    second = replace(
        first, backend="litert-noxnnpack", xnnpack=False, samples=_samples(p50=6, seed=1), age=None
    )
    return _benchmark(first, second, _model("tiny", sha256="cd" * 32, samples=_samples(p50=0.2)))


# Nothing that runs or loads; attributes are checked as they come.
_ELEMENTS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "section",
        "h1",
        "h2",
        "h3",
        "p",
        "div",
    ),
    *("ul", "li", "span", "br", "wbr", "table", "tr", "th", "td", "pre", "code", "b", "i", "u"),
    *("details", "summary", "svg", "line", "rect", "circle", "text", "polyline", "polygon"),
}


class _Checker(HTMLParser):
    """Every element is closed where it should be; nothing that could run or load."""

    _VOID = ("meta", "br", "wbr", "circle", "line", "rect", "polyline", "polygon")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert name in {
                *("class", "style", "lang", "charset", "name", "content", "role", "aria-label"),
                *("viewbox", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height"),
                *("points", "text-anchor"),
            }, (tag, name)
            if name == "style":
                assert re.fullmatch(r"width:\d+\.\d\d%", value or "")
            if name == "points":
                assert all(np.isfinite(float(v)) for v in re.split("[ ,]", value or "0") if v)
            elif tag != "meta" and name in ("x", "y", "cx", "cy", "r", "x1", "y1", "x2", "y2"):
                assert np.isfinite(float(value or "nan"))
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _read(html: str) -> str:
    """The text of a page that passed every check."""
    checker = _Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert checker.names <= _ELEMENTS
    styles = re.findall("<style>(.*?)</style>", html, re.S)
    assert len(styles) == 1
    assert not _LOADS.search(styles[0])
    return " ".join(" ".join(checker.text).split())


# --- the page


def test_a_full_page_says_it_all() -> None:
    benchmark = _full()
    html = page(benchmark)
    text = _read(html)
    told = benchmark.models[2].latency
    assert told is not None
    assert told.ci95 is not None
    for expected in (
        *(
            "2 models on Raspberry Pi 4 Model B Rev 1.4",
            f"{ms(told.ci95[0])} to {ms(told.ci95[1])}",
        ),
        *("tiny takes", "Distribution of latencies", "3 slower, up to", "Over time"),
        *("Stages", "Operators", "CONV_2D", "a note", "Threads", "(4.00", "Backends"),
        *("litert- noxnnpack", "Start, memory, size", "102 ms", "(99.0 to 120)", "Sustained"),
        *("12.0 % slower", "Energy", "12.00", "Age of a decision", "picamera:0: 100 frames"),
        *(
            "The machine",
            "The machine during the measurement",
            "before 1800, between 1796 and 1800",
        ),
        *("How it was measured", "edgecls bench models/mobilenet.tflite models/tiny.tflite"),
        *("--data /pictures", "prefers-color-scheme"),
    ):
        assert expected in text or expected in html, expected
    assert "Invalid" not in text


def test_an_invalid_run_says_so_before_anything_else() -> None:
    reasons = ("under-voltage: the supply is too weak", "throttled: cool it")
    model = _model(valid=False, invalid_reasons=reasons)
    benchmark = _benchmark(model, valid=False, invalid_reasons=reasons, complete=False)
    text = _read(page(benchmark))
    assert text.index("Invalid: do not use") < text.index(reasons[0]) < text.index("Figures")
    assert text.count(reasons[1]) == 1
    assert "Incomplete" in text
    for report in (markdown(benchmark), table(benchmark)):
        assert reasons[0] in report
        assert reasons[1] in report
    assert "INVALID: under-voltage" in table(benchmark)
    assert "INCOMPLETE" in table(benchmark)


def test_one_invalid_model_makes_the_page_invalid() -> None:
    model = _model(valid=False, invalid_reasons=("too hot: 84 °C",))
    benchmark = _benchmark(_model("fine"), model)
    assert "digits_int8: too hot" in _read(page(benchmark))
    assert "INVALID: digits_int8: too hot: 84 °C" in table(benchmark)


def test_an_invalid_run_without_a_reason_is_still_said() -> None:
    benchmark = _benchmark(_model(), valid=False)
    for report in (_read(page(benchmark)), markdown(benchmark), table(benchmark)):
        assert "no reason is recorded" in report


@pytest.mark.parametrize("text", _HOSTILE, ids=lambda text: repr(text)[:20])
def test_hostile_texts_stay_texts(text: str) -> None:
    profile = OperatorProfile((OperatorTime(0, text, text, 1.0, 1.0),), 1.0, 1.0, text)
    model = _model(
        text,
        path=text,
        samples=_samples(60),
        format=text,
        backend=text,
        runtime=text,
        sha256=text,
        pictures=PictureSet("data", text, 1, (1, 1)),
        notes=(text,),
        invalid_reasons=(text,),
        valid=False,
        operators=profile,
        energy=Energy(text, 1.0, 1, 1.0, 1.0, 1.0),
        age=Age(text, 1, 1.0, 0, 0, 0, (1.0,), (1.0,), text),
    )
    other = replace(model, threads=2)
    machine = replace(
        read_machine(),
        **dict.fromkeys(("board", "cpu", "governor", "driver", "os", "kernel", "emulated"), text),  # type: ignore[arg-type]
        packages={text: text},
    )
    conditions = Conditions(
        1, text, text, None, (Reading(0.0, *(None,) * 8),), None, None, None, (text,), (text,)
    )
    benchmark = _benchmark(
        *(model, other),
        machine=machine,
        conditions=conditions,
        created=text,
        edgecls=text,
        failed=(Failure(text, text, 1, text, text),),
        invalid_reasons=(text,),
        valid=False,
    )
    accuracies = (Accuracy(text, model.size_bytes, 0.9, 1.0, (0.0, 2.0), 10),)
    _read(page(benchmark, accuracies))
    comparison = compare(benchmark, benchmark, names=(text, text), max_regress_percent=1.0)
    comparison = replace(comparison, warnings=(text,), machines=(text,), only_before=(text,))
    _read(comparison_page(comparison, benchmark, benchmark))
    _read(page(benchmark, accuracies, comparison))
    plain = (table(benchmark, accuracies), comparison_table(comparison))
    for line in "\n".join(plain).split("\n"):
        assert line.isprintable() or line == ""
    for report in (markdown(benchmark, accuracies), comparison_markdown(comparison)):
        _check_markdown(report)


def _check_markdown(report: str) -> None:
    """All rows of a table have as many cells as its head, and nothing is HTML but our details."""
    prose = re.sub(r"^(`{3,})sh\n.*?\n\1$", "", report, flags=re.S | re.M)
    cells = 0
    for line in prose.split("\n"):
        if not line.startswith("|"):
            cells = 0
            continue
        count = len(re.findall(r"(?<!\\)\|", line.replace(r"\\", "")))
        assert count == (cells or count), line
        cells = count
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", prose)
    assert set(re.findall(r"(?<!\\)<[^>]*>", outside)) <= {
        *("<details>", "</details>", "<summary>", "</summary>"),
    }
    assert re.search(r"(?<!\\)\]\(", outside) is None


@pytest.mark.parametrize(
    "samples",
    [
        Samples(),
        Samples((0,), (0.0,), (0.1,), (1.0,), (0.1,)),
        Samples((0, 0), (0.0, 1.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)),
        Samples((0,) * 50, (1.0,) * 50, (0.5,) * 50, (2.0,) * 50, (0.0,) * 50),
        Samples((0,) * 9, tuple(map(float, range(9))), (0.0,) * 9, (1.0,) * 8 + (1e9,), (0.0,) * 9),
    ],
    ids=["none", "one", "zeros", "all alike", "one of a million"],
)
def test_odd_samples_are_drawn(samples: Samples) -> None:
    benchmark = _benchmark(
        _model(samples=samples), _model("other"), _model("third", samples=samples)
    )
    text = _read(page(benchmark))
    assert "nan" not in text.lower()
    assert "inf " not in text.lower()
    markdown(benchmark)
    table(benchmark)


def test_nothing_measured() -> None:
    failed = (Failure("gone.tflite", "edgetpu", 1, "DelegateError", "no Coral; plug it in"),)
    benchmark = _benchmark(failed=failed, conditions=None)
    for report in (_read(page(benchmark)), table(benchmark), markdown(benchmark)):
        assert "no Coral; plug it in" in report
        assert "Nothing was measured" in report


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.html"
    benchmark = _full()
    write_page(benchmark, path)
    assert path.read_text(encoding="utf-8") == page(benchmark)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError):
        write_page(_full(), tmp_path / "file" / "bench.html")


def test_long_runs_do_not_make_endless_pages() -> None:
    benchmark = _benchmark(_model(samples=_samples(50_000, slow=5000)))
    assert len(page(benchmark)) < 300_000


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1e7, allow_subnormal=False), min_size=1, max_size=60))
def test_any_latencies_stay_within_the_picture(values: list[float]) -> None:
    told = Distribution.of(tuple(values))
    assert told is not None
    n = len(values)
    samples = Samples((0,) * n, tuple(map(float, range(n))), (0.0,) * n, tuple(values), (0.0,) * n)
    for drawn in (
        plots.histogram(values, told, 0),
        plots.distribution([(7, np.array(values))]),
        plots.over_time(samples, 1),
        plots.trace(list(enumerate(values)), "ms", 0),
    ):
        _Checker().feed(drawn)
        for name, limit in (("x", 360), ("cx", 360), ("y", 200), ("cy", 200)):
            for place in re.findall(rf' {name}="([^"]*)"', drawn):
                assert -1 <= float(place) <= limit + 1


def test_slow_runs_are_counted_and_drawn_apart() -> None:
    values = [1.0 + i / 1000 for i in range(200)] + [40.0, 50.0]
    told = Distribution.of(tuple(values))
    assert told is not None
    drawn = plots.histogram(values, told, 0)
    assert "2 slower, up to 50.0" in drawn
    assert drawn.count("outlier") == 2
    assert "slower" not in plots.histogram(values[:200], told, 0)


# --- pieces


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(1, 8), st.booleans())
def test_ticks_lie_on_the_axis(low: float, span: float, most: int, log: bool) -> None:
    low = abs(low) + 1e-6 if log else low
    axis = Axis(low, low + span, 0, 100, log=log)
    ticks = axis.ticks(most)
    assert len(ticks) <= most + 2
    assert ticks == sorted(set(ticks))
    for tick in ticks:
        assert -0.5 <= axis.at(tick) <= 100.5


def test_labels_of_charts_are_escaped() -> None:
    assert "<script>" not in charts.label(0, 0, "<script>")
    assert "<script>" not in charts.picture(1, "<script>", [])
    assert "<script>" not in tag("p", "<script>")
    assert "<script>" not in html_table(("<script>",), [("<script>",)])
    assert "<script>" not in bars([("<script>", [(0, 1.0)], "<script>")])
    assert "<b>" in tag("p", Markup("<b>"))


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "–"), (0.1234, "0.123"), (4.567, "4.57"), (78.94, "78.9"), (1234.5, "1,234")],  # noqa: RUF001
)
def test_milliseconds(value: float | None, told: str) -> None:
    assert ms(value) == told


def test_figures() -> None:
    assert ratio(3.0, 2.0) == "1.50×"  # noqa: RUF001
    assert ratio(None, 2.0) == ratio(1.0, 0.0) == "–"  # noqa: RUF001
    assert (size(98_500), size(3_410_000)) == ("98.5 kB", "3.41 MB")
    assert (rate(5.123), rate(51.23), rate(512.3)) == ("5.12", "51.2", "512")


def test_titles_say_only_what_differs() -> None:
    a, b = _model("a"), _model("b")
    assert titles([a, b]) == ["a", "b"]
    assert titles([a, replace(a, threads=2)]) == ["a · 1 thread", "a · 2 threads"]
    assert titles([a, replace(a, backend="onnx"), b]) == ["a · litert", "a · onnx", "b"]
    assert titles([a, replace(a, path="old/a.tflite")]) == ["a · models", "a · old"]
    assert titles([a, a]) == ["a", "a (2)"]


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["a", "b", "a · litert", "a (2)", "\x1b"]), max_size=8))
def test_titles_are_one_each(names: list[str]) -> None:
    models = [_model(name, threads=1 + i % 2) for i, name in enumerate(names)]
    told = titles(models)
    assert len(told) == len(set(told)) == len(names)


@given(st.text(max_size=40))
def test_markdown_code_is_one_cell(text: str) -> None:
    row = f"| {code(text)} |"
    assert "\n" not in row
    assert len(re.findall(r"(?<!\\)\|", row.replace(r"\\", ""))) == 2


def test_markdown_notifies_nobody() -> None:
    assert "@everyone" not in escape("cc @everyone")
    assert escape("Xeon @ 2.80GHz") == "Xeon @ 2.80GHz"


# --- ratios, accuracy, comparison


def test_tables_have_ratios() -> None:
    benchmark = _benchmark(
        _model("fast", samples=_samples(p50=2)), _model("slow", samples=_samples(p50=6))
    )
    fast, slow = (model.latency for model in benchmark.models)
    assert fast is not None
    assert slow is not None
    told = ratio(slow.p50, fast.p50)
    for report in (table(benchmark), markdown(benchmark), _read(page(benchmark))):
        assert told in report
        assert "1.00×" in report  # noqa: RUF001
    lines = table(benchmark).split("\n")
    assert len({len(line) for line in lines[2:5]}) == 1  # aligned


_ARTIFACT = {"path": "a", "size_bytes": 1, "accuracy": 0.9}
_VALIDATION = {
    "schema": 1,
    "type": "validation",
    "reference": {"path": "x.keras", "accuracy": 0.98, "n": 360},
    "artifacts": [
        {
            "path": "elsewhere/digits_int8.tflite",
            "size_bytes": 91_700,
            "accuracy": 0.9722,
            "drop_points": 0.78,
            "drop_ci95": [-0.2, 1.9],
        },
        {"path": "digits_int8.tflite", "size_bytes": 1, "accuracy": 0.1, "drop_points": None},
    ],
}


def test_accuracy_is_that_of_the_very_file() -> None:
    accuracies = parse_accuracies(_VALIDATION, "v.json")
    known = accuracy_of(_model(), accuracies)
    assert known is not None
    assert (known.accuracy, known.drop_ci95, known.n) == (0.9722, (-0.2, 1.9), 360)
    assert accuracy_of(_model(size_bytes=91_701), accuracies) is None
    benchmark = _benchmark(_model(), _model("other"))
    text = _read(page(benchmark, accuracies))
    assert "Accuracy against latency against size" in text
    assert "0.78 (-0.20 to 1.90)" in text
    assert "97.22 %" in table(benchmark, accuracies)
    assert "97.22 %" in markdown(benchmark, accuracies)
    assert "has none of these files" in _read(page(_benchmark(_model("other")), accuracies))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b"null",
        json.dumps({**_VALIDATION, "type": "benchmark"}).encode(),
        json.dumps({**_VALIDATION, "reference": []}).encode(),
        json.dumps({**_VALIDATION, "artifacts": [{}]}).encode(),
        json.dumps({**_VALIDATION, "artifacts": 3}).encode(),
        json.dumps({**_VALIDATION, "artifacts": [{**_ARTIFACT, "accuracy": 97}]}).encode(),
        json.dumps({**_VALIDATION, "artifacts": [{**_ARTIFACT, "accuracy": math.nan}]}).encode(),
        json.dumps({**_VALIDATION, "artifacts": [{**_ARTIFACT, "drop_ci95": [1]}]}).encode(),
    ],
)
def test_other_files_are_no_validation(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.json"
    path.write_bytes(content)
    with pytest.raises(BaselineError, match="edgecls validate"):
        read_accuracies(path)


def test_a_validation_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="cannot be read"):
        read_accuracies(tmp_path / "gone.json")


def _compared() -> tuple[BenchmarkComparison, Benchmark, Benchmark]:
    before = _benchmark(_model(), _model("gone"))
    after = _benchmark(_model(samples=_samples(p50=4.5, seed=2)), _model("new"))
    comparison = compare(before, after, names=("old.json", "now"), max_regress_percent=10.0)
    return comparison, before, after


def test_a_comparison_says_what_changed(tmp_path: Path) -> None:
    comparison, before, after = _compared()
    change = f"{comparison.changes[0].percent:+.1f} %"
    text = _read(comparison_page(comparison, before, after))
    for report in (comparison_table(comparison), comparison_markdown(comparison), text):
        for expected in (
            change,
            "fail",
            "digits_int8 (litert, 1 thread)",
            "% slower",
            "At most 10 %",
        ):
            assert expected in report or expected in report.replace("\\", ""), expected
        assert "gone" in report
        assert "new" in report
    assert "Against old.json" in _read(page(after, (), comparison))
    write_comparison_page(comparison, before, after, tmp_path / "c.html")
    assert (tmp_path / "c.html").stat().st_size > 10_000


def test_no_difference_is_said_as_such() -> None:
    _, before, _ = _compared()
    comparison = compare(before, before, names=("a", "b"))
    assert comparison_table(comparison).endswith("No significant difference.")
    assert "verdict" not in comparison_table(comparison)


def test_an_invalid_benchmark_is_marked_in_a_comparison() -> None:
    comparison, before, after = _compared()
    invalid = replace(before, valid=False, invalid_reasons=("throttled: cool it",))
    text = _read(comparison_page(comparison, invalid, after))
    assert "Invalid: old.json throttled: cool it" in text
    assert "Invalid: now" not in text


# --- measuring again


def test_the_command_names_files_and_settings() -> None:
    paths = ("a b.tflite", "-x.tflite", "$(rm -rf).tflite")
    models = [_model(str(i), path=path, threads=1 + i) for i, path in enumerate(paths)]
    words = shlex.split(command(_benchmark(*models)))
    assert words[:2] == ["edgecls", "bench"]
    assert words[2:5] == ["a b.tflite", "./-x.tflite", "$(rm -rf).tflite"]
    assert words[words.index("--threads") + 1] == "1,2,3"
    assert words[words.index("--data") + 1] == "/pictures"


def test_the_command_is_understood_by_the_command() -> None:
    from edge_sdk.cli.bench import bench
    from host_tools.cli import main

    benchmark = _full()
    words = shlex.split(command(benchmark))[2:]
    root = click.Context(main, **main.context_settings)
    context = bench.make_context("bench", words, parent=root)
    assert context.params["models"] == (Path("models/mobilenet.tflite"), Path("models/tiny.tflite"))
    assert context.params["seconds"] == benchmark.settings.seconds
    assert context.params["seed"] == 0
    assert context.params["sustained"] == 30
