"""Comparing runs: what is read of a report, repetitions, warnings, and how figures are written."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import (
    ArtifactNotFoundError,
    ConversionError,
    TrainingError,
    ValidationError,
)
from host_tools.report.comparison import (
    RunComparison,
    Spread,
    compare_runs,
    differing,
    groups_of,
    short_names,
    spread,
    warnings,
)
from host_tools.report.comparison_page import (
    COLUMNS,
    MOST_CLASSES,
    Form,
    class_rows,
    differing_rows,
    group_cells,
    heat,
    shown_classes,
    to_lines,
)
from host_tools.report.comparison_page import looks_of_runs as looks
from host_tools.report.runs import FIGURES, ComparedRun, read_run

_OLD: dict[str, Any] = {
    "schema": 1,
    "type": "run",
    "name": "small",
    "data": {"fingerprint": "a" * 64, "fingerprints": {"validation": "b" * 64, "test": "c" * 64}},
    "training": {
        "seconds": 90.0,
        "best_epoch": 1,
        "history": [
            {"epoch": 1, "loss": 2.0, "accuracy": 0.5, "val_loss": 1.5, "val_accuracy": 0.5},
            {"epoch": 2, "loss": 1.0, "accuracy": 0.7, "val_loss": 1.2, "val_accuracy": 0.7},
        ],
    },
    "validation": None,
    "evaluation": {
        "split": "validation",
        "n": 10,
        "accuracy": 0.7,
        "labels": ["cat", "dog"],
        "confusion": [[4, 1], [2, 3]],
    },
    "recipe": {"name": "small", "model": {"width": 0.5}, "training": {"seed": 0, "epochs": 2}},
}
_NEW: dict[str, Any] = {
    **_OLD,
    "architecture": {"parameters": 12345},
    "validation": {
        "artifacts": [
            {"format": "float16", "accuracy": 0.7, "drop_points": 0.0, "size_bytes": 9000},
            {"format": "int8", "accuracy": 0.6, "drop_points": 10.0, "size_bytes": 5000},
        ]
    },
    "evaluation": {
        **_OLD["evaluation"],
        "accuracy_ci95": [0.4, 0.9],
        "top5": None,
        "macro": {"f1": 0.69},
        "calibration": {"ece": 0.05},
        "robustness": {"mean": 0.4},
    },
}


def _write(folder: Path, report: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def _with(report: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of a report with another value at ``evaluation.n`` or the like."""
    copy: dict[str, Any] = json.loads(json.dumps(report))
    *outer, last = path.split(".")
    inner = copy
    for key in outer:
        inner = inner[key]
    inner[last] = value
    return copy


def _runs(tmp_path: Path, *reports: dict[str, Any]) -> tuple[ComparedRun, ...]:
    return tuple(
        read_run(_write(tmp_path / f"run{place}", report)) for place, report in enumerate(reports)
    )


def test_every_figure_is_read(tmp_path: Path) -> None:
    (run,) = _runs(tmp_path, _NEW)
    figures = {name: getattr(run.figures, name) for name in FIGURES}
    assert figures == {
        "accuracy": 0.7,
        "top5": None,
        "macro_f1": 0.69,
        "ece": 0.05,
        "corruption_accuracy": 0.4,
        "int8_accuracy": 0.6,
        "int8_drop_points": 10.0,
        "int8_size_bytes": 5000,
        "parameters": 12345,
        "epochs": 2,
        "seconds": 90.0,
    }
    assert run.accuracy_ci95 == (0.4, 0.9)
    assert run.class_counts == (5, 5)
    assert run.class_accuracy == (0.8, 0.6)
    assert run.labels == ("cat", "dog")
    assert run.split_fingerprint == "b" * 64
    assert run.recipe["model.width"] == 0.5
    assert run.seed == 0


def test_a_report_of_an_earlier_version_has_dashes(tmp_path: Path) -> None:
    _write(tmp_path / "old", _OLD)
    _write(tmp_path / "new", _NEW)
    old = read_run(tmp_path / "old").figures
    assert (old.accuracy, old.epochs, old.seconds) == (0.7, 2, 90.0)
    assert {name for name in FIGURES if getattr(old, name) is None} == {
        *("top5", "macro_f1", "ece", "corruption_accuracy", "parameters"),
        *("int8_accuracy", "int8_drop_points", "int8_size_bytes"),
    }
    head, first, second = to_lines(compare_runs([tmp_path / "old", tmp_path / "new"]))[:3]
    assert "Top-5" not in head, "a column without values"
    assert first.split() == "old 70.00 % - - - - - - - - 2 90 s validation, 10".split()
    assert "40.00 to 90.00 %" in second
    assert "+10.00" in second
    assert "5.0 kB" in second


