"""Converting under a budget: the ladder, its page, and the output of the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the extra [host] is not installed")

from edge_sdk import Artifact, Classifier
from edge_sdk.errors import ConversionError
from host_tools.conversion import repair_run
from host_tools.data.load import DataPlace, load_for
from host_tools.quantize.int8 import Treatment
from host_tools.recipe import ConversionRecipe, DataRecipe, Recipe
from host_tools.repair import ladder
from host_tools.repair.ladder import latencies_ms
from host_tools.repair.report import Repaired
from host_tools.repair.rungs import RepairBudget
from host_tools.run_directory import find_trained
from tests.integration.depthwise import made_hard, separable_network
from tests.integration.host import edgecls

pytestmark = pytest.mark.computes

_PLAIN_ONLY = (("int8", "plain", Treatment("minmax", equalized=False, corrected=False)),)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``.keras`` file that plain int8 breaks."""
    model = separable_network()
    made_hard(model)
    path = tmp_path_factory.mktemp("hard") / "hard.keras"
    model.save(path)
    return path


def _repaired(
    hard: Path, digits: Path, out: Path, budget: RepairBudget, **data: Any
) -> tuple[Repaired, list[str]]:
    said: list[str] = []
    dataset = load_for(Recipe("hard", data=DataRecipe(**data)), DataPlace(digits), said.append)
    conversion = ConversionRecipe(formats=("int8",))
    repaired = repair_run(find_trained(hard), dataset, conversion, out, budget, note=said.append)
    return repaired, said


