"""ONNX files read without a runtime: ours, third-party, and damaged."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk import Artifact, Classifier
from edge_sdk.artifact import onnx
from edge_sdk.artifact import onnx as onnx_module
from edge_sdk.artifact.container import read_container
from edge_sdk.artifact.onnx import (
    PRODUCER,
    Message,
    encode_field,
    is_onnx,
    metadata_entries,
    read_onnx,
)
from edge_sdk.engines import backend_for
from edge_sdk.errors import (
    ArtifactError,
    CorruptArtifactError,
    DelegateError,
    UndescribedArtifactError,
    UnsupportedArtifactError,
    WrongBackendError,
)
from edge_sdk.types import Quantization
from edge_sdk.vision.tensors import RAW

_DIGITS = tuple("0123456789")
_FLOAT, _UINT8, _INT8 = 1, 2, 3


# Files by hand: what no exporter would write can be written so, and none is needed.


def _integer(number: int, value: int) -> bytes:
    parts = bytearray()
    for part in (number << 3, value):
        while part > 0x7F:
            parts.append(part & 0x7F | 0x80)
            part >>= 7
        parts.append(part)
    return bytes(parts)


def _value(name: str, dtype: int, shape: tuple[int | str, ...]) -> bytes:
    sides = b"".join(
        encode_field(1, _integer(1, s) if isinstance(s, int) else encode_field(2, s.encode()))
        for s in shape
    )
    tensor = _integer(1, dtype) + encode_field(2, sides)
    return encode_field(1, name.encode()) + encode_field(2, encode_field(1, tensor))


def _node(operator: str, inputs: str, outputs: str, attributes: bytes = b"") -> bytes:
    names = b"".join(encode_field(1, name.encode()) for name in inputs.split())
    names += b"".join(encode_field(2, name.encode()) for name in outputs.split())
    return names + encode_field(4, operator.encode()) + attributes


def _scalar(name: str, dtype: int, raw: bytes) -> bytes:
    return _integer(2, dtype) + encode_field(8, name.encode()) + encode_field(9, raw)


def _model(
    *nodes: bytes,
    image: bytes | None = None,
    answer: bytes | None = None,
    constants: tuple[bytes, ...] = (),
    more: bytes = b"",
) -> bytes:
    graph = b"".join(encode_field(1, node) for node in nodes)
    graph += b"".join(encode_field(5, constant) for constant in constants)
    graph += encode_field(11, image or _value("image", _FLOAT, (1, 8, 8, 3)))
    graph += encode_field(12, answer or _value("answer", _FLOAT, (1, 4)))
    return _integer(1, 8) + encode_field(2, b"by hand") + encode_field(7, graph) + more


_PLAIN = _model(_node("Gemm", "image", "logits"), _node("Softmax", "logits", "answer"))


# What a file says.


def test_the_golden_artifact(onnx_artifact: Path) -> None:
    artifact = Artifact.open(onnx_artifact)
    assert (artifact.kind, artifact.format) == ("onnx", "onnx-int8")
    assert artifact.labels == _DIGITS
    assert artifact.input.shape == (1, 32, 32, 3)
    assert (artifact.input.dtype, artifact.input.quantization) == ("uint8", Quantization(1.0, 0))
    assert (artifact.output.shape, artifact.output.dtype) == ((1, 10), "float32")
    assert artifact.normalization == RAW
    assert not artifact.logits
    assert artifact.notes == ()
    assert artifact.operators["QuantizeLinear"] > 5
    assert artifact.model_bytes < len(artifact.data)


def test_a_plain_model() -> None:
    found = read_onnx(_PLAIN, "x")
    assert found.summary.inputs[0].shape == (1, 8, 8, 3)
    assert found.summary.inputs[0].dtype == "float32"
    assert found.summary.operators == {"Gemm": 1, "Softmax": 1}
    assert found.summary.ends_in_softmax
    assert (found.producer, found.files, found.model_bytes) == ("by hand", {}, len(_PLAIN))


@pytest.mark.parametrize(
    ("nodes", "softmax"),
    [
        ((_node("Gemm", "image", "answer"),), False),
        ((_node("Softmax", "image", "s"), _node("Reshape", "s shape", "answer")), True),
        ((_node("Sigmoid", "image", "answer"),), True),
        ((_node("Softmax", "image", "s"), _node("Mul", "s two", "answer")), False),
        ((_node("Identity", "answer", "answer"),), False),  # a circle
        ((), False),
    ],
)
def test_whether_it_ends_in_a_softmax(nodes: tuple[bytes, ...], softmax: bool) -> None:
    assert read_onnx(_model(*nodes), "x").summary.ends_in_softmax is softmax


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        (("N", 8, 6, 3), (1, 8, 6, 3)),
        ((1, 3, 8, 6), (1, 8, 6, 3)),
        (("batch", 1, 8, 6), (1, 8, 6, 1)),
        ((1, 3, 8, 3), (1, 3, 8, 3)),  # both ways are possible: as it stands
    ],
)
def test_a_batch_is_one_and_channels_come_last(
    shape: tuple[int | str, ...], seen: tuple[int, ...]
) -> None:
    model = _model(image=_value("image", _FLOAT, shape))
    assert read_onnx(model, "x").summary.inputs[0].shape == seen


def test_weights_among_the_inputs_are_no_inputs() -> None:
    image = _value("image", _FLOAT, (1, 8, 8, 3))
    model = _model(image=_value("w", _FLOAT, (4,)), constants=(_scalar("w", _FLOAT, b"1234"),))
    graph = next(Message(model).children(7))
    assert len(graph.fields(11)) == 1
    assert read_onnx(model, "x").summary.inputs == ()
    assert len(read_onnx(_model(image=image), "x").summary.inputs) == 1


_SCALE = _scalar("scale", _FLOAT, struct.pack("<f", 0.5))


@pytest.mark.parametrize(
    ("node", "constants", "dtype", "expected"),
    [
        (_node("Cast", "image", "x"), (), _UINT8, Quantization(1.0, 0)),
        (_node("DequantizeLinear", "image scale", "x"), (_SCALE,), _UINT8, Quantization(0.5, 0)),
        (
            _node("DequantizeLinear", "image scale zero", "x"),
            (_SCALE, _scalar("zero", _INT8, b"\x80")),
            _INT8,
            Quantization(0.5, -128),
        ),
        (
            _node("DequantizeLinear", "image scale zero", "x"),
            (_SCALE, encode_field(8, b"zero") + _integer(5, 7)),
            _UINT8,
            Quantization(0.5, 7),
        ),
        (_node("DequantizeLinear", "image scale", "x"), (), _UINT8, None),
        (
            _node("DequantizeLinear", "image scale", "x"),
            (_scalar("scale", _FLOAT, b"8 bytes."),),
            _UINT8,
            None,
        ),
        (
            _node("DequantizeLinear", "image scale", "x"),
            (_scalar("scale", _FLOAT, struct.pack("<f", float("nan"))),),
            _UINT8,
            None,
        ),
        (_node("Conv", "image w", "x"), (), _UINT8, None),
    ],
)
def test_what_the_integers_of_an_input_stand_for(
    node: bytes, constants: tuple[bytes, ...], dtype: int, expected: Quantization | None
) -> None:
    model = _model(node, image=_value("image", dtype, (1, 8, 8, 3)), constants=constants)
    assert read_onnx(model, "x").summary.inputs[0].quantization == expected


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (_PLAIN, "x.onnx", True),
        (_PLAIN, "x.tflite", True),  # the content counts
        (b"text", "x.onnx", True),
        (b"text", "x.tflite", False),
        (b"\x08\x00\x00\x00TFL3", "x.onnx", False),
        (b"", "x", False),
    ],
)
def test_which_files_are_read_as_onnx(data: bytes, name: str, expected: bool) -> None:
    assert is_onnx(data, name) is expected


# What is refused.


def _at(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "x.onnx"
    path.write_bytes(data)
    return path


_EXTERNAL = _integer(14, 1) + encode_field(8, b"w")


@pytest.mark.parametrize(
    "model",
    [
        _model(constants=(_EXTERNAL,)),
        _model(constants=(encode_field(13, b""),)),
        _model(_node("Constant", "", "w", encode_field(5, encode_field(5, _EXTERNAL)))),
        _model(_node("If", "x", "y", encode_field(5, encode_field(6, encode_field(5, _EXTERNAL))))),
    ],
    ids=["initializer", "location", "attribute", "inner graph"],
)
def test_weights_in_other_files_are_refused(model: bytes, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArtifactError, match=r"weights are in another file.*onnx\.save"):
        Artifact.open(_at(tmp_path, model))


@pytest.mark.parametrize(
    ("image", "answer", "message"),
    [
        (_value("i", _FLOAT, (1, "h", "w", 3)), None, "its input is"),
        (_value("i", _FLOAT, (2, 8, 8, 3)), None, "its input is"),
        (_value("i", _FLOAT, (1, 8)), None, "its input is"),
        (_value("i", 10, (1, 8, 8, 3)), None, "an input of float16"),
        (_value("i", 99, (1, 8, 8, 3)), None, "an input of type 99"),
        (_value("i", _UINT8, (1, 8, 8, 3)), None, "without a single scale"),
        (None, _value("a", _FLOAT, (1, "classes")), "its output is"),
        (None, _value("a", 7, (1, 4)), "an output of int64"),
        (encode_field(1, b"i"), None, "its input is"),
    ],
)
def test_what_is_no_image_classifier_is_refused(
    image: bytes | None, answer: bytes | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedArtifactError, match=message):
        Artifact.open(_at(tmp_path, _model(image=image, answer=answer)))


def test_a_file_without_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArtifactError, match="without a graph"):
        Artifact.open(_at(tmp_path, _integer(1, 8)))


def _deep(levels: int) -> bytes:
    inner = b""
    for _ in range(levels):
        inner = encode_field(1, _node("If", "x", "y", encode_field(5, encode_field(6, inner))))
    return _integer(1, 8) + encode_field(7, inner)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"This is not a model.",
        b"\x08",
        b"\x08" + b"\xff" * 20,
        b"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a graph of 2 ** 63 bytes
        b"\x08\x08\x3a\x80\x80\x80\x80\x08",  # of 2 GiB
        b"\x08\x08\x3b",  # a group
        b"\x08\x08\x00\x00",  # field 0
        b"\x08\x08\x0d\x01",  # 4 bytes that are not there
        _deep(50),
        _model(image=_value("i", _FLOAT, (1, (1 << 64) - 8, 8, 3))),
        b"\x08\x08\x3a\x02\x0a\x09",  # a node that reaches past its graph
    ],
)
def test_damage_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"x\.onnx"):
        Artifact.open(_at(tmp_path, data))


def test_a_million_empty_fields_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_module, "_MAX_FIELDS", 1000)
    with pytest.raises(CorruptArtifactError, match="more than 1000 fields"):
        read_onnx(_integer(1, 8) + b"\x7a\x00" * 1001, "x")


def test_fields_are_counted_over_all_messages_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_module, "_MAX_FIELDS", 1000)
    node = encode_field(1, _node("Relu", "a", "b"))  # four fields
    with pytest.raises(CorruptArtifactError, match="more than 1000 fields"):
        read_onnx(_integer(1, 8) + encode_field(7, node * 300), "x")


def test_packed_integers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_module, "_MAX_FIELDS", 1000)
    with pytest.raises(ValueError, match="more than 1000 fields"):
        Message(encode_field(3, bytes(1001))).integers(3)


def test_work_does_not_grow_with_inputs_times_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each operator is looked at a fixed number of times, however many inputs ask about it."""
    looked = 0

    class Counted:
        def __init__(self, _: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
            self.inputs, self.outputs = inputs, outputs

        @property
        def operator(self) -> str:
            nonlocal looked
            looked += 1
            return "Relu"

    monkeypatch.setattr(onnx, "_Node", Counted)
    images = b"".join(encode_field(11, _value(f"i{n}", _UINT8, (1, 8, 8, 3))) for n in range(50))
    nodes = encode_field(1, _node("Relu", "a", "b")) * 50
    read_onnx(_integer(1, 8) + encode_field(7, images + nodes), "x")
    assert 50 <= looked <= 50 * 8


def test_a_tensor_of_many_dimensions_is_refused(tmp_path: Path) -> None:
    image = _value("i", _FLOAT, (1,) * 9)
    with pytest.raises(CorruptArtifactError, match="9 dimensions"):
        Artifact.open(_at(tmp_path, _model(image=image)))


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_any_bytes_are_read_or_refused(graph: bytes, behind: bytes) -> None:
    with contextlib.suppress(ArtifactError):
        read_onnx(_integer(1, 8) + encode_field(7, graph) + behind, "x", ("a",))


@given(st.integers(1, 1 << 28), st.binary(max_size=300))
def test_a_field_comes_back_as_it_was_written(number: int, body: bytes) -> None:
    assert Message(encode_field(number, body)).bodies(number) == [body]


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=20))
def test_integers_come_back_packed_or_not(values: list[int]) -> None:
    apart = b"".join(_integer(3, value) for value in values)
    packed = encode_field(3, b"".join(_integer(0, value)[1:] for value in values))
    assert Message(apart).integers(3) == Message(packed).integers(3) == values