def test_a_run_that_was_evaluated_on_nothing(tmp_path: Path) -> None:
    empty = {"split": "validation", "n": 0, "accuracy": None, "labels": [], "confusion": []}
    runs = _runs(tmp_path, _NEW, _with(_NEW, "evaluation", empty), _with(_NEW, "evaluation", None))
    comparison = compare_runs([run.path for run in runs])
    assert comparison.runs[1].figures.accuracy is None
    assert comparison.warnings[0] == "Evaluated on no pictures: run1, run2."
    assert [row.range for row in class_rows(comparison)] == [None, None]
    zeros = {**empty, "labels": ["cat", "dog"], "confusion": [[0, 0], [0, 0]]}
    assert _runs(tmp_path, _with(_NEW, "evaluation", zeros))[0].class_accuracy == (None, None)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("evaluation.accuracy", "high", "evaluation.accuracy must be a number, got 'high'"),
        ("evaluation.accuracy", True, "evaluation.accuracy must be a number, got True"),
        ("evaluation.accuracy", math.nan, "must be a finite number"),
        ("evaluation.accuracy", 70, "evaluation.accuracy must be 0 to 1"),
        ("evaluation.n", -1, "evaluation.n must be 0 to inf"),
        ("evaluation.n", 1.5, "evaluation.n must be a whole number"),
        ("evaluation.accuracy_ci95", [0.5], "evaluation.accuracy_ci95 must have 2 entries"),
        ("evaluation.accuracy_ci95", ["a", "b"], "evaluation.accuracy_ci95[0] must be a number"),
        ("evaluation.labels", "cat", "evaluation.labels must be a list"),
        ("evaluation.labels", ["cat", 2], "evaluation.labels must be text"),
        ("evaluation.confusion", [[4, 1]], "must be 2 rows of 2 counts"),
        ("evaluation.confusion", [[4], [2]], "must be 2 rows of 2 counts"),
        ("evaluation.confusion", [[4, -1], [2, 3]], "must be 2 rows of 2 counts"),
        ("evaluation.confusion", [4, 2], "evaluation.confusion[0] must be a list"),
        ("evaluation.macro", [], "evaluation.macro must be an object"),
        ("evaluation", [], "evaluation must be an object"),
        ("training.history", [7], "training.history[0] must be an object"),
        ("training.history", [{"loss": 1.0}], "training.history[0].epoch is missing"),
        (
            "training.history",
            [{"epoch": 1, "loss": "x"}],
            "training.history[0].loss must be a number, got 'x'",
        ),
        (
            "validation.artifacts",
            [{"format": 8}],
            "validation.artifacts[0].format must be text, got 8",
        ),
        ("recipe", "x" * 99, "recipe must be an object, got 'xxx"),
        ("data.fingerprint", 1, "data.fingerprint must be text, got 1"),
        ("type", "validation", "type is 'validation', expected 'run'"),
        ("schema", None, "expected 'run' and a schema"),
    ],
)
def test_a_damaged_report_is_reported_with_the_key(
    tmp_path: Path, path: str, value: object, said: str
) -> None:
    folder = _write(tmp_path / "run", _with(_NEW, path, value))
    with pytest.raises(ConversionError) as caught:
        read_run(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'report.json'}: damaged (")
    assert said in message
    assert message.endswith("; train again")
    assert len(message) < 300 + len(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "[" * 100_000, "\udc80"])
def test_a_report_that_is_no_report(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConversionError, match=r"damaged .*train again"):
        read_run(tmp_path)


def test_a_report_of_a_later_version_is_refused(tmp_path: Path) -> None:
    folder = _write(tmp_path / "run", _with(_NEW, "schema", 2))
    with pytest.raises(ConversionError, match="schema 2, this edgecls reads up to 1"):
        read_run(folder)


def test_what_is_no_run_directory(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match="there is no such run directory"):
        read_run(tmp_path / "missing")
    with pytest.raises(ArtifactNotFoundError, match=r"no report\.json in it"):
        read_run(tmp_path)
    file = tmp_path / "report.json"
    file.write_text("{}")
    with pytest.raises(ArtifactNotFoundError, match="a file, not a run directory"):
        read_run(file)


