"""The Edge TPU check: each reason by a graph that has it, what is mapped together, damaged files."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert", reason="the extra [host] is not installed")

from edge_sdk.artifact.container import read_container
from edge_sdk.artifact.tflite import summarize
from edge_sdk.engines import open_engine
from edge_sdk.errors import ArtifactError, ConversionError, CorruptArtifactError
from host_tools.edgetpu import check as check_module
from host_tools.edgetpu.artifact import one_scale_per_dense
from host_tools.edgetpu.check import OperatorVerdict, check
from host_tools.edgetpu.rules import SUPPORTED, EdgeTpuOperator, Tensor, read_graph
from host_tools.tflite import pack_model, schema, unpack_model

_DOCUMENT = Path(__file__).parents[3] / "docs" / "edgetpu.md"
_S = schema()
_FEATURES = (1, 8, 8, 16)


class _Graph:
    """A model written by hand."""

    def __init__(self) -> None:
        self.model = _S.ModelT()
        self.model.version = 3
        self.model.description = b"by hand"
        self.model.buffers = [_S.BufferT()]
        self.model.operatorCodes = []
        self.graph = _S.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        shape: Sequence[int] = _FEATURES,
        dtype: str = "INT8",
        *,
        data: Any = None,
        scales: Sequence[float] = (0.1,),
        zero_point: int = 0,
        signature: Sequence[int] | None = None,
    ) -> int:
        tensor = _S.TensorT()
        tensor.name = f"t{len(self.graph.tensors)}".encode()
        tensor.shape = np.array(shape, np.int32)
        tensor.shapeSignature = None if signature is None else np.array(signature, np.int32)
        tensor.type = getattr(_S.TensorType, dtype)
        tensor.quantization = _S.QuantizationParametersT()
        if dtype in ("INT8", "UINT8", "INT16") and scales:
            tensor.quantization.scale = np.array(scales, np.float32)
            tensor.quantization.zeroPoint = np.array([zero_point] * len(scales), np.int64)
        if data is not None:
            buffer = _S.BufferT()
            buffer.data = np.frombuffer(np.asarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def integers(self, *values: int) -> int:
        return self.tensor((len(values),), "INT32", data=np.array(values, np.int32))

    def weights(self, shape: Sequence[int], scales: Sequence[float] = (0.02,)) -> int:
        return self.tensor(shape, data=np.ones(shape, np.int8), scales=scales)

    def operator(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: dict[str, int] | None = None,
        version: int = 1,
    ) -> None:
        code = _S.OperatorCodeT()
        number = getattr(_S.BuiltinOperator, name, None)
        if number is None:
            code.builtinCode, code.customCode = _S.BuiltinOperator.CUSTOM, name.encode()
        else:
            code.builtinCode = number
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = version
        self.model.operatorCodes.append(code)
        operator = _S.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs = np.array(inputs, np.int32)
        operator.outputs = np.array(outputs, np.int32)
        if options is not None:
            kind = options.pop("kind")
            operator.builtinOptionsType = kind
            operator.builtinOptions = _OPTIONS[kind]()
            for key, value in options.items():
                assert hasattr(operator.builtinOptions, key)
                setattr(operator.builtinOptions, key, value)
        self.graph.operators.append(operator)

    def bytes(self) -> bytes:
        self.graph.inputs = np.array([0], np.int32)
        self.graph.outputs = np.array([len(self.graph.tensors) - 1], np.int32)
        return pack_model(self.model)


_KIND = _S.BuiltinOptions
_OPTIONS = {
    _KIND.Conv2DOptions: _S.Conv2DOptionsT,
    _KIND.DepthwiseConv2DOptions: _S.DepthwiseConv2DOptionsT,
    _KIND.Pool2DOptions: _S.Pool2DOptionsT,
    _KIND.FullyConnectedOptions: _S.FullyConnectedOptionsT,
    _KIND.ConcatenationOptions: _S.ConcatenationOptionsT,
    _KIND.PackOptions: _S.PackOptionsT,
    _KIND.StridedSliceOptions: _S.StridedSliceOptionsT,
}
_RELU = 1  # ActivationFunctionType


def _one(
    name: str,
    *others: Callable[[_Graph], int],
    source: dict[str, Any] | None = None,
    output: Sequence[int] = _FEATURES,
    axis_first: bool = False,
    version: int = 1,
    dtype: str = "INT8",
    **options: int,
) -> bytes:
    """A graph of one operator between an input and an output."""
    graph = _Graph()
    x = graph.tensor(**{"dtype": dtype, **(source or {})})
    more = [make(graph) for make in others]
    y = graph.tensor(output, dtype)
    inputs = [*more, x] if axis_first else [x, *more]
    graph.operator(name, inputs, [y], options or None, version)
    return graph.bytes()


def _w(*shape: int, scales: Sequence[float] = (0.02,)) -> Callable[[_Graph], int]:
    return lambda graph: graph.weights(shape, scales)


def _i(*values: int) -> Callable[[_Graph], int]:
    return lambda graph: graph.integers(*values)


_CONV = {"kind": _KIND.Conv2DOptions, "dilationWFactor": 1, "dilationHFactor": 1}
_DENSE: dict[str, int] = {"kind": _KIND.FullyConnectedOptions}
_CASES: list[tuple[str, bytes, str, str, str]] = [
    # what it shows, the graph, the verdict, in the reason, in the remedy
    ("unsupported", _one("HARD_SWISH"), "cpu", "not supported", "ReLU6"),
    ("unknown", _one("COS"), "cpu", "not supported", "replace it"),
    ("custom", _one("MyOperator"), "cpu", "a custom operator", "replace it"),
    ("float", _one("RELU", dtype="FLOAT32"), "cpu", "works on float32", "--format int8"),
    ("16 bits", _one("ADD", dtype="INT16"), "cpu", "works on int16", "--format int8"),
    ("no scale", _one("RELU", source={"scales": ()}), "cpu", "without a scale", "--format int8"),
    ("unknown side", _one("RELU", source={"shape": (1, 0, 8, 16)}), "cpu", "no fixed size", "fix"),
    (
        "a side left open",
        _one("RELU", source={"signature": (1, -1, 8, 16)}),
        *("cpu", "no fixed size", "fix the model's input size"),
    ),
    ("open batch", _one("RELU", source={"signature": (-1, 8, 8, 16)}), "mapped", "", ""),
    ("batch of two", _one("RELU", source={"shape": (2, 8, 8, 16)}), "cpu", "more than three", "1"),
    ("float weights", _one("ADD", lambda g: g.tensor((16,), "FLOAT32", data=np.ones(16, "f4"))),
     "cpu", "its weights are floats", "--format int8"),
    ("computed weights", _one("CONV_2D", lambda g: g.tensor((16, 3, 3, 16)), **_CONV), "cpu",
     "computed, not constant", "constants"),
    ("convolution", _one("CONV_2D", _w(16, 3, 3, 16, scales=[0.1] * 16), version=3, **_CONV),
     "mapped", "", ""),
    ("dilation", _one("CONV_2D", _w(16, 3, 3, 16), **{**_CONV, "dilationHFactor": 2}), "cpu",
     "dilation is 1 across and 2 down", "same for both"),
    ("dilated depthwise", _one("DEPTHWISE_CONV_2D", _w(1, 3, 3, 16), dilationWFactor=2,
     dilationHFactor=2, kind=_KIND.DepthwiseConv2DOptions), "mapped", "", ""),
    ("fused pooling", _one("MAX_POOL_2D", kind=_KIND.Pool2DOptions, fusedActivationFunction=_RELU),
     "cpu", "fused activation", "move the activation"),
    ("pooling", _one("AVERAGE_POOL_2D", kind=_KIND.Pool2DOptions), "mapped", "", ""),
    ("dense", _one("FULLY_CONNECTED", _w(10, 16), output=(1, 10), **_DENSE), "mapped", "", ""),
    ("dense per output", _one("FULLY_CONNECTED", _w(10, 16, scales=[0.1] * 10), output=(1, 10),
     **_DENSE), "cpu", "a scale per output", "edgecls convert --edgetpu"),
    ("dense of many", _one("FULLY_CONNECTED", _w(10, 16), output=(64, 10), **_DENSE), "cpu",
     "more than one dimension", "1x1 convolution"),
    ("shuffled dense", _one("FULLY_CONNECTED", _w(10, 16), output=(1, 10), weightsFormat=1,
     **_DENSE), "cpu", "shuffled", "convert again"),
    ("global mean", _one("MEAN", _i(1, 2), output=(1, 16)), "mapped", "", ""),
    ("mean of the batch", _one("MEAN", _i(0), output=(8, 8, 16)), "cpu", "reduces the batch",
     "height, width"),
    ("maximum of the batch", _one("REDUCE_MAX", _i(-4), output=(8, 8, 16)), "cpu", "the batch",
     "height, width"),
    ("mean of six", _one("MEAN", _i(-1), source={"shape": (1, 8, 8, 6)}, output=(1, 8, 8)), "cpu",
     "averages 6 channels", "multiple of 4"),
    ("mean of sixteen", _one("MEAN", _i(3), output=(1, 8, 8)), "mapped", "", ""),
    ("pad", _one("PAD", _i(0, 0, 1, 1, 1, 1, 0, 0), output=(1, 10, 10, 16)), "mapped", "", ""),
    ("pad the batch", _one("PAD", _i(0, 1, 0, 0, 0, 0, 0, 0), output=(1, 8, 8, 16)), "cpu",
     "pads the batch", "height, width"),
    ("split", _one("SPLIT", _i(3), axis_first=True, output=(1, 8, 8, 8)), "mapped", "", ""),
    ("split the batch", _one("SPLIT", _i(0), axis_first=True), "cpu", "splits the batch", "axis"),
    ("pack", _one("PACK", kind=_KIND.PackOptions, axis=0), "cpu", "packs in the batch", "axis"),
    ("prelu per pixel", _one("PRELU", _w(8, 8, 16)), "cpu", "its alpha", "shared_axes"),
    ("prelu per channel", _one("PRELU", _w(1, 1, 16)), "mapped", "", ""),
    ("softmax", _one("SOFTMAX", source={"shape": (1, 16_000)}, output=(1, 16_000)), "mapped",
     "", ""),
    ("large softmax", _one("SOFTMAX", source={"shape": (1, 16_001)}, output=(1, 16_001)), "cpu",
     "16,000", "CPU"),
    ("slice", _one("STRIDED_SLICE", _i(0), _i(4), _i(1), kind=_KIND.StridedSliceOptions), "mapped",
     "", ""),
    ("slice by two", _one("STRIDED_SLICE", _i(0), _i(4), _i(2), kind=_KIND.StridedSliceOptions),
     "cpu", "strides are (2,)", "stride 1"),
    ("slice with a new axis", _one("STRIDED_SLICE", _i(0), _i(4), _i(1), newAxisMask=1,
     kind=_KIND.StridedSliceOptions), "cpu", "new axis", "reshape"),
    ("append ones", _one("CONCATENATION", _w(1, 8, 8, 1), kind=_KIND.ConcatenationOptions), "cpu",
     "not all zeros", "padding"),
    ("append zeros", _one("CONCATENATION", lambda g: g.tensor((1, 8, 8, 1), zero_point=3,
     data=np.full(64, 3, np.int8)), kind=_KIND.ConcatenationOptions), "mapped", "", ""),
    ("new convolution", _one("CONV_2D", _w(16, 3, 3, 16), version=6, **_CONV), "refused",
     "version 6", "older TensorFlow"),
    ("new quantize", _one("QUANTIZE", version=3), "refused", "reads up to 2", "older TensorFlow"),
    ("gelu", _one("GELU"), "refused", "refuses the whole file", "ReLU"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "verdict", "reason", "remedy"),
    [case[1:] for case in _CASES],
    ids=[case[0] for case in _CASES],
)
def test_each_limitation_has_its_reason_and_its_remedy(
    model: bytes, verdict: str, reason: str, remedy: str
) -> None:
    (found,) = check(model, "model").operators
    assert found.verdict == verdict, found
    assert reason in (found.reason or "")
    assert remedy in (found.remedy or "")
    assert (found.reason is None) == (verdict == "mapped")


def test_what_follows_an_unsupported_operator_stays_on_the_cpu() -> None:
    graph = _Graph()
    x, a, b, c, side = (graph.tensor() for _ in range(5))
    graph.operator("RELU", [x], [a])
    graph.operator("COS", [a], [b])
    graph.operator("RELU6", [b], [c])
    graph.operator("TANH", [a], [side])
    found = check(graph.bytes(), "model")
    assert [o.verdict for o in found.operators] == ["mapped", "cpu", "cpu", "mapped"]
    assert "follows COS" in (found.operators[2].reason or "")
    assert found.mapped == 2
    assert found.refused == ()


def test_a_float_input_that_the_cpu_quantises_costs_nothing_else() -> None:
    graph = _Graph()
    x = graph.tensor(dtype="FLOAT32")
    a, b = graph.tensor(), graph.tensor()
    graph.operator("QUANTIZE", [x], [a])
    graph.operator("RELU", [a], [b])
    found = check(graph.bytes(), "model")
    assert [o.verdict for o in found.operators] == ["cpu", "mapped"]
    assert found.operators[0].remedy == "convert with --io uint8"


def test_an_operator_in_float_is_not_a_matter_of_the_input() -> None:
    graph = _Graph()
    x, c, d = graph.tensor(), graph.tensor(dtype="FLOAT32"), graph.tensor(dtype="FLOAT32")
    a, b = graph.tensor(), graph.tensor()
    graph.operator("RELU", [x], [a])
    graph.operator("DEQUANTIZE", [a], [c])
    graph.operator("RELU", [c], [d])
    graph.operator("QUANTIZE", [d], [b])
    remedies = [one.remedy or "" for one in check(graph.bytes(), "model").operators]
    assert "every operator of it in 8 bits" in remedies[3]
    assert not any("--io" in remedy for remedy in remedies)


def test_our_artifact_stays_in_float_at_its_end_only(int8_artifact: Path) -> None:
    found = check(_prepared(int8_artifact), "digits")
    on_cpu = [o for o in found.operators if o.verdict != "mapped"]
    assert [o.operator for o in on_cpu] == ["DEQUANTIZE", "SOFTMAX"]
    assert all("on purpose" in (o.reason or "") and o.remedy is None for o in on_cpu)
    as_it_is = check(int8_artifact.read_bytes(), "digits")
    assert any("a scale per output" in (o.reason or "") for o in as_it_is.operators)


def test_a_float_model_ends_in_no_softmax_on_purpose(float16_artifact: Path) -> None:
    found = check(float16_artifact.read_bytes(), "digits")
    assert found.mapped == 0
    assert found.to_json("p")["compiles"] is False
    assert not any("on purpose" in (o.reason or "") for o in found.operators)


def test_weights_beyond_the_memory_of_the_edge_tpu_are_noted() -> None:
    side = 3000
    model = _one("FULLY_CONNECTED", _w(side, side), output=(1, side), **_DENSE)
    (note,) = check(model, "model").notes
    assert "9.0 MB" in note


def test_the_table_of_the_document_is_that_of_the_rules() -> None:
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \|", _DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert rows == sorted(SUPPORTED)


def test_a_compiled_model_is_not_checked_again() -> None:
    with pytest.raises(ConversionError, match="already"):
        check(_one("edgetpu-custom-op"), "model")


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant", "mobilenet_v2_1.0_224_quant"])
def test_the_check_agrees_with_what_the_real_compiler_made(public_data: Path, name: str) -> None:
    models = public_data / "models"
    compiled = summarize((models / f"{name}_edgetpu.tflite").read_bytes(), name)
    assert compiled.operators == {"edgetpu-custom-op": 1}  # all of it was mapped
    found = check((models / f"{name}.tflite").read_bytes(), name)
    assert found.mapped == len(found.operators) > 30


@given(
    able=st.lists(st.booleans(), min_size=1, max_size=12),
    edges=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20),
)
def test_the_first_stretch_is_tensorflow_lites(
    able: list[bool], edges: set[tuple[int, int]]
) -> None:
    count = len(able)
    parents = {i: {a for a, b in edges if b == i and a < i < count} for i in range(count)}
    tensors = [Tensor(i, f"t{i}", (1,), "int8", False, 1, 0, None) for i in range(count)]
    operators = tuple(
        EdgeTpuOperator(
            i, "X", False, 1, tuple(tensors[p] for p in parents[i]), (tensors[i],), None
        )
        for i in range(count)
    )
    unsupported = {i for i in range(count) if not able[i]}
    expected = _greedy_first_subset(able, parents)
    assert check_module._first_stretch(operators, unsupported) == expected


def _greedy_first_subset(able: list[bool], parents: dict[int, set[int]]) -> set[int]:
    """The first subset of delegated nodes, by the loop of TFLite's graph_info.cc."""
    done: set[int] = set()
    side = able[0]
    while len(done) < len(able):
        subset: set[int] = set()
        for node in range(len(able)):  # in the order of execution, so that one pass is enough
            if node not in done and able[node] == side and parents[node] <= done | subset:
                subset.add(node)
        if side and subset:
            return subset
        done |= subset
        side = not side
    return set()