@pytest.mark.slow
def test_the_command_repairs_and_leaves_a_page(
    hard: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether int8 is slower than float32 depends on the processor; here it is not.
    monkeypatch.setattr(ladder, "latencies_ms", lambda given, *_: [1.0] * len(given))
    result = edgecls("convert", hard, "--data", digits, "--max-drop", "1", "--out", tmp_path)
    # A few dozen pictures cannot prove a drop of at most a point.
    assert result.exit_code == 4, result.output
    artifact = tmp_path / "hard_int8.tflite"
    assert result.stdout.split() == [str(artifact)]
    assert "inconclusive: " in result.stderr
    assert "equalised, biases corrected" in result.stderr
    report = json.loads((tmp_path / "hard_int8_repair.json").read_text())
    rungs = {rung["name"]: rung for rung in report["rungs"]}
    assert rungs["int8"]["agreement"] < 0.9
    assert not rungs["int8"]["holds"]
    chosen = report["rungs"][report["chosen"]]
    assert chosen["holds"]
    assert chosen["kept_float"] == []
    assert chosen["agreement"] > 0.97
    assert report["test"]["n"] > 20
    assert {layer["name"] for layer in report["layers"]} >= {"second_depthwise", "second_project"}
    page = (tmp_path / "hard_int8_repair.html").read_text()
    assert "equalised, biases corrected" in page
    assert "<svg" in page
    provenance = Artifact.open(artifact).manifest.provenance  # type: ignore[union-attr]
    assert provenance["repair"]["rung"] == chosen["name"]
    with Classifier.open(artifact) as classifier:
        classifier.classify(np.zeros((32, 32, 3), np.uint8))


@pytest.mark.slow
def test_equalised_layers_are_compared_with_equalised_ones(
    hard: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "FREE", (("equalised", "and no", Treatment()),))
    repaired, _ = _repaired(hard, digits, tmp_path, RepairBudget(5.0, slower_allowed=True))
    assert repaired.ladder.equalized
    report = json.loads((tmp_path / "hard_int8_repair.json").read_text())
    # 6 dB are one bit of eight.
    assert min(layer["sqnr_db"] for layer in report["layers"]) > 20


@pytest.mark.slow
def test_operators_go_to_float_where_nothing_else_helps(
    hard: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "FREE", _PLAIN_ONLY)
    budget = RepairBudget(1.0, slower_allowed=True)
    repaired, said = _repaired(hard, digits, tmp_path, budget)
    best = repaired.ladder.best
    assert best.holds
    assert best.format == "int8"
    assert 1 <= len(best.kept_float) <= 3
    assert set(best.kept_float) & {"second_depthwise", "second_project"}
    assert repaired.ladder.sensitive[0].gain > 0.3
    assert any("operators in float: drop" in line for line in said)


@pytest.mark.slow
def test_float16_is_the_end_where_time_is_up(
    hard: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    monkeypatch.setattr(
        ladder, "latencies_ms", lambda given, _: measured.append(1) or [1.0] * len(given)
    )
    repaired, _ = _repaired(hard, digits, tmp_path, RepairBudget(1.0, seconds=1e-9))
    # Neither the other treatments nor the search for slow operators begin.
    assert [rung.name for rung in repaired.ladder.rungs] == ["int8", "float16"]
    assert len(measured) <= 3
    assert repaired.ladder.best.format == "float16"
    assert repaired.path.name == "hard_float16.tflite"
    report = json.loads((tmp_path / "hard_float16_repair.json").read_text())
    assert report["layers"] == []


def test_a_slow_kind_of_operator_is_named_and_left_in_float(
    hard: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latencies are made up here: an integer model of depthwise operators is said to be slow."""

    def made_up(flatbuffers: list[bytes], picture: Any, seconds: float = 1.0) -> list[float]:
        from edge_sdk.engines.litert import Probe

        slow = ["second_depthwise" in Probe(flatbuffer).quantization for flatbuffer in flatbuffers]
        return [9.0 if one else 3.0 for one in slow]

    monkeypatch.setattr(ladder, "latencies_ms", made_up)
    repaired, said = _repaired(hard, digits, tmp_path, RepairBudget(1.0))
    assert set(repaired.ladder.blamed) == {"DEPTHWISE_CONV_2D"}
    assert repaired.ladder.best.name == "DEPTHWISE_CONV_2D in float"
    assert set(repaired.ladder.best.kept_float) == {"first_depthwise", "second_depthwise"}
    assert any("DEPTHWISE_CONV_2D in float" in line for line in said)


def test_a_repair_needs_validation_pictures(hard: Path, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no validation pictures"):
        _repaired(hard, digits, tmp_path, RepairBudget(1.0), validation=0.0)


@pytest.mark.parametrize(
    "more",
    [("--max-drop", "1"), ("--max-drop", "1", "--data", "DATA", "--format", "float16")],
    ids=["no data", "another format"],
)
def test_what_cannot_be_repaired_is_a_usage_error(
    more: tuple[str, ...], hard: Path, digits: Path
) -> None:
    given = [digits if word == "DATA" else word for word in more]
    result = edgecls("convert", hard, *given)
    assert result.exit_code == 2
    assert "--max-drop repairs the int8 artifact" in result.stderr


def test_a_budget_of_classes_alone_is_a_usage_error(hard: Path, digits: Path) -> None:
    result = edgecls("convert", hard, "--data", digits, "--max-class-drop", "5")
    assert result.exit_code == 2
    assert "add --max-drop" in result.stderr


@pytest.mark.slow
def test_a_rung_holds_only_if_every_class_does(
    hard: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "FREE", _PLAIN_ONLY)
    monkeypatch.setattr(ladder, "_MOST_FLOAT", 0.0)
    monkeypatch.setattr("host_tools.conversion._fine_tuned_graph", lambda *_: None)
    lenient = RepairBudget(100.0, slower_allowed=True)
    assert _repaired(hard, digits, tmp_path, lenient)[0].ladder.best.format == "int8"
    strict = RepairBudget(100.0, slower_allowed=True, max_class_drop=1.0)
    repaired, _ = _repaired(hard, digits, tmp_path, strict)
    plain, last = repaired.ladder.rungs
    assert plain.drop_points < 100
    assert plain.class_drop_points > 1
    assert not plain.holds
    assert last.format == "float16"
    report = json.loads((tmp_path / "hard_float16_repair.json").read_text())
    assert report["max_class_drop"] == 1
    assert report["rungs"][0]["class_drop_points"] == plain.class_drop_points


def test_among_equals_the_closer_scores_are_chosen(
    hard: Path, digits: Path, tmp_path: Path
) -> None:
    repaired, _ = _repaired(hard, digits, tmp_path, RepairBudget(5.0, slower_allowed=True))
    best = repaired.ladder.best
    equals = [r for r in repaired.ladder.rungs if r.holds and r.agreement == best.agreement]
    assert best.divergence == min(rung.divergence for rung in equals)


def test_latencies_are_those_of_the_models(built: Path) -> None:
    small = (built / "digits_int8.tflite").read_bytes()
    first, second = latencies_ms([small, small], np.zeros((32, 32, 3), np.uint8), 0.2)
    assert first > 0
    assert 0.2 < first / second < 5
