"""Opening model files: ours, third-party ones, and damaged ones."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import Artifact, Classifier, EdgeClsError, read_image
from edge_sdk.artifact.container import read_container
from edge_sdk.artifact.description import parse_labels, parse_normalization, read_labels
from edge_sdk.errors import (
    ArtifactError,
    CorruptArtifactError,
    SelfTestError,
    UndescribedArtifactError,
    UnsupportedArtifactError,
)
from edge_sdk.vision.tensors import RAW, SYMMETRIC, UNIT, Encoder, Normalization

_DIGITS = tuple("0123456789")
_MODEL_BYTES = 87_824


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _with_manifest(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of an artifact of ours with another manifest."""
    container = read_container(source)
    manifest = json.loads(container.files["edgecls.json"])
    change(manifest)
    files = {**container.files, "edgecls.json": json.dumps(manifest).encode()}
    target.write_bytes(container.data[: container.model_bytes] + _zip(files))
    return target


def _foreign(source: Path, target: Path, change: Callable[[Any], None] = lambda _: None) -> Path:
    """The model of an artifact as a third-party file: no metadata, no appended files."""
    pytest.importorskip("ai_edge_litert", reason="the extra [host] is not installed")
    from host_tools.tflite import pack_model, unpack_model

    model = unpack_model(source.read_bytes())
    model.metadata = []
    change(model)
    target.write_bytes(pack_model(model))
    return target


@pytest.fixture
def foreign_int8(int8_artifact: Path, tmp_path: Path) -> Path:
    return _foreign(int8_artifact, tmp_path / "foreign_int8.tflite")


@pytest.fixture
def foreign_float(float16_artifact: Path, tmp_path: Path) -> Path:
    return _foreign(float16_artifact, tmp_path / "foreign_float.tflite")


# What an artifact of ours says.


def test_an_artifact_of_ours_says_everything(int8_artifact: Path) -> None:
    artifact = Artifact.open(int8_artifact)
    assert artifact.labels == _DIGITS
    assert artifact.normalization == RAW
    assert artifact.format == "int8"
    assert not artifact.logits
    assert not artifact.needs_edgetpu
    assert artifact.notes == ()
    assert artifact.model_bytes == _MODEL_BYTES
    assert artifact.sha256 == hashlib.sha256(int8_artifact.read_bytes()).hexdigest()
    artifact.require_described()


def test_options_for_third_party_models_are_ignored_with_a_note_for_artifacts(
    int8_artifact: Path,
) -> None:
    artifact = Artifact.open(int8_artifact, normalize="unit", crop="letterbox")
    assert artifact.normalization == RAW
    assert artifact.preprocessing.crop == "center"
    (note,) = artifact.notes
    assert "--crop and --normalize are ignored" in note


