"""Opening a model file: an edgecls artifact, or a third-party ``.tflite`` or ``.onnx``.

``Artifact.open`` reads the file once, checks those bytes, and determines the preprocessing and the
labels. It starts no interpreter; ``Classifier.open`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.artifact.container import Container, Kind, parse_container, read_container
from edge_sdk.artifact.description import parse_labels, parse_normalization, read_labels
from edge_sdk.artifact.manifest import Manifest
from edge_sdk.artifact.tflite import EDGETPU_OPERATOR, Metadata, ModelSummary
from edge_sdk.errors import (
    CorruptArtifactError,
    UndescribedArtifactError,
    UnsupportedArtifactError,
)
from edge_sdk.types import Quantization, TensorSpec
from edge_sdk.vision.preprocess import Crop, Preprocessing
from edge_sdk.vision.tensors import Normalization, implied_normalization

# A file may declare any size; these limits bound the cost of a picture. The largest set of classes in
# use has 22,000, the largest image classifier takes 800x800.
MAX_CLASSES = 100_000
_MAX_INPUT_PIXELS = 16 << 20
# TFLite's fixed scale for a quantised softmax: such an output is a probability.
_SOFTMAX_SCALE = 1 / 256


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """A parsed and checked model file.

    Attributes:
        path: where it was read from.
        kind: ``tflite`` or ``onnx``, by the content.
        data: the whole file; an interpreter loads these bytes, never the path again.
        sha256: of ``data``, in hexadecimal.
        model_bytes: size of the model at the start of ``data``; the rest holds the attached files.
        labels: one name per score; empty if a third-party file has none.
        input, output: the model's tensors.
        normalization: from pixels to the model's input values; None if a third-party file lacks it.
        preprocessing: from a frame to pixels.
        logits: the model ends before its softmax.
        operators: how many of each operator.
        manifest: the ``edgecls.json``, None for a third-party file.
        notes: for the user: assumptions made for a third-party file.
    """

    path: Path
    kind: Kind
    data: bytes
    sha256: str
    model_bytes: int
    labels: tuple[str, ...]
    input: TensorSpec
    output: TensorSpec
    normalization: Normalization | None
    preprocessing: Preprocessing
    logits: bool
    operators: dict[str, int]
    manifest: Manifest | None
    notes: tuple[str, ...]

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        labels: str | Path | Sequence[str] | None = None,
        normalize: str | Normalization | None = None,
        crop: Crop | None = None,
    ) -> Artifact:
        """Reads and checks a model file.

        Args:
            path: a ``.tflite`` or ``.onnx`` file.
            labels: for a third-party model, a file with one label per line, or the labels themselves.
            normalize: for a third-party model, ``raw`` (0..255), ``unit`` (0..1), ``symmetric``
                (-1..1) or ``MEAN,STD``.
            crop: for a third-party model, ``squash`` (default), ``center`` or ``letterbox``.

        Raises:
            ArtifactNotFoundError: there is no such file.
            CorruptArtifactError: truncated, stripped, tampered with, or mismatched.
            UnsupportedArtifactError: not an image classifier, or of a newer schema.
            UndescribedArtifactError: ``labels`` or ``normalize`` do not fit the model.
        """
        path = Path(path)
        return cls._of(read_container(path), path, labels, normalize, crop)

    @classmethod
    def parse(cls, data: bytes, name: str) -> Artifact:
        """As ``open``, for the bytes of a file.

        Args:
            data: the whole file.
            name: its name in errors; the ending ``.onnx`` selects the format.

        Raises:
            CorruptArtifactError, UnsupportedArtifactError: see ``open``.
        """
        path = Path(name)
        return cls._of(parse_container(data, path), path, None, None, None)

    @classmethod
    def _of(
        cls,
        container: Container,
        path: Path,
        labels: str | Path | Sequence[str] | None,
        normalize: str | Normalization | None,
        crop: Crop | None,
    ) -> Artifact:
        summary, metadata, manifest = container.summary, container.metadata, container.manifest
        input_, output = _classifier_tensors(path, summary)
        logits = not (summary.ends_in_softmax or _is_softmax_scale(output.quantization))
        if manifest is not None:
            preprocessing = _manifest_preprocessing(path, manifest, input_)
            notes = _notes_on_own(path, normalize, crop)
            normalize = None
        else:
            _, height, width, channels = input_.shape
            preprocessing = Preprocessing(width, height, channels, crop or "squash")
            notes = _notes_on_foreign(path, summary, preprocessing, crop, logits)
        return cls(
            path=path,
            kind=container.kind,
            data=container.data,
            sha256=container.sha256,
            model_bytes=container.model_bytes,
            labels=_labels(path, output, labels, container),
            input=input_,
            output=output,
            normalization=_normalization(input_, normalize, metadata),
            preprocessing=preprocessing,
            logits=logits,
            operators=summary.operators,
            manifest=manifest,
            notes=notes,
        )

    @property
    def needs_edgetpu(self) -> bool:
        """The model was compiled for the Edge TPU and runs nowhere else."""
        return EDGETPU_OPERATOR in self.operators

    @property
    def format(self) -> str:
        """The manifest's format, else the dtype of the input tensor."""
        return self.manifest.format if self.manifest else self.input.dtype

    def require_described(self) -> None:
        """Checks that labels and input range are known.

        Raises:
            UndescribedArtifactError: one is missing; the message states which option to give.
        """
        if not self.labels:
            raise UndescribedArtifactError(
                f"{self.path}: the file names no labels; give --labels FILE with "
                f"{_classes(self.output)} lines, one label each"
            )
        if self.normalization is None:
            raise UndescribedArtifactError(
                f"{self.path}: nothing says which range of numbers the model was trained on; give "
                "--normalize raw (0..255), unit (0..1), symmetric (-1..1) or MEAN,STD"
            )


