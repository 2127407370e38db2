"""TFLite Metadata: ours, third-party, and damaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import flatbuffers
import numpy as np
import pytest

from edge_sdk.artifact.tflite import Metadata, read_metadata, summarize
from edge_sdk.errors import CorruptArtifactError
from edge_sdk.vision.tensors import RAW, SYMMETRIC, Normalization

_NORMALIZATION_OPTIONS, _SCORE_CALIBRATION_OPTIONS = 1, 2
_DESCRIPTIONS, _AXIS_LABELS, _VALUE_LABELS = 1, 2, 3


@dataclass(frozen=True)
class _Content:
    """What to write; the defaults are an image classifier with labels and a range."""

    mean: Sequence[float] = (127.5,)
    std: Sequence[float] = (127.5,)
    process: int = _NORMALIZATION_OPTIONS
    output_files: Sequence[tuple[str, int]] = (("labels.txt", _AXIS_LABELS),)
    model_files: Sequence[str] = ()
    with_graph: bool = True


def _table(builder: flatbuffers.Builder, fields: dict[int, int], enums: dict[int, int]) -> int:
    builder.StartObject(8)
    for field, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, value in enums.items():
        builder.PrependInt8Slot(field, value, 0)
    return int(builder.EndObject())


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _written(content: _Content) -> bytes:
    """A metadata flatbuffer; the numbers are those of the public ``metadata_schema.fbs``."""
    builder = flatbuffers.Builder(256)

    def files(entries: Sequence[tuple[str, int]]) -> int:
        tables = [_table(builder, {0: builder.CreateString(n)}, {2: kind}) for n, kind in entries]
        return _vector(builder, tables)

    mean, std = (
        builder.CreateNumpyVector(np.array(values, "<f4")) for values in (content.mean, content.std)
    )
    options = _table(builder, {0: mean, 1: std}, {})
    unit = _table(builder, {1: options}, {0: content.process})
    picture = _table(builder, {4: _vector(builder, [unit])}, {})
    answer = _table(builder, {6: files(content.output_files)}, {})
    graph = _table(builder, {2: _vector(builder, [picture]), 3: _vector(builder, [answer])}, {})
    root = {
        0: builder.CreateString("a model"),
        1: builder.CreateString("what it knows"),
        6: files([(name, 0) for name in content.model_files]),
    }
    if content.with_graph:
        root[3] = _vector(builder, [graph])
    builder.Finish(_table(builder, root, {}), b"M001")
    return bytes(builder.Output())


def _metadata_of(path: Path) -> Metadata | None:
    buffer = summarize(path.read_bytes(), str(path)).metadata
    return None if buffer is None else read_metadata(buffer, str(path))


@pytest.mark.parametrize("format_", ["int8", "float16"])
def test_our_artifacts_say_what_mediapipe_asks_for(
    format_: str, request: pytest.FixtureRequest
) -> None:
    metadata = _metadata_of(request.getfixturevalue(f"{format_}_artifact"))
    assert metadata is not None
    assert metadata.name == "digits"
    assert "handwritten digits" in metadata.description
    assert metadata.normalization == RAW
    assert set(metadata.files) == {"labels.txt", "edgecls.json"}
    assert metadata.labels_file == "labels.txt"


@pytest.mark.parametrize(
    ("name", "labels_file"),
    [
        ("mobilenet_v1_0.25_128_quant", "imagenet_labels.txt"),
        ("mobilenet_v1_0.25_224_1_metadata_1", "labels.txt"),
        ("mobilenet_v2_1.0_224_quant", "imagenet_labels.txt"),
        ("tf2_mobilenet_v2_1.0_224_ptq", "imagenet_labels.txt"),
    ],
)
def test_public_models_name_their_labels_and_their_range(
    name: str, labels_file: str, public_data: Path
) -> None:
    metadata = _metadata_of(public_data / "models" / f"{name}.tflite")
    assert metadata is not None
    assert metadata.labels_file == labels_file
    assert metadata.files == (labels_file,)
    assert metadata.normalization == SYMMETRIC


@pytest.mark.parametrize("name", ["mlperf_tiny_resnet8_int8", "teachable_machine_quant"])
def test_a_model_without_metadata_has_none(name: str, public_data: Path) -> None:
    assert _metadata_of(public_data / "models" / f"{name}.tflite") is None


def test_what_was_written_is_read() -> None:
    content = _Content(model_files=("readme.md",), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    assert read_metadata(_written(content), "x") == Metadata(
        name="a model",
        description="what it knows",
        normalization=Normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),
        files=("readme.md", "labels.txt"),
        labels_file="labels.txt",
    )


def test_the_first_file_of_axis_labels_holds_the_labels() -> None:
    files = (
        ("about.txt", _DESCRIPTIONS),
        ("values.txt", _VALUE_LABELS),
        ("english.txt", _AXIS_LABELS),
        ("deutsch.txt", _AXIS_LABELS),
    )
    metadata = read_metadata(_written(_Content(output_files=files)), "x")
    assert metadata.labels_file == "english.txt"
    assert metadata.files == ("about.txt", "values.txt", "english.txt", "deutsch.txt")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(_Content(with_graph=False), id="no graph"),
        pytest.param(
            _Content(process=_SCORE_CALIBRATION_OPTIONS, output_files=()), id="another process"
        ),
    ],
)
def test_what_is_not_said_is_none(content: _Content) -> None:
    metadata = read_metadata(_written(content), "x")
    assert metadata.normalization is None
    assert metadata.labels_file is None
    assert metadata.files == ()


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        pytest.param((0.0,), (0.0,), id="division by zero"),
        pytest.param((0.0,), (1.0, 1.0, 1.0), id="different lengths"),
        pytest.param((0.0, 0.0), (1.0, 1.0), id="two channels"),
        pytest.param((), (), id="empty"),
        pytest.param((math.nan,), (1.0,), id="mean not a number"),
        pytest.param((0.0,), (math.nan,), id="std not a number"),
        pytest.param((math.inf,), (1.0,), id="mean infinite"),
        pytest.param((0.0,), (math.inf,), id="std infinite"),
    ],
)
def test_a_range_that_no_arithmetic_can_use_is_damage(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    with pytest.raises(CorruptArtifactError, match=r"x: its TFLite Metadata is damaged"):
        read_metadata(_written(_Content(mean=mean, std=std)), "x")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"\xff" * 64, id="all ones"),
        pytest.param(lambda data: data[: len(data) // 3], id="cut"),
    ],
)
def test_damaged_metadata_are_refused_by_name(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(CorruptArtifactError, match=r"my\.tflite: its TFLite Metadata is damaged"):
        read_metadata(damage(_written(_Content())), "my.tflite")


def test_no_altered_byte_ends_in_a_stranger_error() -> None:
    data = _written(_Content(model_files=("edgecls.json",)))
    for position in range(len(data)):
        for value in (0x00, 0x7F, 0xFF):
            altered = bytearray(data)
            altered[position] = value
            try:
                metadata = read_metadata(bytes(altered), "x")
            except CorruptArtifactError:
                continue
            assert isinstance(metadata, Metadata)
