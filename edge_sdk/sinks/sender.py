"""What a spool hands its records to: the port of everything that needs a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Parcel:
    """A record on its way.

    Attributes:
        seq: its number within the spool, rising.
        kind: the record's type: ``frame``, ``event``, ``health``.
        body: the record's ``public_json`` as UTF-8, with ``device``, ``boot_id`` and ``seq``.
        key: ``device:boot_id:seq``, by which a receiver recognises a repetition.
    """

    seq: int
    kind: str
    body: bytes
    key: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of some parcels; those in neither list are sent again.

    Attributes:
        acknowledged: numbers of those that arrived.
        refused: numbers of those that the receiver will never take.
    """

    acknowledged: tuple[int, ...]
    refused: tuple[int, ...] = ()


class Sender(Protocol):
    """Delivers parcels; used by one thread."""

    @property
    def window(self) -> int:
        """How many parcels may be under way at a time, hence repeated after a crash."""
        ...

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        """Sends at most ``window`` parcels and waits for their acknowledgement.

        Called every second or so without parcels as well, so that a sender can look after its
        connection.

        Raises:
            DeliveryError: the receiver cannot be reached, or wants to be left alone for now.
        """
        ...

    def close(self) -> None:
        """Takes leave of the receiver; a second call does nothing."""
        ...


class WatchedSender:
    """A sender that says for how long it has delivered nothing of what it was given.

    A sender that waits has not failed yet: whoever asks does not wait with it.

    Args:
        sender: what delivers.
        clock: monotonic seconds, for tests.
    """

    def __init__(self, sender: Sender, clock: Callable[[], float] = time.monotonic) -> None:
        self._sender = sender
        self._clock = clock
        self._since_s: float | None = None

    @property
    def window(self) -> int:
        """As of the sender."""
        return self._sender.window

    @property
    def unanswered_s(self) -> float:
        """Seconds since the first attempt that was to deliver something, and has not; else 0."""
        since_s = self._since_s
        return 0.0 if since_s is None else self._clock() - since_s

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        """As the sender does, counted.

        Raises:
            DeliveryError: as the sender does.
        """
        if parcels and self._since_s is None:
            self._since_s = self._clock()
        result = self._sender.deliver(parcels)
        if result.acknowledged or result.refused or not parcels:
            self._since_s = None
        return result

    def close(self) -> None:
        """Closes the sender."""
        self._sender.close()
