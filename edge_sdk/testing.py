"""Fakes for tests of programs that embed ``edge_sdk``: no camera, no model needed.

They pass the same contract suite as the real drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edge_sdk.errors import EngineError, SinkError
from edge_sdk.types import Frame, Record, Tensor


class FakeSource:
    """Plays back a script of frames, and raises the exceptions in it at their position."""

    def __init__(self, script: Iterable[Frame | Exception]) -> None:
        self._script = iter(script)
        self._closed = False

    def read(self) -> Frame | None:
        """The next frame of the script; None at its end or once closed. Raises its exceptions."""
        step = None if self._closed else next(self._script, None)
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        """Ends the source."""
        self._closed = True


class FakeEngine:
    """Answers with a function of the input tensor instead of a model.

    Args:
        answer: from the stored input tensor to the stored output tensor.
    """

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        self._answer = answer
        self.inferences = 0
        self.closed = False

    def infer(self, tensor: Tensor) -> Tensor:
        """Counts the call and answers.

        Raises:
            EngineError: the engine is closed, or the function cannot take the tensor.
        """
        if self.closed:
            raise EngineError("the engine is closed; open the model again")
        self.inferences += 1
        try:
            return self._answer(tensor)
        except ValueError as error:
            raise EngineError(f"inference failed: {error}") from error

    def close(self) -> None:
        """Marks the engine as closed."""
        self.closed = True


class MemorySink:
    """Keeps every record in ``records``.

    Args:
        capacity: how many it keeps before it fails as on a full disk; None: no limit.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.records: list[Record] = []
        self._capacity = capacity
        self.closed = False

    def write(self, record: Record) -> None:
        """Keeps the record.

        Raises:
            SinkError: the capacity is reached, or the sink is closed.
        """
        if self.closed:
            raise SinkError("this sink is closed")
        if self._capacity is not None and len(self.records) >= self._capacity:
            raise SinkError(f"this sink is full: its capacity is {self._capacity} records")
        self.records.append(record)

    def close(self) -> None:
        """Accepts no more records."""
        self.closed = True