def _classifier_tensors(path: Path, summary: ModelSummary) -> tuple[TensorSpec, TensorSpec]:
    if len(summary.inputs) != 1 or len(summary.outputs) != 1:
        raise UnsupportedArtifactError(
            f"{path}: no image classifier: {len(summary.inputs)} inputs and "
            f"{len(summary.outputs)} outputs, expected one of each"
        )
    input_, output = summary.inputs[0], summary.outputs[0]
    shape = input_.shape
    if len(shape) != 4 or shape[0] != 1 or shape[3] not in (1, 3) or min(shape) < 1:
        raise UnsupportedArtifactError(
            f"{path}: no image classifier: its input is {shape}, expected (1, height, width, 1 or 3)"
        )
    if shape[1] * shape[2] > _MAX_INPUT_PIXELS:
        raise UnsupportedArtifactError(
            f"{path}: its input is {shape[2]}x{shape[1]} pixels, expected "
            f"{_MAX_INPUT_PIXELS / 1e6:.0f} million at most; convert a model with a smaller input"
        )
    if input_.dtype not in ("uint8", "int8", "float32"):
        raise UnsupportedArtifactError(f"{path}: an input of {input_.dtype} is not supported")
    if (input_.dtype != "float32") != (input_.quantization is not None):
        raise UnsupportedArtifactError(f"{path}: an input of {input_.dtype} without a single scale")
    classes = _classes(output)
    if classes < 2 or classes != max(output.shape) or min(output.shape) < 1:
        raise UnsupportedArtifactError(
            f"{path}: no image classifier: its output is {output.shape}, expected (1, classes)"
        )
    if classes > MAX_CLASSES:
        raise UnsupportedArtifactError(
            f"{path}: no image classifier: {classes} classes, expected {MAX_CLASSES} at most"
        )
    if output.dtype not in ("uint8", "int8", "int16", "float32"):
        raise UnsupportedArtifactError(f"{path}: an output of {output.dtype} is not supported")
    return input_, output


def _classes(output: TensorSpec) -> int:
    count = 1
    for side in output.shape:
        count *= side
    return count


