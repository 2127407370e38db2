"""The three ports: any object with the one verb and ``close()`` will do, without a base class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edge_sdk.types import Frame, Tensor

if TYPE_CHECKING:  # a classifier alone needs no records
    from edge_sdk.records import Record


@runtime_checkable
class FrameSource(Protocol):
    """Where frames come from."""

    def read(self) -> Frame | None:
        """The next frame, or None when there will be no more.

        Raises:
            UnreadableImageError: this one picture is bad; the next ``read()`` goes on behind it.
            SourceLostError: the source is gone for good.
        """
        ...

    def close(self) -> None:
        """Gives back what the source holds; a second call does nothing."""
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