def test_our_own_labels_may_be_given_again(int8_artifact: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("\n".join(_DIGITS))
    assert Artifact.open(int8_artifact, labels=file).labels == _DIGITS


def test_other_labels_than_ours_are_refused(int8_artifact: Path) -> None:
    with pytest.raises(UndescribedArtifactError, match="other labels than those given"):
        Artifact.open(int8_artifact, labels=[f"digit {d}" for d in _DIGITS])


# What a third-party file lacks.


def test_a_foreign_file_without_labels_asks_for_them(foreign_int8: Path) -> None:
    artifact = Artifact.open(foreign_int8)
    assert artifact.labels == ()
    with pytest.raises(UndescribedArtifactError, match="--labels FILE with 10 lines"):
        artifact.require_described()
    with pytest.raises(UndescribedArtifactError, match="--labels"):
        Classifier.open(foreign_int8)


def test_a_foreign_file_without_a_known_range_asks_for_it(foreign_float: Path) -> None:
    artifact = Artifact.open(foreign_float, labels=_DIGITS)
    assert artifact.normalization is None
    with pytest.raises(UndescribedArtifactError, match=r"--normalize raw \(0\.\.255\)"):
        artifact.require_described()
    with pytest.raises(UndescribedArtifactError, match="--normalize"):
        Classifier.open(foreign_float, labels=_DIGITS)


def test_a_quantised_input_tells_its_range_itself(foreign_int8: Path) -> None:
    assert Artifact.open(foreign_int8).normalization == RAW


@pytest.mark.parametrize(
    ("text", "normalization"),
    [
        ("raw", RAW),
        ("unit", UNIT),
        ("symmetric", SYMMETRIC),
        ("1.5,2", Normalization((1.5,), (2,))),
    ],
)
def test_a_given_range_is_taken(
    text: str, normalization: Normalization, foreign_float: Path
) -> None:
    assert Artifact.open(foreign_float, normalize=text).normalization == normalization


@pytest.mark.parametrize("count", [0, 1, 9, 11])
@pytest.mark.parametrize("as_file", [True, False], ids=["file", "list"])
def test_a_wrong_number_of_labels_is_refused(
    as_file: bool, count: int, foreign_int8: Path, tmp_path: Path
) -> None:
    labels = [f"label {i}" for i in range(count)]
    file = tmp_path / "labels.txt"
    file.write_text("".join(f"{label}\n" for label in labels))
    with pytest.raises(UndescribedArtifactError, match=f"{count} labels were given for 10 scores"):
        Artifact.open(foreign_int8, labels=file if as_file else labels)


def test_what_is_assumed_of_a_foreign_file_is_said(foreign_int8: Path) -> None:
    (note,) = Artifact.open(foreign_int8).notes
    assert "squashed to 32x32" in note
    assert Artifact.open(foreign_int8, crop="center").notes == ()
    assert Artifact.open(foreign_int8, crop="center").preprocessing.crop == "center"


def test_a_foreign_file_answers_like_ours(
    foreign_int8: Path, int8_artifact: Path, digit_pictures: Path
) -> None:
    picture = read_image(next((digit_pictures / "7").glob("*.png")))
    with (
        Classifier.open(int8_artifact) as ours,
        Classifier.open(foreign_int8, labels=_DIGITS, crop="center") as third_party,
    ):
        assert (ours.classify(picture).scores == third_party.classify(picture).scores).all()


@pytest.mark.parametrize(
    ("name", "labels", "normalization", "logits", "notes"),
    [
        ("mlperf_tiny_resnet8_int8", 0, RAW, False, 1),
        ("mlperf_tiny_resnet8_float", 0, None, False, 1),
        ("mobilenet_v1_0.25_128_quant", 1001, SYMMETRIC, False, 2),
        ("mobilenet_v1_0.25_224_1_metadata_1", 1001, SYMMETRIC, False, 1),
        ("mobilenet_v2_1.0_224_quant", 1001, SYMMETRIC, False, 2),
        ("mobilenet_v2_1.0_224_quant_edgetpu", 0, SYMMETRIC, False, 1),
        ("teachable_machine_quant", 0, UNIT, False, 1),
        ("tf2_mobilenet_v2_1.0_224_ptq", 1001, SYMMETRIC, False, 1),
    ],
)
def test_a_public_model_is_understood(
    name: str,
    labels: int,
    normalization: Normalization | None,
    logits: bool,
    notes: int,
    public_data: Path,
) -> None:
    artifact = Artifact.open(public_data / "models" / f"{name}.tflite")
    assert len(artifact.labels) == labels
    assert artifact.normalization == normalization
    assert artifact.logits == logits
    assert len(artifact.notes) == notes
    assert artifact.needs_edgetpu == (name.startswith("teachable") or name.endswith("_edgetpu"))
    assert artifact.manifest is None


def test_public_label_files_are_read(public_data: Path) -> None:
    models = public_data / "models"
    assert read_labels(models / "teachable_machine_labels.txt") == ("5c", "2e")
    imagenet = read_labels(models / "imagenet_labels.txt")
    assert len(imagenet) == 1001
    assert imagenet[0] == "background"
    assert imagenet[1] == "tench, Tinca tinca"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        pytest.param("cat\ndog\n", ("cat", "dog"), id="a line each"),
        pytest.param("cat\ndog", ("cat", "dog"), id="no newline at the end"),
        pytest.param("cat\r\ndog\r\n", ("cat", "dog"), id="CRLF"),
        pytest.param("cat\ndog\n\n \n\n", ("cat", "dog"), id="trailing blank lines"),
        pytest.param("cat\n\ndog\n", ("cat", "", "dog"), id="a blank line within counts"),
        pytest.param("  cat \n\tdog\n", ("cat", "dog"), id="spaces around"),
        pytest.param("0 cat\n1 dog\n", ("cat", "dog"), id="index"),
        pytest.param("0  cat\n1  dog\n", ("cat", "dog"), id="index and two spaces, as Coral's"),
        pytest.param("0: cat\n1: dog\n", ("cat", "dog"), id="index and colon"),
        pytest.param("0\tcat\r\n1\tdog\r\n\r\n", ("cat", "dog"), id="index and tab, CRLF, blank"),
        pytest.param("0 big cat\n1 dog\n", ("big cat", "dog"), id="index and two words"),
        pytest.param("1 cat\n2 dog\n", ("1 cat", "2 dog"), id="numbers from one are names"),
        pytest.param("0 cat\n2 dog\n", ("0 cat", "2 dog"), id="numbers with a gap are names"),
        pytest.param("0 cat\ndog\n", ("0 cat", "dog"), id="one number is a name"),
        pytest.param("0\n1\n2\n", ("0", "1", "2"), id="numbers alone are names"),
        pytest.param("\ufeffcat\ndog\n", ("cat", "dog"), id="Windows' byte order mark"),
        pytest.param("\ufeff0 cat\n1 dog\n", ("cat", "dog"), id="byte order mark and index"),
        pytest.param("größe\n猫\n", ("größe", "猫"), id="not ASCII"),
        pytest.param("", (), id="empty"),
        pytest.param("\n\n", (), id="blank lines alone"),
    ],
)
def test_labels_are_read_from_a_file(text: str, labels: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(text.encode())
    assert read_labels(file) == labels


def test_labels_are_read_from_text() -> None:
    assert parse_labels("0 cat\r\n1 dog\r\n") == ("cat", "dog")


@pytest.mark.parametrize(
    "content", [None, b"\xff\xfe\x00c\x00a\x00t"], ids=["no such file", "not UTF-8"]
)
def test_a_label_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UndescribedArtifactError, match=r"--labels .*labels\.txt: cannot be read"):
        read_labels(file)


