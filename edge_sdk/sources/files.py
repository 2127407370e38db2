"""Pictures and videos on disk as one source, pictures read ahead."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from edge_sdk.ports import FrameSource
from edge_sdk.sources.ahead import ReadAhead
from edge_sdk.sources.chain import Chain
from edge_sdk.sources.folder import FolderSource
from edge_sdk.sources.video import VideoSource
from edge_sdk.vision.images import EXTENSIONS, MAX_PIXELS


def open_files(paths: Sequence[Path], *, max_pixels: int = MAX_PIXELS) -> FrameSource:
    """Every frame of folders, pictures and videos, in the given order, none lost.

    With more than one processor pictures are decoded in a thread while the model runs. Of videos
    FFmpeg's own threads decode the next frames meanwhile; a thread of ours and its copy of each frame
    made them no faster (1280 x 720 to a MobileNetV2: 0.86 of the rate, median of eleven pairs of runs on
    two busy processors).

    Args:
        paths: at least one. A file whose name does not end like a picture's is a video; one that is
            no video either is taken for a picture.
        max_pixels: larger pictures are refused unread.

    Raises:
        SourceNotFoundError: a path does not exist, or no picture is in neighbouring folders.
    """
    openers: list[Callable[[], FrameSource]] = []
    pictures: list[Path] = []

    def gather() -> None:
        if pictures:
            source = FolderSource(*pictures, max_pixels=max_pixels)
            openers.append(partial(_ahead, source))
            pictures.clear()

    for path in paths:
        if path.is_dir() or path.suffix.lower() in EXTENSIONS or not _is_video(path):
            pictures.append(path)
        else:
            gather()
            openers.append(partial(VideoSource, path, max_pixels=max_pixels))
    gather()
    return openers[0]() if len(openers) == 1 else Chain(openers)


def _ahead(source: FrameSource) -> FrameSource:
    # Each picture is decoded into an array of its own.
    return ReadAhead(source, copies=False) if (os.cpu_count() or 1) > 1 else source


def _is_video(path: Path) -> bool:
    """Whether it can be opened as one: a picture may have any name."""
    from edge_sdk.errors import UnreadableImageError

    try:
        VideoSource(path).close()
    except UnreadableImageError:
        return False
    return True
