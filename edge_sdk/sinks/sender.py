"""``Sender``: the protocol through which a spool delivers its records over a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Parcel:
    """A record in delivery.

    Attributes:
        seq: its number within the spool, increasing.
        kind: the record's type: ``frame``, ``event``, ``health``.
        body: the record's ``public_json`` as UTF-8, with ``device``, ``boot_id`` and ``seq``.
        key: ``device:boot_id:seq``, by which a receiver detects a duplicate.
    """

    seq: int
    kind: str
    body: bytes
    key: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """The outcome of a delivery; parcels in neither list are sent again.

    Attributes:
        acknowledged: numbers of those that arrived.
        refused: numbers of those that the receiver refused for good.
    """

    acknowledged: tuple[int, ...]
    refused: tuple[int, ...] = ()


class Sender(Protocol):
    """Delivers parcels; used by one thread."""

    @property
    def window(self) -> int:
        """How many parcels may be in flight at a time, and so repeated after a crash."""
        ...

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        """Sends at most ``window`` parcels and waits for their acknowledgement.

        Called about every second without parcels as well, so that a sender can maintain its
        connection.

        Raises:
            DeliveryError: the receiver cannot be reached, or requests a back-off.
        """
        ...

    def close(self) -> None:
        """Disconnects from the receiver; a second call does nothing."""
        ...


class WatchedSender:
    """Wraps a sender and measures for how long it has delivered nothing.

    A hanging ``deliver`` has not failed yet; ``unanswered_s`` can be read meanwhile.

    Args:
        sender: delivers the parcels.
        clock: monotonic seconds, for tests.
    """

    def __init__(self, sender: Sender, clock: Callable[[], float] = time.monotonic) -> None:
        self._sender = sender
        self._clock = clock
        self._since_s: float | None = None

    @property
    def window(self) -> int:
        """The window of the sender."""
        return self._sender.window

    @property
    def unanswered_s(self) -> float:
        """Seconds since the first attempt to deliver something, while none has succeeded; else 0."""
        since_s = self._since_s
        return 0.0 if since_s is None else self._clock() - since_s

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        """Delivers through the sender, and records the time.

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