@pytest.mark.parametrize(
    ("text", "mean", "std"),
    [
        ("raw", 0, 1),
        ("unit", 0, 255),
        ("symmetric", 127.5, 127.5),
        ("0,1", 0, 1),
        ("127.5,127.5", 127.5, 127.5),
        ("128, 64.25", 128, 64.25),
        ("-1e1,-2", -10, -2),
    ],
)
def test_a_range_is_a_word_or_two_numbers(text: str, mean: float, std: float) -> None:
    assert parse_normalization(text) == Normalization((mean,), (std,))


@pytest.mark.parametrize(
    "text",
    ["", "RAW", "raws", "1", "1,2,3", "a,b", "1;2", "0,0", "nan,1", "0,nan", "inf,1", "0,inf", ","],
)
def test_a_range_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(UndescribedArtifactError, match=r"--normalize .*expected raw, unit"):
        parse_normalization(text)


def test_a_range_of_three_channels_does_not_fit_a_gray_model(
    int8_artifact: Path, tmp_path: Path
) -> None:
    def make_gray(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shape = np.array([1, 32, 32, 1], np.int32)

    path = _foreign(int8_artifact, tmp_path / "gray.tflite", make_gray)
    colours = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.5))

    def prepare() -> None:
        artifact = Artifact.open(path, labels=_DIGITS, normalize=colours)
        assert artifact.normalization is not None
        Encoder(artifact.input, artifact.normalization)(np.zeros((32, 32, 1), np.uint8))

    with pytest.raises(EdgeClsError):
        prepare()