# One scale per dense layer.


def _prepared(path: Path) -> bytes:
    container = read_container(path)
    return one_scale_per_dense(container.data[: container.model_bytes], str(path))[0]


@given(
    stored=st.lists(
        st.lists(st.integers(-127, 127), min_size=3, max_size=3), min_size=2, max_size=6
    ),
    data=st.data(),
)
def test_one_scale_rounds_by_half_a_step_at_most(
    stored: list[list[int]], data: st.DataObject
) -> None:
    outputs = len(stored)
    scale = st.floats(2**-13, 1.0, width=32)
    scales = data.draw(st.lists(scale, min_size=outputs, max_size=outputs))
    bias = data.draw(st.lists(st.integers(-(2**20), 2**20), min_size=outputs, max_size=outputs))
    graph = _Graph()
    x = graph.tensor((1, 3), scales=(0.5,))
    weights = graph.tensor((outputs, 3), data=np.array(stored, np.int8), scales=scales)
    biases = graph.tensor((outputs,), "INT32", data=np.array(bias, np.int32))
    quantization = graph.graph.tensors[biases].quantization
    quantization.scale = np.array(scales, np.float32) * np.float32(0.5)
    graph.operator(
        "FULLY_CONNECTED", [x, weights, biases], [graph.tensor((1, outputs))], dict(_DENSE)
    )
    model, changed = one_scale_per_dense(graph.bytes(), "model")
    assert changed == 1
    after = unpack_model(model).subgraphs[0].operators[0]
    tensors = unpack_model(model).subgraphs[0].tensors
    new_scale = float(tensors[after.inputs[1]].quantization.scale[0])
    assert new_scale == pytest.approx(max(np.float32(s) for s in scales))
    operator = read_graph(model, "model")[0]
    new_weights = np.frombuffer(operator.inputs[1].data, np.int8).reshape(outputs, 3) * new_scale  # type: ignore[union-attr, arg-type]
    new_bias = np.array(operator.inputs[2].integers()) * new_scale * 0.5  # type: ignore[union-attr]
    wanted = np.array(stored) * np.array(scales, np.float32)[:, np.newaxis]
    assert np.abs(new_weights - wanted).max() <= new_scale * 0.5001
    wanted_bias = np.array(bias) * np.array(scales, np.float32) * 0.5
    assert np.abs(new_bias - wanted_bias).max() <= new_scale * 0.5 * 0.51


