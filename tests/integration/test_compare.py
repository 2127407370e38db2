"""`edgecls compare` on real runs, and user errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.integration.host import QUICK, edgecls

pytest.importorskip("tensorflow", reason="the extra [host] is not installed")


@pytest.fixture(scope="module")
def seeded(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `built` again with another seed, but only trained."""
    out = tmp_path_factory.mktemp("seeded") / "seeded"
    result = edgecls(
        *("train", "digits", "--data", digits, "--out", out, *QUICK, "--set", "training.seed=7")
    )
    assert result.exit_code == 0, result.output
    return out


def _changed(run: Path, copy: Path, changes: dict[str, Any]) -> Path:
    """A run directory whose report says something else under keys like ``evaluation.n``."""
    copy.mkdir(parents=True)
    report = json.loads((run / "report.json").read_text())
    for path, value in changes.items():
        *outer, last = path.split(".")
        inner = report
        for key in outer:
            inner = inner[key]
        inner[last] = value
    (copy / "report.json").write_text(json.dumps(report))
    return copy


@pytest.fixture
def again(built: Path, tmp_path: Path) -> Path:
    """The same with another seed, evaluated on the same pictures."""
    copy = tmp_path / "again"
    report = json.loads((built / "report.json").read_text())
    changes = {"recipe.training.seed": 1, "evaluation.accuracy": report["evaluation"]["accuracy"]}
    return _changed(built, copy, changes)


def _table(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines()]


def test_a_build_and_a_training_with_another_seed(
    built: Path, seeded: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pages" / "compare.html"
    result = edgecls("compare", built, seeded, "--out", out)
    assert result.exit_code == 0, result.output
    reports = [json.loads((run / "report.json").read_text()) for run in (built, seeded)]
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "run", "seeded"]
    for line, report in zip(lines[1:], reports, strict=True):
        evaluation = report["evaluation"]
        assert f"{100 * evaluation['accuracy']:.2f} %" in line
        assert line.endswith(f"{evaluation['split']}, {evaluation['n']}")
    (int8,) = [a for a in reports[0]["validation"]["artifacts"] if a["format"] == "int8"]
    assert f"{int8['size_bytes'] / 1000:,.1f} kB" in lines[1]
    # Other pictures, so they are no repetitions of one another, and it is said why.
    assert "Warning: Evaluated on different splits (test: run; validation: seeded)" in result.stderr
    assert f"wrote {out}" in result.stderr
    page = out.read_text("utf-8")
    assert "Before you compare" in page
    assert "Evaluated on different splits" in page
    assert "training.<wbr>seed" in page
    assert page.count("<svg") == 2
    for label in reports[0]["evaluation"]["labels"]:
        assert f"<td>{label}</td>" in page
    links = page.replace("http://www.w3.org", "").replace("http://purl.org", "")
    for address in ("https://matplotlib.org/", "http://creativecommons.org"):
        links = links.replace(address, "")
    assert "http" not in links, "one file, without links to anywhere"


def test_repetitions_together(built: Path, again: Path, seeded: Path) -> None:
    result = edgecls("compare", built, again, seeded, "--json")
    assert result.exit_code == 0, result.output
    reported = json.loads(result.stdout)
    assert (reported["schema"], reported["type"]) == (1, "comparison")
    assert [run["path"] for run in reported["runs"]] == [str(built), str(again), str(seeded)]
    (group,) = reported["groups"]
    assert group["runs"] == [str(built), str(again)]
    assert group["seeds"] == [0, 1]
    assert group["accuracy"] == {"mean": reported["runs"][0]["accuracy"], "sd": 0.0, "n": 2}
    assert reported["differing"] == {"training.seed": ["0", "1", "7"]}
    assert len(reported["warnings"]) == 1
    result = edgecls("compare", built, again)
    assert "mean ± standard deviation" in result.stdout
    assert "(2 seeds)" in result.stdout
    assert result.stderr == ""


