"""What a ``.tflite`` says of itself, against LiteRT's own schema and interpreter."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_sdk.artifact.tflite import EDGETPU_OPERATOR, ModelSummary, summarize
from edge_sdk.errors import ArtifactError, CorruptArtifactError, UnsupportedArtifactError
from edge_sdk.types import Quantization, TensorSpec

# name: input, output, dtype of both, ends in a softmax, legacy weights, for the Edge TPU
_PUBLIC = {
    "mlperf_tiny_resnet8_float": (32, 10, "float32", True, False, False),
    "mlperf_tiny_resnet8_int8": (32, 10, "int8", True, False, False),
    "mobilenet_v1_0.25_128_quant": (128, 1001, "uint8", True, True, False),
    "mobilenet_v1_0.25_128_quant_edgetpu": (128, 1001, "uint8", False, False, True),
    "mobilenet_v1_0.25_224_1_metadata_1": (224, 1001, "float32", True, False, False),
    "mobilenet_v2_1.0_224_quant": (224, 1001, "uint8", True, True, False),
    "mobilenet_v2_1.0_224_quant_edgetpu": (224, 1001, "uint8", False, False, True),
    "teachable_machine_quant": (224, 2, "uint8", False, False, True),
    "tf2_mobilenet_v2_1.0_224_ptq": (224, 1001, "uint8", True, False, False),
}
_SOFTMAX, _DEQUANTIZE, _RESHAPE, _LOGISTIC, _ADD, _CONV = 25, 6, 22, 14, 0, 3


@pytest.fixture(scope="module")
def schema() -> ModuleType:
    return pytest.importorskip(
        "ai_edge_litert.schema_py_generated", reason="the extra [host] is not installed"
    )


def _model(schema: ModuleType, operators: list[tuple[int, list[int], list[int]]]) -> Any:
    """A model of one byte per tensor; operators are (code, inputs, outputs), the last one answers."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], []
    graph.tensors, graph.operators = [], []
    for index in range(1 + max(i for _, ins, outs in operators for i in (*ins, *outs))):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = np.array([1, 4], np.int32), 0, f"t{index}"
        graph.tensors.append(tensor)
    for position, (code, inputs, outputs) in enumerate(operators):
        operator_code = schema.OperatorCodeT()
        operator_code.builtinCode, operator_code.deprecatedBuiltinCode = code, min(code, 127)
        model.operatorCodes.append(operator_code)
        operator = schema.OperatorT()
        operator.opcodeIndex = position
        operator.inputs, operator.outputs = (
            np.array(tensors, np.int32) for tensors in (inputs, outputs)
        )
        graph.operators.append(operator)
    graph.inputs, graph.outputs = (
        np.array(tensors, np.int32) for tensors in (operators[0][1], operators[-1][2])
    )
    model.subgraphs = [graph]
    return model


def _packed(model: Any) -> bytes:
    from host_tools.tflite import pack_model

    return pack_model(model)


def _public_summary(public_data: Path, name: str) -> ModelSummary:
    path = public_data / "models" / f"{name}.tflite"
    return summarize(path.read_bytes(), str(path))


def test_operators_have_the_names_of_litert_schema(schema: ModuleType) -> None:
    codes = {
        number: name
        for name, number in vars(schema.BuiltinOperator).items()
        if not name.startswith("_")
    }
    model = _model(schema, [(code, [0], [1]) for code in codes])
    names = dict.fromkeys(codes.values(), 1)
    assert summarize(_packed(model), "all").operators == names


def test_a_custom_operator_goes_by_its_own_name(schema: ModuleType) -> None:
    model = _model(schema, [(32, [0], [1])])
    model.operatorCodes[0].customCode = "my-op"
    assert summarize(_packed(model), "custom").operators == {"my-op": 1}


def test_an_operator_of_a_newer_schema_is_counted_by_its_number(schema: ModuleType) -> None:
    model = _model(schema, [(5000, [0], [1])])
    assert summarize(_packed(model), "newer").operators == {"BUILTIN_5000": 1}


def test_an_old_file_names_its_operators_in_the_first_field_alone(schema: ModuleType) -> None:
    model = _model(schema, [(_SOFTMAX, [0], [1])])
    model.operatorCodes[0].builtinCode = 0
    assert summarize(_packed(model), "old").operators == {"SOFTMAX": 1}


