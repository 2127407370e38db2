"""The agreement of several runtimes on the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact import Artifact
from edge_sdk.engines import backend_for, parse_backend
from edge_sdk.errors import EdgeClsError, ValidationError
from edge_sdk.vision.images import MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools.data.layouts import find_pictures
from host_tools.data.pictures import Decoded, Unreadable
from host_tools.evaluate.figures import wilson_interval
from host_tools.predict import Opening, Rows, recorded_rule
from host_tools.validate.measure import (
    check_labels,
    check_preprocessing,
    label_indices,
    score_difference,
)
from host_tools.validate.results import ScoreDifference
from host_tools.validate.validation import pictures_of
from host_tools.validate.workers import Open, Ready, Trouble, Worker, open_quietly

Status = Literal["ok", "disagrees", "broken", "missing"]
# Runtimes that compute one int8 model differ in up to two pictures of a hundred.
MIN_AGREEMENT = 0.9
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Runtime:
    """One model file and the backend that runs it."""

    path: Path
    backend: str


@dataclass(frozen=True, slots=True)
class Participant:
    """The result of one runtime.

    Attributes:
        runtime: which.
        status: ``missing``: not installed or not plugged in; ``broken``: it crashed, hung, gave an
            error or a value that is not a number; ``disagrees``: see ``Agreement.min_agreement``.
        reason: in words; None where it is ``ok``.
        version: package and version, where known.
        accuracy: 0..1; None, like what follows, where it is missing or broken.
        agreement: share of the pictures that it answers like the reference, 0..1.
        score_difference: to the reference.
    """

    runtime: Runtime
    status: Status
    reason: str | None
    version: str | None
    accuracy: float | None
    agreement: float | None
    score_difference: ScoreDifference | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Every runtime, and how each pair of them agrees.

    Attributes:
        participants: in the order given.
        reference: index of the runtime with the highest median agreement with the others,
            of two the first that works; None where none does.
        n: pictures.
        matrix: ``matrix[i][j]``, the share of the pictures that i and j answer alike, 0..1; None
            where one of them gave no answers.
        min_agreement: a runtime ``disagrees`` where even the upper end of the 95 % interval
            (Wilson) of its agreement with the reference is below this, 0..1.
        unreadable: pictures that were left out.
    """

    participants: tuple[Participant, ...]
    reference: int | None
    n: int
    matrix: tuple[tuple[float | None, ...], ...]
    min_agreement: float
    unreadable: tuple[Unreadable, ...]

    @property
    def broken(self) -> tuple[Participant, ...]:
        """Participants that are broken or disagree."""
        return tuple(p for p in self.participants if p.status in ("broken", "disagrees"))

    @property
    def missing(self) -> tuple[Participant, ...]:
        """Participants whose runtime or device is missing."""
        return tuple(p for p in self.participants if p.status == "missing")

    def to_json(self) -> dict[str, Any]:
        """The JSON object of ``edgecls validate --json`` with several backends."""
        return {
            "schema": 1,
            "type": "agreement",
            "n": self.n,
            "reference": self.reference,
            "min_agreement": self.min_agreement,
            "backends": [_participant_json(p) for p in self.participants],
            "matrix": [list(row) for row in self.matrix],
            "unreadable": [str(u.picture.path) for u in self.unreadable],
        }


