"""What a spool hands its records to: the port of everything that needs a network."""

from __future__ import annotations

from collections.abc import Sequence
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
