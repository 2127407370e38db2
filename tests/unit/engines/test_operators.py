"""Which operators XNNPACK takes, asked of the real runtime and of made-up graphs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.engines.operators import Delegated, _count, xnnpack_share


def _node(name: str, inputs: list[int], outputs: list[int]) -> dict[str, object]:
    return {"op_name": name, "inputs": inputs, "outputs": outputs}


def test_all_but_the_first_operator_of_an_int8_model(int8_artifact: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="the package of a device is not installed")
    model = int8_artifact.read_bytes()
    share = xnnpack_share(model, "litert")
    assert share is not None
    assert (share.operators, share.delegated, share.parts) == (13, 12, 1)
    assert share.left == ("QUANTIZE",)
    assert share.used
    assert share.note == ""


@pytest.mark.parametrize("backend", ["litert-noxnnpack", "onnx", "edgetpu:usb:0"])
def test_other_backends(int8_artifact: Path, backend: str) -> None:
    assert xnnpack_share(int8_artifact.read_bytes(), backend) is None


def test_what_the_runtime_refuses_is_not_known() -> None:
    assert xnnpack_share(b"no model", "litert") is None


def test_a_model_of_which_little_runs_inside_is_noted() -> None:
    # int16x8 models: the softmax alone, while the runtime prints that XNNPACK was created.
    share = Delegated(13, 1, 1, ("QUANTIZE", "CONV_2D", "A", "B", "C", "D", "E"))
    assert share.used
    assert share.note == (
        "XNNPACK runs 1 of 13 operators; the interpreter's slower kernels run the rest: "
        "QUANTIZE, CONV_2D, A, B, C, D, …"
    )


def test_a_graph_that_fell_into_pieces() -> None:
    operators = [
        *(_node("CONV_2D", [0, 10, 11], [1]), _node("ADD", [1, 0], [2])),
        *(
            _node("CUSTOM", [2], [3]),
            _node("CONV_2D", [3, 12, -1], [4]),
            _node("SOFTMAX", [4], [5]),
        ),
    ]
    pieces = [_node("DELEGATE", [0, 10, 11], [2]), _node("DELEGATE", [3, 12], [4])]
    share = _count(operators, pieces)
    assert (share.operators, share.delegated, share.parts) == (5, 3, 2)
    assert share.left == ("CUSTOM", "SOFTMAX")
    assert _count(operators, []).delegated == 0
