"""Several sources one after the other, as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from edge_sdk.ports import FrameSource
from edge_sdk.types import Frame


class Chain:
    """Reads each source to its end; frames are numbered through.

    Args:
        openers: open a source each, when it is its turn; their errors come out of ``read()``.
    """

    def __init__(self, openers: Sequence[Callable[[], FrameSource]]) -> None:
        self._openers = list(openers)
        self._source: FrameSource | None = None
        self._index = 0

    def read(self) -> Frame | None:
        """The next frame of the source whose turn it is, None after the last one's end.

        Raises:
            SourceError: as the source does, or as opening it does.
        """
        while True:
            if self._source is None:
                if not self._openers:
                    return None
                self._source = self._openers.pop(0)()
            frame = self._source.read()
            if frame is not None:
                index, self._index = self._index, self._index + 1
                return dataclasses.replace(frame, index=index)
            self._source.close()
            self._source = None

    def close(self) -> None:
        """Closes the source whose turn it is; the others are never opened."""
        self._openers.clear()
        if self._source is not None:
            self._source.close()
            self._source = None