def compare_runtimes(
    runtimes: Sequence[Runtime],
    opening: Opening,
    preprocessing: Preprocessing,
    pictures: Iterable[Decoded | Unreadable],
    truth_of: Sequence[int],
    *,
    min_agreement: float = MIN_AGREEMENT,
    open_model: Open = open_quietly,
    note: Callable[[str], None] = lambda _: None,
) -> Agreement:
    """Runs every picture through every runtime, each in its own process.

    Args:
        runtimes: at least two, of models with the same labels.
        opening: of all of them, but for the backend.
        preprocessing: of all of them; pictures go through it once.
        pictures: decoded, with ``picture.label`` an index into ``truth_of``.
        truth_of: the label index of each class of the data set.
        min_agreement: see ``Agreement``.
        open_model: how a process opens its model.
        note: called for each runtime that breaks.

    Raises:
        ValidationError: no pictures.
    """
    with ExitStack() as stack:
        workers = []
        for runtime in runtimes:
            fitting = replace(opening, backend=runtime.backend)
            worker = Worker(runtime.path, fitting, open_model)
            stack.callback(worker.close)
            workers.append(worker)
        comparison = _Comparison(runtimes, workers, note)
        truth: list[int] = []
        unreadable: list[Unreadable] = []
        waiting: list[NDArray[np.uint8]] = []
        for item in pictures:
            if isinstance(item, Unreadable):
                unreadable.append(item)
                continue
            if not comparison.running:
                break
            truth.append(truth_of[item.picture.label])
            waiting.append(preprocess(item.frame, preprocessing))
            if len(waiting) == _BATCH:
                comparison.ask(np.stack(waiting))
                waiting.clear()
        if waiting:
            comparison.ask(np.stack(waiting))
    if not truth and comparison.running:
        raise ValidationError("no picture to validate on; choose another --split or --data")
    return _measure(comparison, np.array(truth, np.int64), min_agreement, tuple(unreadable))


class _Comparison:
    """The runtimes side by side: which still run, and their answers."""

    def __init__(
        self, runtimes: Sequence[Runtime], workers: Sequence[Worker], note: Callable[[str], None]
    ) -> None:
        self.runtimes, self._workers, self._note = runtimes, workers, note
        self.troubles: dict[int, Trouble] = {}
        self.versions: dict[int, str | None] = {}
        self.scores: dict[int, Rows] = {}
        for i, worker in enumerate(workers):
            opened = worker.opened()
            if isinstance(opened, Ready):
                self.versions[i] = opened.runtime
            else:
                self._drop(i, opened)

    @property
    def running(self) -> list[int]:
        return [i for i in range(len(self._workers)) if i not in self.troubles]

    def ask(self, pixels: NDArray[np.uint8]) -> None:
        running = self.running
        for i in running:  # all at once, since each has a process
            self._workers[i].ask(pixels)
        for i in running:
            scores = self._workers[i].answer()
            if isinstance(scores, Trouble):
                self._drop(i, scores)
            else:
                self.scores.setdefault(i, Rows(scores.shape[1])).add(scores)

    def _drop(self, i: int, trouble: Trouble) -> None:
        self.troubles[i] = trouble
        runtime = self.runtimes[i]
        self._note(
            f"{runtime.backend} on {runtime.path.name} is {trouble.status}: {trouble.reason}"
        )


def _measure(
    comparison: _Comparison,
    truth: NDArray[np.int64],
    min_agreement: float,
    unreadable: tuple[Unreadable, ...],
) -> Agreement:
    scores = {i: comparison.scores[i].all() for i in comparison.running}
    answers = {i: rows.argmax(axis=1) for i, rows in scores.items()}
    reference = _most_shared(answers)
    participants = []
    for i, runtime in enumerate(comparison.runtimes):
        if reference is None or i in comparison.troubles:
            status, reason = comparison.troubles[i]
            version = comparison.versions.get(i)
            participants.append(Participant(runtime, status, reason, version, None, None, None))
            continue
        same = int((answers[i] == answers[reference]).sum())
        apart = wilson_interval(same, len(truth))[1] < min_agreement
        participants.append(
            Participant(
                runtime,
                "disagrees" if apart else "ok",
                _disagreement(same, len(truth), comparison.runtimes[reference]) if apart else None,
                comparison.versions[i],
                float((answers[i] == truth).mean()),
                same / len(truth),
                score_difference(scores[reference], scores[i]),
            )
        )
    indices = range(len(comparison.runtimes))
    return Agreement(
        tuple(participants),
        reference,
        len(truth),
        tuple(
            tuple(
                float((answers[i] == answers[j]).mean()) if i in answers and j in answers else None
                for j in indices
            )
            for i in indices
        ),
        min_agreement,
        unreadable,
    )