def test_one_scale_answers_as_before(int8_artifact: Path) -> None:
    container = read_container(int8_artifact)
    assert container.manifest is not None
    before, after = container.data[: container.model_bytes], _prepared(int8_artifact)
    assert before != after
    pictures = container.manifest.selftest.pixels
    answers = []
    for model in (before, after):
        engine = open_engine(model)
        answers.append([engine.infer(p[np.newaxis]).ravel().copy() for p in pictures])
        engine.close()
    assert np.abs(np.array(answers[0]) - np.array(answers[1])).max() < 0.05
    assert one_scale_per_dense(after, "model") == (after, 0)


# Damage.


@given(data=st.data())
def test_a_damaged_model_is_refused_or_checked(data: st.DataObject, int8_artifact: Path) -> None:
    content = bytearray(int8_artifact.read_bytes())
    places = st.integers(0, 400) | st.integers(len(content) - 40_000, len(content) - 1)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    for act in (check, one_scale_per_dense):
        with contextlib.suppress(ArtifactError, ConversionError):
            act(bytes(content), "model")


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\x1c\0\0\0TFL3" + b"\xff" * 64])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptArtifactError):
        check(content, "model")


def test_verdicts_are_written_as_json() -> None:
    found = check(_one("HARD_SWISH"), "model").to_json("m.tflite")
    assert found["schema"] == 1
    assert found["type"] == "edgetpu_check"
    assert (found["n"], found["mapped"], found["compiles"]) == (1, 0, False)
    assert set(found["operators"][0]) == set(OperatorVerdict.__dataclass_fields__)