@pytest.mark.parametrize("name", ["recipe.toml", "checkpoint.npz"])
def test_an_unfinished_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(TrainingError, match=r"unfinished run.*--resume"):
        read_run(tmp_path)


def test_which_classes_differ(tmp_path: Path) -> None:
    first = _write(tmp_path / "a", _NEW)
    other = _write(tmp_path / "b", _with(_NEW, "evaluation.labels", ["cat", "cow"]))
    with pytest.raises(ValidationError) as caught:
        compare_runs([first, first.parent / "b"])
    assert f"{first} and {other} have different classes: label 1 is 'dog' in the first" in str(
        caught.value
    )
    more = _with(_NEW, "evaluation.labels", ["cat", "dog", "cow"])
    more["evaluation"]["confusion"] = [[0] * 3] * 3
    with pytest.raises(ValidationError, match=r"label 2 is missing in the first and 'cow'"):
        compare_runs([first, _write(tmp_path / "c", more)])
    swapped = _with(_NEW, "evaluation.labels", ["dog", "cat"])
    with pytest.raises(ValidationError, match="label 0 is 'cat' in the first and 'dog'"):
        compare_runs([first, _write(tmp_path / "d", swapped)])


def test_names_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    assert short_names([tmp_path / "a" / "run", tmp_path / "a" / "other"]) == ("run", "other")
    assert short_names([tmp_path / "a" / "run", tmp_path / "b" / "run"]) == ("a/run", "b/run")
    inside = (tmp_path / "run", tmp_path / "run" / "run")
    assert short_names(inside) == (f"{tmp_path.name}/run", "run/run")


_FIGURE = st.one_of(st.none(), st.floats(-1e6, 1e6))


@given(st.lists(_FIGURE, min_size=2, max_size=6))
def test_a_spread_is_that_of_the_known_figures(values: list[float | None]) -> None:
    known = [value for value in values if value is not None]
    found = spread(values)
    if not known:
        assert found is None
        return
    assert found is not None
    assert found.n == len(known)
    assert found.mean == pytest.approx(sum(known) / len(known), abs=1e-6)
    assert min(known) - 1e-6 <= found.mean <= max(known) + 1e-6
    if len(known) == 1:
        assert found.sd is None
    else:
        assert found.sd == pytest.approx(statistics.stdev(known), abs=1e-6)


def _seeded(seed: int, accuracy: float, **changes: object) -> dict[str, Any]:
    report = _with(_NEW, "recipe.training.seed", seed)
    report["evaluation"]["accuracy"] = accuracy
    for path, value in changes.items():
        report = _with(report, path.replace("__", "."), value)
    return report


def test_repetitions_are_reported_together(tmp_path: Path) -> None:
    runs = _runs(
        tmp_path,
        _seeded(0, 0.7),
        _seeded(0, 0.9, recipe__model__width=1.0),
        _seeded(1, 0.8, recipe__name="of another name"),
        _seeded(2, 0.6, validation=None),
        _seeded(3, 0.5, data__fingerprint="d" * 64),
        _seeded(4, 0.5, evaluation__split="test"),
    )
    names = ["small-1", "large", "small-2", "small-3", "elsewhere", "tested"]
    (group,) = groups_of(runs, names)
    assert group.name == "small"
    assert group.members == (0, 2, 3)
    assert group.seeds == 3
    accuracy = group.figures["accuracy"]
    assert accuracy is not None
    assert (accuracy.mean, accuracy.sd, accuracy.n) == (
        pytest.approx(0.7),
        pytest.approx(0.1),
        3,
    )
    assert group.figures["top5"] is None
    cells = dict(zip([c.key for c in COLUMNS], group_cells(group, COLUMNS), strict=True))
    assert cells["accuracy"] == "70.00 ± 10.00 %"
    assert cells["int8_accuracy"] == "60.00 % (of 2)"
    assert cells["parameters"] == "12,345"
    assert cells["top5"] == "-"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("seed1", "seed2"), "seed"),
        (("run11", "run12"), "run"),
        (("resnet18-1", "resnet18-2"), "resnet18"),
        (("1", "2"), "small"),
        (("a/run", "b/run"), "small"),
        (("wide", "wide-again"), "wide"),
    ],
)
def test_what_a_group_is_called(tmp_path: Path, names: tuple[str, str], expected: str) -> None:
    (group,) = groups_of(_runs(tmp_path, _seeded(0, 0.7), _seeded(1, 0.8)), names)
    assert group.name == expected


