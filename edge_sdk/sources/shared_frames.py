"""Frames in shared memory: one process writes, another reads the newest without copying it.

There are three slots: one being written, the newest complete one, and the one that the reader holds.
Each belongs to one side at any time, so no frame is ever half overwritten, the writer never waits for
the reader, and the reader's frame is unchanged until it takes the next. The owners of the slots are
stored in a separate file under a record lock: unlike a semaphore, the kernel releases it when its
holder is killed.

The memory has no name (``memfd_create``): it is freed with the last process that holds it, however that
ends. Slots are far apart in a sparse file, so a larger picture only needs a longer mapping.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import select
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from edge_sdk.errors import FrameError, SourceLostError
from edge_sdk.types import Frame, PixelFormat

_SLOTS = 3
_FORMATS: tuple[PixelFormat, ...] = ("rgb", "bgr", "rgba", "gray", "i420")
# Holds a picture of 178 megapixels; only written pages take memory.
_STRIDE_BYTES = 1 << 29

_NOBODY = -1
# Newest slot, slot that the reader holds, frames published so far.
_STATE = struct.Struct("=iiq")
# Sequence number, index, timestamp, presentation time (-1: none), format, dimensions, shape, length of
# the name.
_FRAME = struct.Struct("=qqqqii3iH")
_NAME_BYTES = 4096  # PATH_MAX
_FRAME_AT, _FRAME_STEP = 64, 8192
_CONTROL_BYTES = _FRAME_AT + _SLOTS * _FRAME_STEP
# Limit on frames between two reads, more than a camera delivers in a year; and the largest JSON integer.
_AHEAD_MAX, _INDEX_MAX = 1 << 32, 1 << 53
_LOCK_WAIT_S, _LOCK_TRY_S = 0.1, 0.0001


class Descriptors(NamedTuple):
    """The file descriptors that both sides share.

    Attributes:
        control: a few pages with the owners of the slots.
        pixels: the slots.
        published: an eventfd, set by every new frame.
        taken: an eventfd, set by every frame that the reader takes.
    """

    control: int
    pixels: int
    published: int
    taken: int

    @classmethod
    def new(cls) -> Descriptors:
        """Creates empty shared memory; release it with ``close()``.

        Raises:
            OSError: no memory or no descriptors left.
        """
        with contextlib.ExitStack() as undo:
            made = []
            for make in (_control, _pixels, _event, _event):
                made.append(make())
                undo.callback(os.close, made[-1])
            undo.pop_all()
            return cls(*made)

    def close(self) -> None:
        """Closes the descriptors; existing mappings stay valid."""
        for descriptor in self:
            os.close(descriptor)


def _control() -> int:
    descriptor = _memory("edgecls-control", _CONTROL_BYTES)
    os.pwrite(descriptor, _STATE.pack(_NOBODY, _NOBODY, 0), 0)
    return descriptor


def _pixels() -> int:
    return _memory("edgecls-frames", _SLOTS * _STRIDE_BYTES)


def _memory(name: str, size_bytes: int) -> int:
    """Memory of sealed size: if one side truncated it, the other would get SIGBUS."""
    import fcntl  # missing on Windows, which imports this module too

    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size_bytes)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _event() -> int:
    return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


class _Shared:
    """Common to both sides: the state under its lock, and the mapped slots."""

    def __init__(self, descriptors: Descriptors, access: int) -> None:
        self._descriptors = descriptors
        self._control = mmap.mmap(descriptors.control, _CONTROL_BYTES)
        self._access = access
        self._slots: list[mmap.mmap | None] = [None] * _SLOTS

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the lock on the state.

        Raises:
            TimeoutError: the other side has held the lock for 0.1 s: its process is stopped.
        """
        import fcntl

        descriptor = self._descriptors.control
        give_up = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
                break
            except (BlockingIOError, PermissionError):
                if time.monotonic() > give_up:
                    raise TimeoutError("the other side holds the lock") from None
                time.sleep(_LOCK_TRY_S)
        try:
            yield
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1)

    def _slot(self, slot: int, size_bytes: int) -> mmap.mmap:
        """A mapping of at least so many bytes; a replaced shorter one stays valid in its views."""
        mapped = self._slots[slot]
        if mapped is None or len(mapped) < size_bytes:
            mapped = self._slots[slot] = mmap.mmap(
                self._descriptors.pixels,
                -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE,
                offset=slot * _STRIDE_BYTES,
                access=self._access,
            )
        return mapped


