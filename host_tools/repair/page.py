"""A conversion under a budget as one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from host_tools import pages
from host_tools.repair.plots import pareto
from host_tools.report.plots import svg

if TYPE_CHECKING:
    from host_tools.quantize.layer_report import LayerError
    from host_tools.repair.report import Repaired

_LAYERS = 40


def write_page(path: Path, repaired: Repaired, layers: Sequence[LayerError]) -> None:
    """Writes the page.

    Args:
        path: where to.
        repaired: the ladder, the chosen artifact, and what the test split says of it.
        layers: of the chosen int8 model, the worst first; empty for float16.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
        WriteError: the disk is full, or a folder is in the way.
    """
    ladder = repaired.ladder
    picture = svg(pareto(ladder.rungs, ladder.chosen, ladder.reference, ladder.float_ms))
    pages.write_page(
        path,
        "repair.html",
        name=repaired.path.name,
        ladder=ladder,
        confirmed=repaired.confirmed,
        max_drop=repaired.budget.max_drop,
        verdict=repaired.verdict,
        picture=pages.markup(picture),
        layers=layers[:_LAYERS],
        more=max(0, len(layers) - _LAYERS),
    )