def test_tensor_types_have_numpy_names(schema: ModuleType) -> None:
    for name in ("FLOAT32", "FLOAT16", "INT32", "UINT8", "INT64", "BOOL", "INT16", "INT8"):
        model = _model(schema, [(_ADD, [0], [1])])
        model.subgraphs[0].tensors[0].type = getattr(schema.TensorType, name)
        dtype = summarize(_packed(model), name).inputs[0].dtype
        assert np.dtype(dtype).name == name.lower()


@pytest.mark.parametrize("place", ["input", "weights"])
def test_a_tensor_type_of_a_newer_schema_is_no_damage(place: str, schema: ModuleType) -> None:
    model = _model(schema, [(_CONV, [0, 1], [2])])
    tensor = model.subgraphs[0].tensors[0 if place == "input" else 1]
    tensor.type = 100
    tensor.quantization = schema.QuantizationParametersT()
    assert summarize(_packed(model), "newer").operators == {"CONV_2D": 1}


def test_the_int8_artifact_is_summarized(int8_artifact: Path) -> None:
    summary = summarize(int8_artifact.read_bytes(), "golden")
    assert summary.inputs == (
        TensorSpec("serving_default_image:0", (1, 32, 32, 3), "uint8", Quantization(1.0, 0)),
    )
    assert summary.outputs == (TensorSpec("probabilities", (1, 10), "float32", None),)
    assert summary.operators == {
        "CONV_2D": 6,
        "DEQUANTIZE": 1,
        "FULLY_CONNECTED": 1,
        "MAX_POOL_2D": 2,
        "MEAN": 1,
        "QUANTIZE": 1,
        "SOFTMAX": 1,
    }
    assert summary.ends_in_softmax
    assert not summary.per_tensor_weights
    assert summary.metadata is not None
    assert summary.metadata[4:8] == b"M001"


def test_the_float16_artifact_is_summarized(float16_artifact: Path) -> None:
    summary = summarize(float16_artifact.read_bytes(), "golden")
    assert summary.inputs[0].dtype == summary.outputs[0].dtype == "float32"
    assert summary.inputs[0].quantization is summary.outputs[0].quantization is None
    assert summary.operators["DEQUANTIZE"] == 14
    assert summary.ends_in_softmax


def test_the_table_of_public_models_is_complete(public_data: Path) -> None:
    assert {path.stem for path in (public_data / "models").glob("*.tflite")} == set(_PUBLIC)


@pytest.mark.parametrize("name", _PUBLIC)
def test_a_public_model_is_summarized(name: str, public_data: Path) -> None:
    side, classes, dtype, softmax, legacy, edgetpu = _PUBLIC[name]
    summary = _public_summary(public_data, name)
    (input_,), (output,) = summary.inputs, summary.outputs
    assert (input_.shape, input_.dtype) == ((1, side, side, 3), dtype)
    assert (output.shape, output.dtype) == ((1, classes), dtype)
    assert (input_.quantization is None) == (dtype == "float32")
    assert summary.ends_in_softmax == softmax
    assert summary.per_tensor_weights == legacy
    assert (EDGETPU_OPERATOR in summary.operators) == edgetpu


def _details(data: bytes) -> tuple[TensorSpec, TensorSpec]:
    litert = pytest.importorskip(
        "ai_edge_litert.interpreter", reason="the extra [host] is not installed"
    )
    interpreter = litert.Interpreter(model_content=data)

    def spec(details: dict[str, Any]) -> TensorSpec:
        scale, zero_point = details["quantization"]
        return TensorSpec(
            details["name"],
            tuple(int(side) for side in details["shape"]),
            np.dtype(details["dtype"]).name,
            Quantization(scale, zero_point) if scale else None,
        )

    return spec(interpreter.get_input_details()[0]), spec(interpreter.get_output_details()[0])