def test_a_report_of_an_earlier_version(built: Path, tmp_path: Path) -> None:
    kept = ("split", "n", "accuracy", "labels", "confusion")
    report = json.loads((built / "report.json").read_text())
    old = {key: report["evaluation"][key] for key in kept}
    earlier = _changed(
        built, tmp_path / "earlier", {"evaluation": old, "architecture": None, "validation": None}
    )
    result = edgecls("compare", built, earlier, "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    row = _table(result)[2]
    assert row[0] == "earlier"
    assert row.count("-") >= 5
    assert "<td>-</td>" in (tmp_path / "page.html").read_text("utf-8")


def test_names_and_labels_are_escaped(built: Path, tmp_path: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    evil = "<script>alert(1)</script> $x_1$ & more"
    labels = [evil, *report["evaluation"]["labels"][1:]]
    runs = [
        _changed(
            built,
            tmp_path / name,
            {"evaluation.labels": labels, "recipe.name": f"{evil} {place}", "name": evil},
        )
        for place, name in enumerate(("<img src=x onerror=alert(2)>", "b\udcff"))
    ]
    out = tmp_path / "page.html"
    result = edgecls("compare", *runs, "--out", out)
    assert result.exit_code == 0, result.output
    page = out.read_text("utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;img src=x" in page


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A second run that is identical to the first."""
    return _changed(built, tmp_path / "copy", {})


def test_what_is_no_finished_run(built: Path, copy: Path, tmp_path: Path) -> None:
    result = edgecls("compare", built, tmp_path / "missing")
    assert result.exit_code == 2
    assert "there is no such run directory; edgecls train makes one" in result.stderr
    (tmp_path / "empty").mkdir()
    result = edgecls("compare", built, tmp_path / "empty")
    assert result.exit_code == 2
    assert "empty: not a run directory" in result.stderr
    result = edgecls("compare", built, built / "model.keras")
    assert result.exit_code == 2
    assert "a file, not a run directory" in result.stderr
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(built / "recipe.toml", unfinished)
    result = edgecls("compare", built, unfinished)
    assert result.exit_code == 1
    assert "unfinished run, it has no report.json" in result.stderr
    assert "--resume" in result.stderr
    (copy / "report.json").write_bytes((built / "report.json").read_bytes()[:1000])
    result = edgecls("compare", built, copy)
    assert result.exit_code == 1
    assert "report.json: damaged" in result.stderr


def test_runs_of_different_classes(built: Path, tmp_path: Path) -> None:
    labels = json.loads((built / "report.json").read_text())["evaluation"]["labels"]
    other = _changed(built, tmp_path / "b", {"evaluation.labels": [*labels[:2], "cow", labels[3]]})
    result = edgecls("compare", built, other, "--out", tmp_path / "page.html")
    assert result.exit_code == 1
    assert (
        f"{built} and {other} have different classes: label 2 is {labels[2]!r} in the first and "
        "'cow' in the second"
    ) in result.stderr
    assert not (tmp_path / "page.html").exists()


def test_runs_on_different_data(built: Path, tmp_path: Path) -> None:
    other = _changed(built, tmp_path / "b", {"data.fingerprint": "0" * 64})
    result = edgecls("compare", built, other, "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert "Warning: Different data sets, by their fingerprints" in result.stderr
    assert "Different data sets" in (tmp_path / "page.html").read_text("utf-8")


def test_one_run_is_not_enough_nor_twice_the_same(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = edgecls("compare")
    assert result.exit_code == 2
    result = edgecls("compare", built)
    assert result.exit_code == 2
    assert "expected two or more; name a second" in result.stderr
    result = edgecls("compare", built, built)
    assert result.exit_code == 2
    assert "this run is given twice; name each run once" in result.stderr
    (tmp_path / "link").symlink_to(built)
    result = edgecls("compare", built, tmp_path / "link")
    assert result.exit_code == 2
    assert f"given twice, also as {built}" in result.stderr
    monkeypatch.chdir(built)
    assert "twice" in edgecls("compare", ".", built).stderr


def test_a_folder_in_the_way_of_the_page(built: Path, copy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = edgecls("compare", built, copy, "--out", tmp_path)
    assert result.exit_code == 2
    result = edgecls("compare", built, copy, "--out", tmp_path / "file" / "page.html")
    assert result.exit_code == 1
    assert "could not be written" in result.stderr
