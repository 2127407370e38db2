"""``index.html``: one self-contained page of the pictures that flipped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.files import write_atomically
from host_tools.explain.draw import SIGNED, css_gradient, enlarged, png
from host_tools.extras import require
from host_tools.flips.changed import WAYS, Changed
from host_tools.flips.maps import ShownFlip
from host_tools.validate.results import Comparison

_WORDS = {
    "right_to_wrong": "right to wrong",
    "wrong_to_wrong": "wrong to another wrong",
    "wrong_to_right": "wrong to right",
}
# Larger pictures are photographs, and a third of the size as JPEG.
_PNG_SIDE_PX = 96
_JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """One artifact: all of its flips, and those that are shown."""

    changed: Changed
    shown: tuple[ShownFlip, ...]


def check_extras() -> None:
    """Makes sure that a page can be written, before minutes of validation.

    Raises:
        MissingExtraError: the extra ``[host]`` is not installed.
    """
    require("jinja2")
    css_gradient(SIGNED)


def write_page(path: Path, comparison: Comparison, sections: Sequence[Section]) -> None:
    """Writes the page; pictures and maps are embedded.

    Raises:
        MissingExtraError: Jinja is not installed.
        WriteError: the disk is full.
    """
    jinja2 = require("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("host_tools", "flips"),
        autoescape=True,  # labels and paths are names of files, and may hold anything
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded"] = _embedded
    environment.filters["file_name"] = lambda text: Path(text).name
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    environment.filters["points"] = lambda points: f"{points:+.2f}"
    page: str = environment.get_template("page.html").render(
        reference=_name(comparison.reference_path),
        comparison=comparison,
        sections=sections,
        ways=WAYS,
        words=_WORDS,
        signed=css_gradient(SIGNED),
        changed=any(section.changed.flips for section in sections),
        mapped=any(shown.maps for section in sections for shown in section.shown),
    )
    # The name of a file need not be text.
    write_atomically(path, page.encode(errors="backslashreplace"))


def _name(path: str) -> str:
    """Every model in a run directory is called model.keras."""
    file = Path(path)
    return f"{file.parent.name}/{file.name}" if file.name == "model.keras" else file.name


def _embedded(pixels: NDArray[np.uint8]) -> str:
    """``(H, W, C)`` uint8 as a data URL, enlarged where it is small."""
    large = enlarged(pixels)
    if max(pixels.shape[:2]) <= _PNG_SIDE_PX:
        return "data:image/png;base64," + base64.b64encode(png(large)).decode()
    _, data = cv2.imencode(
        ".jpg",
        np.ascontiguousarray(large[:, :, ::-1]),  # OpenCV writes BGR
        [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
    )
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