class FrameWriter(_Shared):
    """The capturing side.

    Args:
        descriptors: from ``Descriptors.new``, in this process.
    """

    def __init__(self, descriptors: Descriptors) -> None:
        super().__init__(descriptors, mmap.ACCESS_WRITE)
        self._free = 0

    def write(self, frame: Frame) -> None:
        """Copies a frame into a free slot and makes it the newest.

        Raises:
            FrameError: more than 512 MiB, more than three dimensions, or not uint8.
        """
        pixels = frame.pixels
        if pixels.dtype != np.uint8 or pixels.ndim > 3 or not 0 < pixels.nbytes <= _STRIDE_BYTES:
            raise FrameError(
                f"{frame.name} returned a picture of {pixels.dtype} {pixels.shape}; expected uint8, two "
                f"or three dimensions, and at most {_STRIDE_BYTES >> 20} MiB: set a smaller size"
            )
        slot = self._slot(self._free, pixels.nbytes)
        np.copyto(np.frombuffer(slot, np.uint8, pixels.size).reshape(pixels.shape), pixels)
        self._publish(frame)

    def wait_until_taken(self) -> None:
        """Waits until the newest frame is taken, for sources whose frames must all be delivered."""
        wait = select.poll()
        wait.register(self._descriptors.taken, select.POLLIN)
        while _STATE.unpack_from(self._control)[0] != _NOBODY:
            wait.poll()
            _lower(self._descriptors.taken)

    def _publish(self, frame: Frame) -> None:
        written = self._free
        while True:
            try:
                with self._locked():
                    _, held, published = _STATE.unpack_from(self._control)
                    self._describe(written, frame, published)
                    _STATE.pack_into(self._control, 0, written, held, published + 1)
                    self._free = next(s for s in range(_SLOTS) if s not in (written, held))
                break
            except TimeoutError:  # the reader's process is stopped
                continue
        _raise(self._descriptors.published)

    def _describe(self, slot: int, frame: Frame, published: int) -> None:
        name = os.fsencode(frame.name)[:_NAME_BYTES]
        shape = (*frame.pixels.shape, 0)[:3]
        _FRAME.pack_into(
            self._control,
            _FRAME_AT + slot * _FRAME_STEP,
            published,
            frame.index,
            -1 if frame.timestamp_ns is None else frame.timestamp_ns,
            -1 if frame.presentation_ns is None else frame.presentation_ns,
            _FORMATS.index(frame.format),
            frame.pixels.ndim,
            *shape,
            len(name),
        )
        start = _FRAME_AT + slot * _FRAME_STEP + _FRAME.size
        self._control[start : start + len(name)] = name


class FrameReader(_Shared):
    """The classifying side.

    Args:
        descriptors: from ``Descriptors.new``, in this process; their owner closes them.
    """

    def __init__(self, descriptors: Descriptors) -> None:
        super().__init__(descriptors, mmap.ACCESS_READ)
        self._seen = 0
        self.dropped = 0

    def take(self, first_index: int = 0) -> Frame | None:
        """The newest frame if it has not been taken yet, else None.

        ``pixels`` is a read-only view of the shared memory. It is unchanged until the next call, and
        stays valid memory while it is referenced.

        Args:
            first_index: added to the frame's own index.

        Raises:
            SourceLostError: the shared memory holds no valid frame; the writer has damaged it.
        """
        _lower(self._descriptors.published)
        try:
            with self._locked():
                newest, _, published = _STATE.unpack_from(self._control)
                if newest == _NOBODY:
                    return None
                _STATE.pack_into(self._control, 0, _NOBODY, newest, published)
        except TimeoutError:
            return None
        _raise(self._descriptors.taken)
        return self._frame(newest, first_index)

    def _frame(self, slot: int, first_index: int) -> Frame:
        if not 0 <= slot < _SLOTS:
            raise _damaged()
        at = _FRAME_AT + slot * _FRAME_STEP
        number, index, stamp_ns, shown_ns, code, dimensions, *shape, name_bytes = (
            _FRAME.unpack_from(self._control, at)
        )
        size = math.prod(shape[:dimensions])
        sound = dimensions in (2, 3) and min(shape[:dimensions]) > 0 and size <= _STRIDE_BYTES
        sound = sound and 0 <= number - self._seen < _AHEAD_MAX and 0 <= index < _INDEX_MAX
        if not (sound and 0 <= code < len(_FORMATS) and name_bytes <= _NAME_BYTES):
            raise _damaged()
        self.dropped += number - self._seen
        self._seen = number + 1
        name = self._control[at + _FRAME.size : at + _FRAME.size + name_bytes]
        return Frame(
            np.frombuffer(self._slot(slot, size), np.uint8, size).reshape(shape[:dimensions]),
            _FORMATS[code],
            first_index + index,
            None if stamp_ns < 0 else stamp_ns,
            os.fsdecode(name),
            None if shown_ns < 0 else shown_ns,
        )


def _damaged() -> SourceLostError:
    return SourceLostError(
        "the shared memory of the capture process is damaged, probably by the camera's driver; update "
        "the driver"
    )


def _raise(event: int) -> None:
    with contextlib.suppress(BlockingIOError):  # the counter is at its maximum, 2**64 - 2
        os.eventfd_write(event, 1)


def _lower(event: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(event)