@pytest.mark.parametrize("format_", ["int8", "float16"])
def test_litert_sees_the_same_tensors_in_our_artifacts(
    format_: str, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(f"{format_}_artifact").read_bytes()
    summary = summarize(data, "golden")
    assert (*summary.inputs, *summary.outputs) == _details(data)


@pytest.mark.parametrize("name", [name for name, row in _PUBLIC.items() if not row[-1]])
def test_litert_sees_the_same_tensors_in_public_models(name: str, public_data: Path) -> None:
    summary = _public_summary(public_data, name)
    data = (public_data / "models" / f"{name}.tflite").read_bytes()
    assert (*summary.inputs, *summary.outputs) == _details(data)


@pytest.mark.parametrize(
    ("operators", "probability"),
    [
        pytest.param([(_SOFTMAX, [0], [1])], True, id="softmax"),
        pytest.param([(_LOGISTIC, [0], [1])], True, id="logistic"),
        pytest.param([(_SOFTMAX, [0], [1]), (_DEQUANTIZE, [1], [2])], True, id="dequantized"),
        pytest.param([(_SOFTMAX, [0], [1]), (_RESHAPE, [1], [2])], True, id="reshaped"),
        pytest.param([(_SOFTMAX, [0], [1]), (_ADD, [1, 1], [2])], False, id="softmax then add"),
        pytest.param([(_ADD, [0, 0], [1]), (_RESHAPE, [1], [2])], False, id="no softmax"),
        pytest.param([(_SOFTMAX, [0], [1]), (_ADD, [0, 0], [2])], False, id="softmax aside"),
        pytest.param([(_RESHAPE, [0], [1]), (_RESHAPE, [1], [1])], False, id="in a circle"),
        pytest.param([(_RESHAPE, [], [0])], False, id="from nothing"),
    ],
)
def test_a_probability_is_known_by_what_makes_it(
    operators: list[tuple[int, list[int], list[int]]], probability: bool, schema: ModuleType
) -> None:
    summary = summarize(_packed(_model(schema, operators)), "made")
    assert summary.ends_in_softmax == probability


def test_a_file_without_the_mark_is_no_model() -> None:
    with pytest.raises(CorruptArtifactError, match=r"x\.tflite: not a TensorFlow Lite model"):
        summarize(b"GIF89a" * 100, "x.tflite")


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0TFL", b"\0\0\0\0TFL3"], ids=["0", "7", "8 bytes"])
def test_next_to_nothing_is_a_damaged_model(data: bytes) -> None:
    with pytest.raises((CorruptArtifactError, UnsupportedArtifactError)):
        summarize(data, "x")


def test_a_model_without_a_graph_is_not_supported(schema: ModuleType) -> None:
    model = _model(schema, [(_ADD, [0], [1])])
    model.subgraphs = []
    with pytest.raises(UnsupportedArtifactError, match="without a graph"):
        summarize(_packed(model), "x")


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("index", [-1, 2, 2**31 - 1], ids=["negative", "one beyond", "far"])
def test_a_border_that_is_no_tensor_is_damage(side: str, index: int, schema: ModuleType) -> None:
    model = _model(schema, [(_ADD, [0], [1])])
    setattr(model.subgraphs[0], side, np.array([index], np.int32))
    with pytest.raises(CorruptArtifactError):
        summarize(_packed(model), "x")


def test_weights_beyond_the_end_of_the_file_are_noticed(int8_artifact: Path) -> None:
    data = int8_artifact.read_bytes()
    for end in range(100, 87_824, 4_001):
        with pytest.raises(ArtifactError):
            summarize(data[:end], "cut")


def test_what_is_appended_to_a_model_does_no_harm(int8_artifact: Path) -> None:
    data = int8_artifact.read_bytes()
    assert summarize(data, "x") == summarize(data + bytes(1000), "x")


def test_no_flipped_bit_ends_in_a_stranger_error(int8_artifact: Path) -> None:
    data = int8_artifact.read_bytes()
    random = np.random.default_rng(5)
    for at, bit in zip(random.integers(0, 87_824, 300), random.integers(0, 8, 300), strict=True):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(bit)
        try:
            summary = summarize(bytes(flipped), "flipped")
        except ArtifactError:
            continue
        assert isinstance(summary, ModelSummary)


def test_a_tensor_of_thousands_of_dimensions_is_refused(schema: ModuleType) -> None:
    model = _model(schema, [(_ADD, [0], [1])])
    model.subgraphs[0].tensors[1].shape = np.full(9, 1 << 30, np.int32)
    with pytest.raises(CorruptArtifactError, match="9 dimensions"):
        summarize(_packed(model), "x")


def test_a_model_of_a_thousand_operators_is_read(schema: ModuleType) -> None:
    model = _model(schema, [(_ADD, [i, i], [i + 1]) for i in range(1000)])
    assert summarize(_packed(model), "deep").operators == {"ADD": 1000}
