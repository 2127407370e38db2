"""Opens what is to agree, chooses the pictures, and compares the runtimes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.artifact import Artifact
from edge_sdk.engines import backend_for, parse_backend
from edge_sdk.errors import EdgeClsError, ValidationError
from edge_sdk.vision.images import MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.data.layouts import find_pictures
from host_tools.opening import Opening, recorded_rule
from host_tools.validate.agreement import MIN_AGREEMENT, Agreement, Runtime, compare_runtimes
from host_tools.validate.choice import pictures_of
from host_tools.validate.comparable import check_labels, check_preprocessing, label_indices
from host_tools.validate.workers import Open, open_quietly


def validate_runtimes(
    artifacts: Sequence[Path],
    backends: Sequence[str],
    data: Path,
    *,
    layout: str = "auto",
    split: str | None = None,
    opening: Opening | None = None,
    max_pixels: int = MAX_PIXELS,
    min_agreement: float = MIN_AGREEMENT,
    open_model: Open = open_quietly,
    say: Callable[[str], None] = lambda _: None,
) -> Agreement:
    """Runs the same pictures through every backend, and through every file that it can run.

    Args:
        artifacts: files of one model: ``.tflite``, ``.onnx``, compiled for the Edge TPU.
        backends: the first is the reference.
        data: labelled pictures.
        layout: how they lie there, see ``find_pictures``.
        split: as for ``validate``.
        opening: for models edgecls did not make; its backend is not used.
        max_pixels: larger pictures are left out.
        min_agreement: see ``Agreement``.
        open_model: how a process opens its model.
        say: told what a person should know.

    Raises:
        UnknownBackendError: no such backend.
        ArtifactError: a file that is no model of ours or anybody's.
        ValidationError: files of different models, a backend or a file that nothing here fits.
        DatasetError: a folder that is no data set.
    """
    opening = opening or Opening()
    folder = find_pictures(data, layout)
    files = [_File(path, _artifact(path, opening, say)) for path in dict.fromkeys(artifacts)]
    runtimes = _fitting(files, backends)
    first, *others = files
    check_labels(first, others)
    check_preprocessing(first, others)
    rules = (recorded_rule(file.artifact) for file in files)
    rule = next((rule for rule in rules if rule is not None), None)
    truth_of = label_indices(first, folder.classes)
    return compare_runtimes(
        runtimes,
        opening,
        first.preprocessing,
        pictures_of(folder, split, rule, max_pixels, say),
        truth_of,
        min_agreement=min_agreement,
        open_model=open_model,
        say=say,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _File:
    file: Path
    artifact: Artifact

    @property
    def path(self) -> str:
        return str(self.file)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.artifact.labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self.artifact.preprocessing


def _artifact(path: Path, opening: Opening, say: Callable[[str], None]) -> Artifact:
    artifact = Artifact.open(
        path, labels=opening.labels, normalize=opening.normalize, crop=opening.crop
    )
    artifact.require_described()
    for note in artifact.notes:
        say(note)
    return artifact


def _fitting(files: Sequence[_File], backends: Sequence[str]) -> list[Runtime]:
    found: dict[Runtime, None] = {}  # keeps the order; "cpu" may be another name of one of them
    used: set[Path] = set()
    for backend in dict.fromkeys(backends):
        parse_backend(backend)
        refusal: EdgeClsError | None = None
        fitting = []
        for file in files:
            try:
                fitting.append(Runtime(file.file, backend_for(file.artifact, backend)))
            except EdgeClsError as error:
                refusal = error
        if refusal is not None and not fitting:
            raise ValidationError(
                f"--backend {backend}: runs none of the files that were named ({refusal}); name such "
                "a file of the same model too, or leave the backend out"
            )
        found.update(dict.fromkeys(fitting))
        used |= {runtime.path for runtime in fitting}
    idle = [file.path for file in files if file.file not in used]
    if idle:
        raise ValidationError(
            f"{idle[0]}: none of the backends that were named runs it ({', '.join(backends)}); add "
            "its own with --backend, or leave the file out"
        )
    return list(found)