# What is no image classifier.


def _input(shape: tuple[int, ...], dtype: int = 3, *, scales: int = 1) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        tensor = graph.tensors[graph.inputs[0]]
        tensor.shape, tensor.type = np.array(shape, np.int32), dtype
        tensor.quantization.scale = np.ones(scales, np.float32)
        tensor.quantization.zeroPoint = np.zeros(scales, np.int64)

    return change


def _output(shape: tuple[int, ...], dtype: int = 0) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        tensor = graph.tensors[graph.outputs[0]]
        tensor.shape, tensor.type = np.array(shape, np.int32), dtype

    return change


def _borders(inputs: int, outputs: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.inputs = np.repeat(graph.inputs[:1], inputs)
        graph.outputs = np.repeat(graph.outputs[:1], outputs)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(_borders(2, 1), "2 inputs and 1 outputs", id="two inputs"),
        pytest.param(_borders(0, 1), "0 inputs and 1 outputs", id="no input"),
        pytest.param(_borders(1, 4), "1 inputs and 4 outputs", id="a detector"),
        pytest.param(_borders(1, 0), "1 inputs and 0 outputs", id="no output"),
        pytest.param(_input((1, 32)), r"its input is \(1, 32\)", id="a table"),
        pytest.param(_input((1, 3, 32, 32)), r"\(1, 3, 32, 32\)", id="channels first"),
        pytest.param(_input((2, 32, 32, 3)), r"\(2, 32, 32, 3\)", id="a batch of two"),
        pytest.param(_input((1, -1, -1, 3)), r"\(1, -1, -1, 3\)", id="no fixed size"),
        pytest.param(_input((1, 0, 32, 3)), r"\(1, 0, 32, 3\)", id="no pixels"),
        pytest.param(_input((1, 32, 32, 3), 7), "an input of int16", id="16 bits in"),
        pytest.param(_input((1, 32, 32, 3), 2), "an input of int32", id="32 bits in"),
        pytest.param(_input((1, 32, 32, 3), scales=3), "single scale", id="a scale per channel"),
        pytest.param(_input((1, 32, 32, 3), scales=0), "single scale", id="no scale"),
        pytest.param(_output((1, 1)), r"its output is \(1, 1\)", id="one class"),
        pytest.param(_output((1, 10, 4)), r"\(1, 10, 4\)", id="boxes"),
        pytest.param(_output((1, 0)), r"\(1, 0\)", id="no classes"),
        pytest.param(_output((-1, -10)), r"\(-1, -10\)", id="negative sides"),
        pytest.param(_output((1, 10), 4), "an output of int64", id="64 bits out"),
    ],
)
def test_what_is_no_image_classifier_is_not_supported(
    change: Callable[[Any], None], message: str, int8_artifact: Path, tmp_path: Path
) -> None:
    path = _foreign(int8_artifact, tmp_path / "x.tflite", change)
    with pytest.raises(UnsupportedArtifactError, match=message):
        Artifact.open(path, labels=_DIGITS)


# Ours, after an accident.


