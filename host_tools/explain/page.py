"""``index.html``: one self-contained page of every picture that was explained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from host_tools import pages
from host_tools.explain.draw import DIFFERENCE, SIGNED, css_gradient
from host_tools.explain.subjects import Subject

if TYPE_CHECKING:
    from host_tools.explain.explain import Explanation

# Method, its name in print, and what it does.
_LEGEND = {
    "grad-cam": (
        "Grad-CAM",
        (
            "weighs the last feature map of the network by how much each of its channels would raise "
            "the class; fast and coarse, and it shows only what speaks for the class. Its strength has "
            "no unit: each map is drawn to its own peak."
        ),
    ),
    "occlusion": (
        "Occlusion",
        (
            "covers one part of the picture after another with its mean colour, and shows by how much "
            "the class's score falls."
        ),
    ),
    "shap": (
        "SHAP",
        (
            "shows and hides (blurs) parts in many combinations, and shares the score out among them "
            "fairly: all parts together make up what the picture scores beyond its blurred self."
        ),
    ),
}


def write_page(
    path: Path,
    explanations: Sequence[Explanation],
    subjects: Sequence[Subject],
    seconds: float,
    label: str | None,
) -> None:
    """Writes the page; pictures and maps are embedded.

    Args:
        path: of the page.
        explanations: at least one.
        subjects: the models.
        seconds: that each picture, model and method had.
        label: the class that was asked for, None: the first model's answers.

    Raises:
        MissingExtraError: Jinja is not installed.
        WriteError: the disk is full.
    """
    used = {result.method for explanation in explanations for result in explanation.methods}
    pages.write_page(
        path,
        "explanation.html",
        explanations=explanations,
        names={subject.path: subject.name for subject in subjects},
        models=subjects,
        legend={method: words for method, words in _LEGEND.items() if method in used},
        seconds=seconds,
        asked=label,
        signed=css_gradient(SIGNED),
        difference=css_gradient(DIFFERENCE),
        picture=lambda file: pages.data_url(file.read_bytes(), "png"),
    )