def _is_softmax_scale(quantization: Quantization | None) -> bool:
    return quantization is not None and quantization.scale == _SOFTMAX_SCALE


def _manifest_preprocessing(path: Path, manifest: Manifest, input_: TensorSpec) -> Preprocessing:
    how = manifest.preprocessing
    if (1, how.height, how.width, how.channels) != input_.shape:
        raise CorruptArtifactError(
            f"{path}: its manifest declares a {how.width}x{how.height}x{how.channels} input, "
            f"the model takes {input_.shape}; convert it again"
        )
    selftest = manifest.selftest
    if selftest.pixels.shape[1:] != input_.shape[1:] or selftest.scores.ndim != 2:
        raise CorruptArtifactError(
            f"{path}: its self-test does not have the model's size; convert it again"
        )
    return how


def _notes_on_own(
    path: Path, normalize: str | Normalization | None, crop: Crop | None
) -> tuple[str, ...]:
    if normalize is None and crop is None:
        return ()
    return (f"{path}: the manifest declares the preprocessing; --crop and --normalize are ignored",)


def _notes_on_foreign(
    path: Path, summary: ModelSummary, how: Preprocessing, crop: Crop | None, logits: bool
) -> tuple[str, ...]:
    notes = []
    if crop is None:
        notes.append(
            f"{path}: third-party model; pictures are squashed to {how.width}x{how.height} "
            "(choose with --crop squash|center|letterbox)"
        )
    if summary.per_tensor_weights:
        notes.append(
            f"{path}: legacy per-tensor quantisation; a per-channel int8 model runs about twice as fast"
        )
    if logits:
        notes.append(f"{path}: the model has no softmax; softmax is applied to its output")
    return tuple(notes)


def _labels(
    path: Path,
    output: TensorSpec,
    given: str | Path | Sequence[str] | None,
    container: Container,
) -> tuple[str, ...]:
    classes = _classes(output)
    carried = _carried_labels(path, container)
    if carried and len(carried) != classes:
        raise CorruptArtifactError(
            f"{path}: it contains {len(carried)} labels for {classes} scores; convert it again"
        )
    if given is None:
        return carried
    labels = read_labels(given) if isinstance(given, (str, Path)) else tuple(given)
    if len(labels) != classes:
        raise UndescribedArtifactError(
            f"{path}: {len(labels)} labels were given for {classes} scores"
        )
    if container.manifest is not None and labels != carried:
        raise UndescribedArtifactError(
            f"{path}: it contains other labels than those given; leave out --labels"
        )
    return labels


def _carried_labels(path: Path, container: Container) -> tuple[str, ...]:
    labels_file = container.metadata.labels_file if container.metadata else None
    if labels_file is None:
        return ()
    content = container.files[labels_file]
    if content.count(b"\n") > 2 * MAX_CLASSES:  # some end with blank lines
        raise CorruptArtifactError(
            f"{path}: its {labels_file} has more than {2 * MAX_CLASSES} lines, expected one label "
            "per score; convert it again"
        )
    text = content.decode("utf-8", "replace")
    if container.manifest is not None:  # edgecls labels are names of folders: no leading index
        return tuple(text.removesuffix("\n").split("\n"))
    return parse_labels(text)


def _normalization(
    input_: TensorSpec, given: str | Normalization | None, metadata: Metadata | None
) -> Normalization | None:
    if given is not None:
        normalization = parse_normalization(given) if isinstance(given, str) else given
    elif metadata is not None and metadata.normalization is not None:
        normalization = metadata.normalization
    elif input_.quantization is not None:
        return implied_normalization(input_.quantization, input_.dtype)
    else:
        return None
    channels = input_.shape[3]
    if len(normalization.mean) not in (1, channels) or len(normalization.std) not in (1, channels):
        raise UndescribedArtifactError(
            f"a normalisation of {len(normalization.mean)} channels does not fit a model of "
            f"{channels}; give one with --normalize"
        )
    return normalization