def test_a_manifest_of_another_input_size_is_refused(int8_artifact: Path, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["preprocess"]["width"] = 64

    path = _with_manifest(int8_artifact, tmp_path / "x.tflite", change)
    with pytest.raises(CorruptArtifactError, match="declares a 64x32x3 input"):
        Artifact.open(path)


def test_a_manifest_of_a_newer_schema_is_refused(int8_artifact: Path, tmp_path: Path) -> None:
    path = _with_manifest(int8_artifact, tmp_path / "x.tflite", lambda m: m.update(schema=2))
    with pytest.raises(UnsupportedArtifactError, match="schema 2"):
        Artifact.open(path)


def test_unknown_keys_of_a_manifest_are_ignored(int8_artifact: Path, tmp_path: Path) -> None:
    path = _with_manifest(int8_artifact, tmp_path / "x.tflite", lambda m: m.update(later=[1]))
    with Classifier.open(path) as classifier:
        assert classifier.labels == _DIGITS


def test_a_manifest_whose_labels_are_too_few_is_refused(
    int8_artifact: Path, tmp_path: Path
) -> None:
    container = read_container(int8_artifact)
    labels = b"0\n1\n"
    manifest = json.loads(container.files["edgecls.json"])
    manifest["hashes"]["labels_sha256"] = hashlib.sha256(labels).hexdigest()
    files = {"labels.txt": labels, "edgecls.json": json.dumps(manifest).encode()}
    path = tmp_path / "x.tflite"
    path.write_bytes(container.data[: container.model_bytes] + _zip(files))
    with pytest.raises(CorruptArtifactError, match="contains 2 labels for 10 scores"):
        Artifact.open(path)


def test_a_self_test_with_other_answers_is_not_passed(int8_artifact: Path, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["selftest"]["scores"].reverse()

    path = _with_manifest(int8_artifact, tmp_path / "x.tflite", change)
    with pytest.raises(SelfTestError, match=r"x\.tflite: the golden self-test failed"):
        Classifier.open(path)


@pytest.mark.parametrize("scores", [[[1.0], [1.0]], [[], []]], ids=["one score", "none"])
def test_a_self_test_with_too_few_answers_is_not_passed(
    scores: list[list[float]], int8_artifact: Path, tmp_path: Path
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["selftest"]["scores"] = scores

    path = _with_manifest(int8_artifact, tmp_path / "x.tflite", change)
    with pytest.raises(ArtifactError):
        Classifier.open(path)


@pytest.mark.parametrize(
    "shape", [(2, 16, 16, 3), (2, 32, 32, 1), (2, 64, 64, 3)], ids=["small", "gray", "large"]
)
@pytest.mark.parametrize("format_", ["int8", "float16"])
def test_a_self_test_of_another_size_is_a_bad_file(
    format_: str, shape: tuple[int, ...], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        packed = zlib.compress(bytes(int(np.prod(shape))))
        manifest["selftest"]["shape"] = list(shape)
        manifest["selftest"]["pixels"] = base64.b64encode(packed).decode()

    source = request.getfixturevalue(f"{format_}_artifact")
    path = _with_manifest(source, tmp_path / "x.tflite", change)
    with pytest.raises(ArtifactError):
        Classifier.open(path)


def test_a_file_cut_at_the_end_of_its_model_is_refused(int8_artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(int8_artifact.read_bytes()[:_MODEL_BYTES])
    with pytest.raises(CorruptArtifactError, match=r"stripped or truncated: "):
        Artifact.open(path)


@pytest.mark.parametrize("part", range(60))
def test_a_truncated_file_is_refused(part: int, int8_artifact: Path, tmp_path: Path) -> None:
    data = int8_artifact.read_bytes()
    path = tmp_path / "x.tflite"
    path.write_bytes(data[: len(data) * part // 60])
    with pytest.raises(CorruptArtifactError):
        Artifact.open(path)


def test_a_file_cut_anywhere_in_its_zip_is_refused(int8_artifact: Path, tmp_path: Path) -> None:
    data = int8_artifact.read_bytes()
    path = tmp_path / "x.tflite"
    for end in [*range(_MODEL_BYTES - 3, len(data) - 200, 97), *range(len(data) - 200, len(data))]:
        path.write_bytes(data[:end])
        with pytest.raises(CorruptArtifactError):
            Artifact.open(path)


def _flipped(data: bytes, at: int, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[at] ^= 1 << bit
    return bytes(flipped)


def test_a_flipped_bit_is_refused_or_means_nothing(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    data, path = int8_artifact.read_bytes(), tmp_path / "x.tflite"
    picture = read_image(next((digit_pictures / "7").glob("*.png")))
    with Classifier.open(int8_artifact) as classifier:
        scores = classifier.classify(picture).scores.copy()
    random = np.random.default_rng(2024)
    # Half of them anywhere, half of them in the zip, which is a small part of the file.
    places = [*random.integers(0, len(data), 100), *random.integers(_MODEL_BYTES, len(data), 100)]
    refused = 0
    for at, bit in zip(places, random.integers(0, 8, 200), strict=True):
        path.write_bytes(_flipped(data, int(at), int(bit)))
        try:
            opened = Classifier.open(path)
        except ArtifactError:
            refused += 1
            continue
        assert at >= _MODEL_BYTES, f"bit {bit} of byte {at} is in the model and goes unnoticed"
        with opened:
            assert opened.labels == _DIGITS
            assert (opened.classify(picture).scores == scores).all()
    assert refused >= 150


def _zip_structure(data: bytes) -> list[int]:
    """The positions of the zip's own headers: neither the model's nor the files' bytes."""
    places = set(range(_MODEL_BYTES, len(data)))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            begin = info.header_offset + 30 + len(info.filename)
            places -= set(range(begin, begin + info.compress_size))
    return sorted(places)


@pytest.mark.slow
def test_no_flipped_bit_in_the_headers_of_the_zip_goes_further_than_a_refusal(
    int8_artifact: Path, tmp_path: Path
) -> None:
    data, path = int8_artifact.read_bytes(), tmp_path / "x.tflite"
    whole = Artifact.open(int8_artifact)
    assert whole.manifest is not None
    unexpected = []
    for at in _zip_structure(data):
        for bit in range(8):
            path.write_bytes(_flipped(data, at, bit))
            try:
                artifact = Artifact.open(path)
            except CorruptArtifactError:
                continue
            except Exception as error:  # noqa: BLE001  every one of them is to be seen
                unexpected.append(f"bit {bit} of byte {at}: {error!r}")
                continue
            assert artifact.data[: artifact.model_bytes] == whole.data[: whole.model_bytes]
            assert artifact.labels == whole.labels
            assert artifact.manifest is not None
            assert artifact.manifest.to_json() == whole.manifest.to_json()
    assert unexpected == []


def test_a_model_of_millions_of_classes_is_no_classifier(
    int8_artifact: Path, tmp_path: Path
) -> None:
    path = _foreign(int8_artifact, tmp_path / "x.tflite", _output((1, 100_001)))
    with pytest.raises(UnsupportedArtifactError, match="100001 classes, expected 100000"):
        Artifact.open(path)


def test_a_model_of_huge_pictures_is_no_classifier(int8_artifact: Path, tmp_path: Path) -> None:
    path = _foreign(int8_artifact, tmp_path / "x.tflite", _input((1, 5000, 5000, 3)))
    with pytest.raises(UnsupportedArtifactError, match="its input is 5000x5000 pixels"):
        Artifact.open(path)


def test_millions_of_labels_are_refused_before_they_are_taken_apart(
    int8_artifact: Path, tmp_path: Path
) -> None:
    container = read_container(int8_artifact)
    labels = b"\n" * 16_000_000
    manifest = json.loads(container.files["edgecls.json"])
    manifest["hashes"]["labels_sha256"] = hashlib.sha256(labels).hexdigest()
    files = {"labels.txt": labels, "edgecls.json": json.dumps(manifest).encode()}
    path = tmp_path / "x.tflite"
    path.write_bytes(container.data[: container.model_bytes] + _zip(files))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptArtifactError, match="more than 200000 lines"):
            Artifact.open(path)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
