"""From a finished comparison to ``index.html`` and ``flips.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_sdk.files import write_atomically
from edge_sdk.vision.images import MAX_PIXELS
from host_tools.flips.maps import draw_flips
from host_tools.flips.page import Section, write_page
from host_tools.opening import Opening
from host_tools.run_directory import taken
from host_tools.validate.flips import find_changed, to_json
from host_tools.validate.results import Comparison


def write_flips(
    comparison: Comparison,
    reference: Path,
    artifacts: Sequence[Path],
    data: Path,
    out: Path,
    opening: Opening,
    *,
    max_flips: int,
    seconds: float,
    max_pixels: int = MAX_PIXELS,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Writes the page and the list of every picture whose answer changed.

    Args:
        comparison: what ``validate`` has found for these models.
        reference, artifacts, data, opening, max_pixels: as they were given to it.
        out: folder for both files.
        max_flips: at most so many pictures of each artifact on the page; the list has all.
        seconds: for all heat maps together.
        say: told what a person should know.

    Returns:
        The page.

    Raises:
        FolderInUseError: another process writes into ``out``.
        WriteError: the disk is full, or ``out`` is no folder.
    """
    with taken(out, "--flips"):
        changed = find_changed(comparison, data)
        # The list first: it needs no time.
        write_atomically(out / "flips.json", json.dumps(to_json(comparison, changed)).encode())
        sections = [
            Section(
                one,
                draw_flips(
                    one.flips[:max_flips],
                    reference,
                    artifact,
                    one.result.preprocessing,
                    opening,
                    seconds=seconds / len(artifacts),
                    max_pixels=max_pixels,
                    say=say,
                ),
            )
            for one, artifact in zip(changed, artifacts, strict=True)
        ]
        page = out / "index.html"
        write_page(page, comparison, sections)
    return page
