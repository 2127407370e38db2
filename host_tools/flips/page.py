"""``index.html``: one self-contained page of the pictures that flipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from host_tools import pages
from host_tools.explain.draw import SIGNED, css_gradient, enlarged, png
from host_tools.flips.maps import ShownFlip
from host_tools.validate.flips import WAYS, Changed
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
    pages.check_installed()
    css_gradient(SIGNED)


def write_page(path: Path, comparison: Comparison, sections: Sequence[Section]) -> None:
    """Writes the page; pictures and maps are embedded.

    Raises:
        MissingExtraError: Jinja is not installed.
        WriteError: the disk is full.
    """
    pages.write_page(
        path,
        "flips.html",
        reference=_name(comparison.reference_path),
        comparison=comparison,
        sections=sections,
        ways=WAYS,
        words=_WORDS,
        gradient=css_gradient(SIGNED),
        picture=_data_url,
        changed=any(section.changed.flips for section in sections),
        mapped=any(shown.maps for section in sections for shown in section.shown),
    )


def _name(path: str) -> str:
    """Every model in a run directory is called model.keras."""
    file = Path(path)
    return f"{file.parent.name}/{file.name}" if file.name == "model.keras" else file.name


def _data_url(pixels: NDArray[np.uint8]) -> str:
    """``(H, W, C)`` uint8 as a data URL, enlarged where it is small."""
    large = enlarged(pixels)
    if max(pixels.shape[:2]) <= _PNG_SIDE_PX:
        return pages.data_url(png(large), "png")
    _, data = cv2.imencode(
        ".jpg",
        np.ascontiguousarray(large[:, :, ::-1]),  # OpenCV writes BGR
        [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
    )
    return pages.data_url(data.tobytes(), "jpeg")