def _most_shared(answers: dict[int, NDArray[np.int64]]) -> int | None:
    """The runtime with the highest median agreement; of two, or of equals, the first."""
    if len(answers) < 3:
        return min(answers, default=None)
    median = {
        i: float(np.median([(mine == answers[j]).mean() for j in answers if j != i]))
        for i, mine in answers.items()
    }
    return min(answers, key=lambda i: (-median[i], i))


def _disagreement(same: int, n: int, reference: Runtime) -> str:
    return f"only {same} of {n} answers are those of {reference.backend} on {reference.path.name}"


def _participant_json(participant: Participant) -> dict[str, Any]:
    difference = participant.score_difference
    return {
        "backend": participant.runtime.backend,
        "path": str(participant.runtime.path),
        "runtime": participant.version,
        "status": participant.status,
        "reason": participant.reason,
        "accuracy": participant.accuracy,
        "agreement": participant.agreement,
        "score_difference": None
        if difference is None
        else {"mean": difference.mean, "max": difference.largest},
    }


def to_lines(agreement: Agreement) -> Iterator[str]:
    """The table that ``edgecls validate`` prints with several backends."""
    participants, reference = agreement.participants, agreement.reference
    several = len({p.runtime.path for p in participants}) > 1
    names = [
        f"{p.runtime.backend} {p.runtime.path.name}" if several else p.runtime.backend
        for p in participants
    ]
    if reference is not None:
        yield f"reference  {names[reference]}  on {agreement.n} pictures"
    head = ("", "backend", "accuracy", "agreement", "largest difference", "runtime", "status")
    yield from _columns(
        [
            head,
            *(
                (str(i + 1), names[i], *_figures(p), p.version or "-", p.status)
                for i, p in enumerate(participants)
            ),
        ],
        left=(1, 5, 6),
    )
    working = [i for i, p in enumerate(participants) if p.accuracy is not None]
    if len(working) > 1:
        yield ""
        yield "the same answers, in % of the pictures"
        yield from _columns(
            [
                ("", "", *(str(j + 1) for j in working)),
                *(
                    (str(i + 1), names[i], *(_percent(agreement.matrix[i][j]) for j in working))
                    for i in working
                ),
            ],
            left=(1,),
        )


def _figures(participant: Participant) -> tuple[str, str, str]:
    difference = participant.score_difference
    return (
        "-" if participant.accuracy is None else f"{100 * participant.accuracy:.2f} %",
        "-" if participant.agreement is None else f"{100 * participant.agreement:.2f} %",
        "-" if difference is None else f"{difference.largest:.2g}",
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _columns(rows: Sequence[Sequence[str]], left: Sequence[int]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


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
    note: Callable[[str], None] = lambda _: None,
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
        note: called with each message for the user.

    Raises:
        UnknownBackendError: no such backend.
        ArtifactError: a file that is not a model, ours or third-party.
        ValidationError: files of different models, or a backend and a file without a counterpart.
        DatasetError: a folder that is not a data set.
    """
    opening = opening or Opening()
    folder = find_pictures(data, layout)
    files = [_File(path, _artifact(path, opening, note)) for path in dict.fromkeys(artifacts)]
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
        pictures_of(folder, split, rule, max_pixels, note),
        truth_of,
        min_agreement=min_agreement,
        open_model=open_model,
        note=note,
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


def _artifact(path: Path, opening: Opening, note: Callable[[str], None]) -> Artifact:
    artifact = Artifact.open(
        path, labels=opening.labels, normalize=opening.normalize, crop=opening.crop
    )
    artifact.require_described()
    for message in artifact.notes:
        note(message)
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
                f"--backend {backend}: runs none of the given files ({refusal}); give such "
                "a file of the same model too, or leave the backend out"
            )
        found.update(dict.fromkeys(fitting))
        used |= {runtime.path for runtime in fitting}
    idle = [file.path for file in files if file.file not in used]
    if idle:
        raise ValidationError(
            f"{idle[0]}: none of the given backends runs it ({', '.join(backends)}); add "
            "its own with --backend, or leave the file out"
        )
    return list(found)
