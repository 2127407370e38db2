"""The arithmetic behind the benchmarks' tables: ratios, targets, who loses, what is kept."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra [host] is not installed")

from benchmarks.peers.contestants import MEDIAPIPE, OURS_CENTER, RAW
from benchmarks.peers.measure import (
    Measured,
    WrongAnswerError,
    check,
    size_mb,
    versions,
)
from benchmarks.peers.onnx_model import rewrite
from benchmarks.peers.table import markdown, rows_of, targets_of, to_json
from benchmarks.reference_file import compact, reference_for
from edge_sdk.machine.facts import read_machine
from edge_sdk.plain import to_plain

_ROUNDS = 20


def _measured(ms: float, cold_ms: float, rss_mb: float, load: np.ndarray) -> Measured:
    """A contestant of this latency on a machine that is ``load`` times slower in each round."""
    return Measured(
        blocks_ms=[[ms * slow * part for part in (0.9, 1.0, 5.0)] for slow in load],
        cpu_ms=[ms] * len(load),
        cold_start_ms=[cold_ms] * 6,
        peak_rss_mb=[rss_mb] * 6,
        install_mb=100.0,
    )


def _field(ours_ms: float = 4.3) -> dict[str, Measured]:
    load = np.random.default_rng(0).uniform(1, 10, _ROUNDS)
    return {
        OURS_CENTER.name: _measured(ours_ms, 100, 80, load),
        MEDIAPIPE.name: _measured(5.2, 500, 160, load),
        RAW.name: _measured(4.0, 90, 50, load),
    }


def test_ratios_are_those_within_each_round_however_the_load_changes() -> None:
    rows = {row.name: row for row in rows_of(_field())}
    assert rows[OURS_CENTER.name].ratio == pytest.approx(4.3 / 4.0)
    assert rows[MEDIAPIPE.name].ratio == pytest.approx(1.3)
    interval = rows[MEDIAPIPE.name].ratio_ci95
    assert interval == (pytest.approx(1.3), pytest.approx(1.3))
    assert [row.ratio for row in rows_of(_field())] == sorted(row.ratio for row in rows.values())


def test_targets_are_judged_one_by_one() -> None:
    assert [t.met for t in targets_of(rows_of(_field()))] == [True, True, True]
    assert [t.met for t in targets_of(rows_of(_field(ours_ms=4.5)))] == [False, True, True]
    field = _field()
    field[MEDIAPIPE.name].cold_start_ms = [399.0]
    field[MEDIAPIPE.name].peak_rss_mb = [159.0]
    assert [t.met for t in targets_of(rows_of(field))] == [True, False, False]
    del field[MEDIAPIPE.name]
    assert len(targets_of(rows_of(field))) == 1


def test_the_table_says_where_we_lose() -> None:
    rows = rows_of(_field())
    table = markdown(rows, targets_of(rows)).splitlines()
    assert next(line for line in table if line.startswith(f"| {RAW.name}")).endswith(
        "| latency, cold start, memory |"
    )
    assert next(line for line in table if line.startswith(f"| {MEDIAPIPE.name}")).endswith("|  |")
    assert "ratio_ci95" in json.dumps(to_json(rows, targets_of(rows)))


@pytest.mark.parametrize(
    ("label", "score", "right"), [("cat", 0.6, True), ("cat", 0.5, False), ("dog", 0.8, False)]
)
def test_another_answer_is_not_timed(label: str, score: float, right: bool) -> None:
    answers, expected = [[[label, score], ["owl", 0.1]]], [[["cat", 0.8], ["dog", 0.1]]]
    if right:
        check("a peer", answers, expected)
    else:
        with pytest.raises(WrongAnswerError, match=re.escape(f"'{label}' ({score:.2f})")):
            check("a peer", answers, expected)


def test_an_installation_is_weighed_without_pip(tmp_path: Path) -> None:
    for name, size in (("numpy/core.so", 3_000_000), ("pip/main.py", 9_000_000)):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(bytes(size))
    (tmp_path / "numpy-2.4.6.dist-info").mkdir()
    (tmp_path / "pip-24.0.dist-info").mkdir()
    assert size_mb(tmp_path) == 3.0
    assert versions(tmp_path) == {"numpy": "2.4.6"}


def _figures() -> dict[str, Any]:
    rows = {
        "datetime": "2026-11-21T10:00:00+00:00",
        "machine_info": {"edgecls": to_plain(read_machine())},
        "benchmarks": [
            {
                "group": "decode",
                "name": "test_imread",
                "stats": {"median": 0.002, "q1": 0.001, "q3": 0.003, "rounds": 50},
            }
        ],
    }
    ratios = {"date": "2026-11-21", "load_before_and_after": [0, 1], "rows": [], "modules": {}}
    return compact(rows, ratios)


def test_kept_figures_are_found_again_on_the_same_machine_only(tmp_path: Path) -> None:
    figures = _figures()
    assert figures["groups"]["decode"]["imread"] == {
        "median_us": 2000.0,
        "quartiles_us": [1000.0, 3000.0],
        "rounds": 50,
    }
    machine = read_machine()
    assert reference_for(machine, tmp_path) is None
    (tmp_path / "older.json").write_text('{"rows": []}')
    (tmp_path / "this.json").write_text(json.dumps(figures))
    assert reference_for(machine, tmp_path) == figures
    assert reference_for(replace(machine, cores=machine.cores + 1), tmp_path) is None


def test_onnx_rewritings_change_no_answer() -> None:
    import onnxruntime

    model = _quantised_relu6()
    pixels = np.random.default_rng(0).normal(3, 4, (1, 8)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"x": pixels})[0]
        for m in (model, rewrite(model))
    ]
    np.testing.assert_array_equal(*answers)
    kinds = [node.op_type for node in rewrite(model).graph.node]
    assert kinds == ["QuantizeLinear", "DequantizeLinear"]


def _quantised_relu6() -> Any:
    """Clip to 0..6, then int8 with exactly that range."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "low": np.float32(0),
        "high": np.float32(6),
        "scale": np.float32(6 / 255),
        "zero": np.int8(-128),
    }
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["clipped"]),
        helper.make_node("QuantizeLinear", ["clipped", "scale", "zero"], ["stored"]),
        helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 8)) for name in "xy"]
    tensors = [numpy_helper.from_array(np.array(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "relu6", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