def test_groups_of_one_name_are_distinguished(tmp_path: Path) -> None:
    width = {"recipe__model__width": 1.0}
    reports = (_seeded(0, 0.7), _seeded(0, 0.7, **width), _seeded(1, 0.7), _seeded(1, 0.7, **width))
    groups = groups_of(_runs(tmp_path, *reports), ["1", "2", "3", "4"])
    assert [group.name for group in groups] == ["1 and 1 more", "2 and 1 more"]


def test_the_tables_have_a_column_a_recipe(tmp_path: Path) -> None:
    worse = [[4, 1], [4, 1]]
    runs = _runs(
        tmp_path,
        _seeded(0, 0.7),
        _seeded(0, 0.7, recipe__model__width=1.0),
        _seeded(1, 0.5, evaluation__confusion=worse),
    )
    names = ("small-0", "large", "small-1")
    comparison = RunComparison(runs, names, groups_of(runs, names), differing(runs), ())
    assert comparison.recipes == (("small", (0, 2)), ("large", (1,)))

    cat, dog = class_rows(comparison)
    assert cat.accuracy == (pytest.approx(0.8), 0.8)
    assert dog.accuracy == (pytest.approx(0.4), 0.6)
    assert dog.range == pytest.approx(0.2)
    assert differing_rows(comparison) == [
        ("model.width", [["0.5"], ["1.0"]]),
        ("training.seed", [["0", "1"], ["0"]]),
    ]


def test_repetitions_share_a_colour(tmp_path: Path) -> None:
    widths = [{"recipe__model__width": 0.25 * n} for n in range(1, 12)]
    reports = [_seeded(seed, 0.7, **width) for width in widths for seed in range(2)]
    runs = _runs(tmp_path, *reports)
    names = [str(place) for place in range(len(runs))]

    drawn = looks(RunComparison(tuple(runs), tuple(names), groups_of(runs, names), {}, ()))
    assert len({look.color for look in drawn}) == 10
    assert all(
        (first.color, first.css, second.css) == (second.color, "solid", "dashed")
        for first, second in zip(drawn[:20:2], drawn[1:20:2], strict=True)
    )
    # There are ten colours: the eleventh recipe begins them again, in other dashes.
    assert [(look.color, look.css) for look in drawn[20:]] == [
        (drawn[0].color, "dashed"),
        (drawn[0].color, "dotted"),
    ]


def test_runs_without_repetitions_each_have_a_colour(tmp_path: Path) -> None:
    runs = _runs(tmp_path, _seeded(0, 0.7), _seeded(0, 0.7, recipe__model__width=1.0))
    drawn = looks(RunComparison(tuple(runs), ("a", "b"), (), {}, ()))
    assert drawn[0].color != drawn[1].color
    assert [look.css for look in drawn] == ["solid", "solid"]


def test_the_same_seed_again_is_no_repetition(tmp_path: Path) -> None:
    same = _runs(tmp_path, _seeded(0, 0.7), _seeded(0, 0.7))
    assert groups_of(same, ["a", "b"]) == ()
    (warning,) = warnings(same, ["a", "b"])
    assert warning.startswith("The same recipe, seed and data: a, b. They are not independent")
    # Old reports without a recipe are not reported as the same.
    bare = _runs(tmp_path, *[_with(_OLD, "recipe", {})] * 2)
    assert groups_of(bare, ["a", "b"]) == ()
    assert warnings(bare, ["a", "b"]) == ()


def test_pictures_that_are_not_the_same_are_warned_of(tmp_path: Path) -> None:
    runs = _runs(
        tmp_path,
        _seeded(0, 0.7),
        _seeded(1, 0.7, evaluation__split="test"),
        _seeded(2, 0.7, data__fingerprint="d" * 64),
        _seeded(3, 0.7, data__fingerprints__validation="e" * 64),
    )
    names = ["a", "b", "c", "d"]
    assert warnings(runs[:1], names[:1]) == ()
    (split,) = warnings(runs[:2], names[:2])
    assert split.startswith("Evaluated on different splits (validation: a; test: b).")
    (data,) = warnings(runs[::2], names[::2])
    assert data.startswith("Different data sets, by their fingerprints (aaaaaaaaaaaa: a; dddddd")
    (pictures,) = warnings(runs[::3], names[::3])
    assert pictures.startswith("The validation split has not the same pictures in all runs (a; d)")
    unknown = replace(runs[0], fingerprint=None, split_fingerprint=None)
    assert warnings((runs[0], replace(unknown, recipe={})), ["a", "old"]) == ()


