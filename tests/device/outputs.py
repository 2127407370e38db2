"""What models answer to seeded inputs, saved on one machine and compared with another's.

    python outputs.py record OUT.npz MODEL...        on both machines
    python outputs.py compare BOARD.npz REFERENCE.npz

Inputs are drawn with numpy's PCG64, the same on every architecture. What has to agree:

- int8 logits, the integers before a softmax at the end, bit for bit;
- float outputs, those of our int8 artifacts among them, within 1e-5;
- uint8 logits, of the older kind of model with one scale per tensor, within two counts. They
  are not exact; the limit is the largest difference that was seen: 1 input of 100 by one count, 2
  of 3 by at most two.

The output of a quantised softmax is reported, not judged: it differs by more (8 counts).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

_FLOAT_TOLERANCE = 1e-5
_UINT8_COUNTS = 2
# Under emulation a large model takes a second per input, a small one a tenth, and a small quantised
# one less.
_SMALL_BYTES = 500_000
_QUANTISED, _FLOAT, _LARGE = 100, 20, 3
_LOGITS = " (logits)"
_TAIL = (
    schema.BuiltinOperator.SOFTMAX,
    schema.BuiltinOperator.DEQUANTIZE,
    schema.BuiltinOperator.QUANTIZE,
)


def main() -> None:
    """Records or compares; exits 1 where two machines disagree."""
    if sys.argv[1] == "record":
        np.savez(sys.argv[2], **_answers([Path(name) for name in sys.argv[3:]]))
        return
    board, reference = (dict(np.load(name)) for name in sys.argv[2:4])
    if board.keys() != reference.keys():
        sys.exit(f"other models: {sorted(board)} and {sorted(reference)}")
    judged = {name for name in board if f"{name}{_LOGITS}" not in board or _is_float(board[name])}
    agreeing = {name for name in sorted(board) if _agree(name, board[name], reference[name])}
    if wrong := sorted(judged - agreeing):
        sys.exit(f"the machines disagree about {', '.join(wrong)}")


def _answers(models: list[Path]) -> dict[str, Any]:
    answers = {}
    for path in models:
        model = path.read_bytes()
        logits = _ending_at_the_logits(model)
        quantised = logits is not None or _output_type(model) != schema.TensorType.FLOAT32
        small = len(model) < _SMALL_BYTES
        inputs = (_QUANTISED if quantised else _FLOAT) if small else _LARGE
        answers[path.stem] = _infer(model, inputs)
        if logits is not None:
            answers[f"{path.stem}{_LOGITS}"] = _infer(logits, inputs)
    return answers


def _output_type(model: bytes) -> int:
    graph = schema.Model.GetRootAs(model).Subgraphs(0)
    return int(graph.Tensors(graph.Outputs(0)).Type())


def _infer(model: bytes, inputs: int) -> Any:
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    for seed in range(inputs):
        interpreter.set_tensor(into["index"], _input(seed, into["shape"], into["dtype"]))
        interpreter.invoke()
        answers.append(interpreter.get_tensor(out["index"])[0])
    return np.stack(answers)


def _input(seed: int, shape: Any, dtype: Any) -> Any:
    random = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        kind = np.iinfo(dtype)
        return random.integers(kind.min, kind.max, shape, dtype, endpoint=True)
    # The two ranges that float classifiers take, in turn.
    low, high = (-1, 1) if seed % 2 else (0, 255)
    return random.uniform(low, high, shape).astype(dtype)


def _ending_at_the_logits(model: bytes) -> bytes | None:
    """The model without the softmax at its end; None where that would not leave integers."""
    changed = bytearray(model)
    root = schema.Model.GetRootAs(changed)
    graph = root.Subgraphs(0)
    operators = [graph.Operators(n) for n in range(graph.OperatorsLength())]
    producers = {operator.Outputs(0): operator for operator in operators}
    last = tensor = graph.Outputs(0)
    while (operator := producers.get(tensor)) is not None:
        if root.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() not in _TAIL:
            break
        tensor = operator.Inputs(0)
    if tensor == last or graph.Tensors(tensor).Type() == schema.TensorType.FLOAT32:
        return None
    graph.OutputsAsNumpy()[0] = tensor  # a view into the copy
    return bytes(changed)


def _agree(name: str, board: Any, reference: Any) -> bool:
    if board.shape != reference.shape or board.dtype != reference.dtype:
        difference, good = (
            f"{board.dtype} {board.shape}, {reference.dtype} {reference.shape}",
            False,
        )
    elif not _is_float(reference):
        counts = np.abs(board.astype(int) - reference).reshape(len(board), -1).max(axis=1)
        difference = f"{(counts > 0).sum()} inputs differ, by {counts.max()} at most"
        good = bool(counts.max() <= (_UINT8_COUNTS if reference.dtype == np.uint8 else 0))
    else:
        largest = float(np.abs(board - reference).max())
        difference = f"at most {largest:.1e} apart"
        good = largest <= _FLOAT_TOLERANCE  # a NaN is not
    sys.stdout.write(f"{name}: {len(board)} inputs, {reference.dtype}: {difference}\n")
    return good


def _is_float(values: Any) -> bool:
    return bool(np.issubdtype(values.dtype, np.floating))


if __name__ == "__main__":
    main()