# An artifact of ours after an accident.


def test_a_cut_artifact_is_never_a_strangers(onnx_artifact: Path, tmp_path: Path) -> None:
    data = onnx_artifact.read_bytes()
    container = read_container(onnx_artifact)
    entries = [field.start for field in Message(data).fields(14)]
    begins = [field.start for fields in range(1, 15) for field in Message(data).fields(fields)]
    assert container.model_bytes in entries
    some = [*begins[1:], *range(1, len(data), 997), len(data) - 1]
    for at in some:
        with pytest.raises((CorruptArtifactError, UnsupportedArtifactError)):
            Artifact.open(_at(tmp_path, data[:at]))


@settings(max_examples=200, deadline=None)
@given(where=st.integers(0, 1 << 20), bit=st.integers(0, 7), from_end=st.booleans())
def test_a_flipped_bit_is_found(where: int, bit: int, from_end: bool) -> None:
    path = Path(__file__).parents[2] / "golden" / "digits_onnx_int8.onnx"
    data = bytearray(path.read_bytes())
    # Half of them in what stands behind the model.
    at = len(data) - 1 - where % 5000 if from_end else where % len(data)
    data[at] ^= 1 << bit
    with pytest.raises(ArtifactError):
        _opened(bytes(data))


def _opened(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Artifact.open(_at(Path(folder), data))


_CHANGES: dict[str, Callable[[bytes, int], bytes]] = {
    "stripped": lambda data, model: data[:model],
    "something behind": lambda data, _: data + encode_field(3, b"9.9"),
    "an entry behind": lambda data, _: data + metadata_entries({"author": b"me"}),
    "entries twice": lambda data, model: data + data[model:],
    "another manifest": lambda data, _: data + metadata_entries({"edgecls.json": b"{}"}),
    "entries first": lambda data, model: data[model:] + data[:model],
    "other labels": lambda data, _: data.replace(b"0\n1\n2\n3\n", b"3\n2\n1\n0\n"),
    "another model": lambda data, model: (
        _PLAIN.replace(b"by hand", PRODUCER.encode()) + data[model:]
    ),
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
def test_a_changed_artifact_is_refused(
    change: Callable[[bytes, int], bytes], onnx_artifact: Path, tmp_path: Path
) -> None:
    data = onnx_artifact.read_bytes()
    changed = change(data, read_container(onnx_artifact).model_bytes)
    assert changed != data
    with pytest.raises(CorruptArtifactError, match=r"x\.onnx"):
        Artifact.open(_at(tmp_path, changed))


# Which backend.


def test_a_strangers_model_must_be_described(tmp_path: Path) -> None:
    path = _at(tmp_path, _PLAIN)
    with pytest.raises(UndescribedArtifactError, match="--labels"):
        Artifact.open(path).require_described()
    with pytest.raises(UndescribedArtifactError, match="--normalize"):
        Artifact.open(path, labels=_DIGITS[:4]).require_described()
    artifact = Artifact.open(path, labels=_DIGITS[:4], normalize="unit")
    artifact.require_described()
    assert "squashed" in artifact.notes[0]


def test_cpu_means_onnx_runtime_for_onnx_alone(onnx_artifact: Path, int8_artifact: Path) -> None:
    ours, other = Artifact.open(onnx_artifact), Artifact.open(int8_artifact)
    assert [backend_for(ours, name) for name in ("cpu", "onnx")] == ["onnx", "onnx"]
    assert [backend_for(other, name) for name in ("cpu", "litert")] == ["cpu", "litert"]


@pytest.mark.parametrize("backend", ["litert", "litert-noxnnpack", "tflite-runtime", "edgetpu"])
def test_an_onnx_model_is_run_by_nothing_else(backend: str, onnx_artifact: Path) -> None:
    with pytest.raises(WrongBackendError, match="--format int8"):
        Classifier.open(onnx_artifact, backend)


def test_onnx_runtime_runs_no_tflite(int8_artifact: Path) -> None:
    with pytest.raises(WrongBackendError, match="convert --format onnx"):
        Classifier.open(int8_artifact, "onnx")
    with pytest.raises(DelegateError):
        Classifier.open(int8_artifact, "edgetpu")


def test_random_damage_to_a_strangers_file_is_refused_or_read() -> None:
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(500):
        data = bytearray(_PLAIN)
        for _ in range(int(random.integers(1, 4))):
            data[int(random.integers(len(data)))] = int(random.integers(256))
        try:
            read_onnx(bytes(data), "x")
            outcomes.add("read")
        except ArtifactError as error:
            outcomes.add(type(error).__name__)
    assert {"read", "CorruptArtifactError"} <= outcomes