def test_only_what_recipes_have_differently(tmp_path: Path) -> None:
    stages = [{"share": 1.0, "width": 32}]
    runs = _runs(
        tmp_path,
        _seeded(0, 0.7, recipe__training__stages=stages),
        _seeded(1, 0.7, recipe__training__stages=[]),
        _seeded(1, 0.7),
    )
    assert differing(runs) == {
        "training.seed": ("0", "1", "1"),
        "training.stages": ("[{share = 1.0, width = 32}]", "[]", None),
    }
    assert differing(runs[:1]) == {}


@given(
    st.sampled_from(COLUMNS),
    st.floats(0, 1e9),
    st.floats(0, 1e9),
    st.integers(2, 9),
)
def test_every_figure_can_be_written(column: Any, mean: float, sd: float, n: int) -> None:
    form = column.form(mean)
    assert isinstance(form, Form)
    written = form.spread(Spread(mean, sd, n))
    assert written.endswith(form.unit)
    assert ("±" in written) == (sd > 0)
    assert form.one(mean).endswith(form.unit)
    assert form.spread(Spread(mean, None, 1)) == form.one(mean)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(7.4, "7 s"), (119, "119 s"), (120, "2.0 min"), (7199, "120.0 min"), (36000, "10.0 h")],
)
def test_times_are_readable(seconds: float, written: str) -> None:
    (column,) = (column for column in COLUMNS if column.key == "seconds")
    assert column.form(seconds).one(seconds) == written


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_heat_is_redder_the_less_is_right(a: float, b: float, c: float) -> None:
    low, middle, high = sorted((a, b, c))

    def lightness(accuracy: float) -> int:
        return int(heat(accuracy, low).split()[-1].removesuffix("%)"))

    assert 62 <= lightness(low) <= lightness(middle) <= lightness(high) <= 100
    assert heat(1.0, low) == "background: hsl(8 80% 100%)"


def test_of_many_classes_those_that_differ_most(tmp_path: Path) -> None:
    classes = MOST_CLASSES + 10
    labels = [f"class {place}" for place in range(classes)]
    confusion = [[0] * classes for _ in labels]
    for place in range(classes):
        confusion[place][place] = 10
    other = json.loads(json.dumps(confusion))
    other[classes - 1] = [10] + [0] * (classes - 1)
    folders = []
    for name, matrix in (("a", confusion), ("b", other)):
        report = _with(_with(_NEW, "evaluation.labels", labels), "evaluation.confusion", matrix)
        folders.append(_write(tmp_path / name, report))
    rows = class_rows(compare_runs(folders))
    assert len(rows) == classes
    shown = shown_classes(rows)
    assert len(shown) == MOST_CLASSES
    assert shown[0].label == "class 0"
    assert shown[-1].label == labels[-1]
    assert shown[-1].range == 1
    assert shown[-1].accuracy == (1.0, 0.0)


def test_json_has_every_figure(tmp_path: Path) -> None:
    runs = _runs(tmp_path, _seeded(0, 0.7), _seeded(1, 0.8), _OLD)
    comparison = compare_runs([run.path for run in runs])
    assert isinstance(comparison, RunComparison)
    content = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert (content["schema"], content["type"]) == (1, "comparison")
    assert [run["name"] for run in content["runs"]] == ["run0", "run1", "run2"]
    assert set(FIGURES) < set(content["runs"][0])
    assert content["runs"][0]["accuracy_ci95"] == [0.4, 0.9]
    # The old report is of the same recipe as the first: seeds 0, 1 and 0.
    (group,) = content["groups"]
    assert group["runs"] == [str(run.path) for run in runs]
    assert group["seeds"] == [0, 1, 0]
    assert group["accuracy"]["n"] == 3
    assert group["ece"]["n"] == 2
    assert group["top5"] is None
    assert content["differing"] == {"training.seed": ["0", "1", "0"]}
    assert len(content["warnings"]) == 1
