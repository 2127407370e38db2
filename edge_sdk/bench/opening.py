"""How a model is opened to be measured, and what is known once it is open."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.engines import backend_for, parse_backend, runtime_version
from edge_sdk.engines.delegated import xnnpack_share
from edge_sdk.vision.preprocess import Crop

_NO_XNNPACK = ("litert-noxnnpack", "onnx", "edgetpu")


@dataclass(frozen=True, slots=True)
class Opening:
    """How a model is opened: what ``Classifier.open`` takes.

    Attributes:
        path, backend, threads: as for ``Classifier.open``.
        labels: one per class, for a foreign model that names none; None: its own.
        normalize, crop: for foreign models; None: as the file says.
    """

    path: Path
    backend: str = "cpu"
    threads: int = 1
    labels: tuple[str, ...] | None = None
    normalize: str | None = None
    crop: Crop | None = None

    def artifact(self) -> Artifact:
        """Reads the file."""
        return Artifact.open(
            self.path, labels=self.labels, normalize=self.normalize, crop=self.crop
        )

    def open(self) -> Classifier:
        """Opens the model."""
        return Classifier.open(
            self.path,
            self.backend,
            threads=self.threads,
            labels=self.labels,
            normalize=self.normalize,
            crop=self.crop,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A model that is open.

    Attributes:
        classifier: belongs to whoever holds this.
        opening: with numbers for labels, where the file has none and none were given.
        backend: the one that runs it, never ``cpu`` for an ``.onnx``.
        runtime: package and version.
        xnnpack: whether its kernels are used; None where nobody can tell.
        load_ms: how long opening took, in a process that had its libraries.
        note: for the reader, may be empty.
    """

    classifier: Classifier
    opening: Opening
    backend: str
    runtime: str
    xnnpack: bool | None
    load_ms: float
    note: str


def open_to_measure(opening: Opening) -> Opened:
    """Opens a model twice: libraries are loaded, and a foreign file is tried, before it is timed.

    Raises:
        ArtifactError: the file is missing, damaged or no classifier.
        EngineError: its backend is unknown or missing here.
    """
    artifact = opening.artifact()
    if not artifact.labels:  # numbers will do: nobody reads them, and they cost no time
        opening = replace(opening, labels=tuple(map(str, range(max(artifact.output.shape)))))
    opening.open().close()
    began = time.perf_counter()
    classifier = opening.open()
    load_ms = 1000 * (time.perf_counter() - began)
    try:
        backend = backend_for(artifact, opening.backend)
        used, note = _xnnpack(artifact, backend, opening.threads)
        return Opened(
            classifier,
            opening,
            backend,
            runtime_version(backend),
            used,
            load_ms,
            note,
        )
    except BaseException:
        classifier.close()
        raise


def _xnnpack(artifact: Artifact, backend: str, threads: int) -> tuple[bool | None, str]:
    """Whether XNNPACK is used, and what a reader should know about it."""
    name = parse_backend(backend).name
    if name in _NO_XNNPACK:
        return False, ""
    share = xnnpack_share(artifact.data, name, threads=threads)
    return (None, "") if share is None else (share.used, share.note)
