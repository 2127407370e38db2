"""The three ports: any object with the one verb and ``close()`` will do, without a base class.

A source that runs live may say more of itself: ``LiveSource``; one that has larger frames to give is a
``SizedSource``. A sink may ask for the pictures too: ``FrameSink``. Whatever has a ``take_health()`` is
asked how it is: ``TellsHealth``.
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
        """The next frame, or None when there will be no more.

        Raises:
            UnreadableImageError: this one picture is bad; the next ``read()`` goes on behind it.
            NoFrameYetError: a live source has nothing new for now; the next ``read()`` goes on. It is
                raised within half a second, so that whoever reads can look after other things.
            SourceLostError: the source is gone for good.
        """
        ...

    def close(self) -> None:
        """Gives back what the source holds; a second call does nothing."""
        ...


@runtime_checkable
class TellsHealth(Protocol):
    """A source, a classifier or a sink that knows how it is; ``run`` asks, and tells every sink."""

    def take_health(self) -> Sequence[Health]:
        """What has happened to it since the last call, oldest first.

        Asked before every frame by the thread of the loop: it must not wait. ``name``, where there is
        such an attribute, says whose health it is.
        """
        ...


@runtime_checkable
class LiveSource(FrameSource, TellsHealth, Protocol):
    """A source that goes on whether somebody reads or not; ``run`` asks it how it is."""

    @property
    def dropped(self) -> int:
        """Frames so far that nobody read because a newer one had come."""
        ...


@runtime_checkable
class SizedSource(FrameSource, Protocol):
    """A source whose frames can be had larger; ``run`` asks when a larger model takes over."""

    def ask_for(self, size: tuple[int, int]) -> bool:
        """Makes the frames from the next ``read()`` on cover a size, as well as the camera can.

        Args:
            size: ``(width, height)`` in pixels.

        Returns:
            Whether frames will be larger than those read so far.
        """
        ...


@runtime_checkable
class Engine(Protocol):
    """What runs a model: one stored tensor in, one stored tensor out."""

    def infer(self, tensor: Tensor) -> Tensor:
        """Runs the model once; the result belongs to the caller.

        Raises:
            EngineError: the tensor does not fit the model, or the engine failed.
        """
        ...

    def close(self) -> None:
        """Gives back what the engine holds; a second call does nothing."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Where results go."""

    def write(self, record: Record) -> None:
        """Takes one record.

        Raises:
            SinkError: it could not be taken.
        """
        ...

    def close(self) -> None:
        """Flushes and gives back what the sink holds; a second call does nothing."""
        ...


@runtime_checkable
class FrameSink(Sink, Protocol):
    """A sink that also wants to see what was classified."""

    def see(self, frame: Frame, record: FrameRecord) -> None:
        """Takes a look at a frame, after ``write(record)``.

        Args:
            frame: valid during this call alone: who keeps its pixels copies them. With regions, the
                part that was classified.
            record: the answer.

        Raises:
            SinkError: what was made of it could not be kept.
        """
        ...
