"""The three ports: any object with the one verb and ``close()`` implements one; no base class.

Optional additions: a live source may be a ``LiveSource``; one whose frame size can be raised is a
``SizedSource``; a sink that takes pictures too is a ``FrameSink``; any object with a ``take_health()``
reports its health: ``TellsHealth``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edge_sdk.types import Frame, Health, Tensor

if TYPE_CHECKING:  # a classifier alone needs no records
    from edge_sdk.types import FrameRecord, Record


@runtime_checkable
class FrameSource(Protocol):
    """Where frames come from."""

    def read(self) -> Frame | None:
        """Returns the next frame, or None at the end.

        Raises:
            UnreadableImageError: this picture is bad; the next ``read()`` continues after it.
            NoFrameYetError: a live source has no new frame yet; call ``read()`` again. It is raised
                within 0.5 s, so that the reader can do other work.
            SourceLostError: the source is gone for good.
        """
        ...

    def close(self) -> None:
        """Releases the source's resources; a second call does nothing."""
        ...


@runtime_checkable
class TellsHealth(Protocol):
    """A source, a classifier or a sink that reports its health; ``run`` passes it to every sink."""

    def take_health(self) -> Sequence[Health]:
        """Returns its health records since the last call, oldest first.

        The loop's thread calls it before every frame: it must not block. A ``name`` attribute, if
        present, names the origin in the records.
        """
        ...


@runtime_checkable
class LiveSource(FrameSource, TellsHealth, Protocol):
    """A source that produces frames whether or not they are read, and reports its health."""

    @property
    def dropped(self) -> int:
        """Frames so far that were not read because a newer one replaced them."""
        ...


@runtime_checkable
class SizedSource(FrameSource, Protocol):
    """A source whose frame size can be raised; ``run`` does so for a model with a larger input."""

    def ask_for(self, size: tuple[int, int]) -> bool:
        """Requests frames that cover a size from the next ``read()`` on, as far as the camera can.

        Args:
            size: ``(width, height)`` in pixels.

        Returns:
            Whether frames will be larger than those read so far.
        """
        ...


@runtime_checkable
class Engine(Protocol):
    """Runs a model: one stored tensor in, one stored tensor out."""

    def infer(self, tensor: Tensor) -> Tensor:
        """Runs the model once; the result belongs to the caller.

        Raises:
            EngineError: the tensor does not fit the model, or the engine failed.
        """
        ...

    def close(self) -> None:
        """Releases the engine's resources; a second call does nothing."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Where results go."""

    def write(self, record: Record) -> None:
        """Accepts one record.

        Raises:
            SinkError: the record could not be accepted.
        """
        ...

    def close(self) -> None:
        """Flushes and releases the sink's resources; a second call does nothing."""
        ...


@runtime_checkable
class FrameSink(Sink, Protocol):
    """A sink that also takes the classified frames."""

    def see(self, frame: Frame, record: FrameRecord) -> None:
        """Takes a classified frame, after ``write(record)``.

        Args:
            frame: valid only during this call: copy its pixels to keep them. With regions, the part
                that was classified.
            record: the answer.

        Raises:
            SinkError: the frame could not be stored.
        """
        ...
