"""The three methods by name: which are available, and running them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ExplanationError, MissingExtraError
from host_tools.explain.grad_cam import GradCam
from host_tools.explain.heat import HeatMap
from host_tools.explain.occlusion import occlusion
from host_tools.explain.shapley import shapley
from host_tools.explain.subjects import Subject
from host_tools.extras import require
from host_tools.predict import KerasPredictor

Method = Literal["grad-cam", "occlusion", "shap"]
METHODS: tuple[Method, ...] = ("grad-cam", "occlusion", "shap")


@dataclass(frozen=True, slots=True, eq=False)
class Methods:
    """The methods to run.

    Attributes:
        names: the methods, in the order of ``METHODS``.
        grad_cams: by the name of each subject that Grad-CAM supports.
    """

    names: tuple[Method, ...]
    grad_cams: Mapping[str, GradCam]

    def maps(
        self,
        method: Method,
        subjects: Sequence[Subject],
        pixels: NDArray[np.uint8],
        class_index: int,
        seconds: float,
        picture: str,
    ) -> tuple[HeatMap | None, ...]:
        """A map for each subject; None where Grad-CAM does not support it."""
        if method == "grad-cam":
            cams = [self.grad_cams.get(subject.name) for subject in subjects]
            return tuple(None if cam is None else cam.map(pixels, class_index) for cam in cams)
        do = occlusion if method == "occlusion" else shapley
        what = [f"{picture}: {method}, {subject.name}" for subject in subjects]
        return do([subject.scorer for subject in subjects], pixels, class_index, seconds, what)


def choose_methods(
    requested: Sequence[Method],
    subjects: Sequence[Subject],
    note: Callable[[str], None] = lambda _: None,
) -> Methods:
    """The requested methods; without a request, all that are available.

    Raises:
        ExplanationError: a requested method does not support every model.
        MissingExtraError: SHAP was requested and is not installed.
    """
    wanted: Sequence[Method] = [method for method in METHODS if method in (requested or METHODS)]
    grad_cams: dict[str, GradCam] = {}
    names: list[Method] = []
    for method in wanted:
        if method == "grad-cam":
            grad_cams = _grad_cams(subjects, note, required=bool(requested))
            if not grad_cams:
                continue
        elif method == "shap":
            try:
                require("shap")
            except MissingExtraError as error:
                if requested:
                    raise
                note(f"shap is left out: {error}")
                continue
        names.append(method)
    return Methods(tuple(names), grad_cams)


def _grad_cams(
    subjects: Sequence[Subject], note: Callable[[str], None], *, required: bool
) -> dict[str, GradCam]:
    found = {}
    for subject in subjects:
        try:
            found[subject.name] = _grad_cam(subject)
        except ExplanationError as error:
            if required:
                raise
            note(f"grad-cam is left out for {error}")
    return found


def _grad_cam(subject: Subject) -> GradCam:
    if isinstance(subject.scorer, KerasPredictor):
        return GradCam(subject.scorer)
    raise ExplanationError(
        f"{subject.path}: a TFLite file has no gradients, which grad-cam needs; give the run "
        "directory it was converted from, or use --method occlusion"
    )
