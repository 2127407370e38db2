"""Thousands of damaged pictures through the decoder, and the outcome of each.

``python -m tests.fuzz.pictures --count 10000 --out build/pictures.jsonl`` runs them, goes on where it was
stopped, and prints a summary. They are decoded inside a worker process, so that one that kills its
decoder is seen: the worker is gone. Nothing but seeded arithmetic makes them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import UnreadableImageError
from edge_sdk.vision.images import decode_image

# What is promised: nothing takes longer, nothing takes more. 576 MB and what decoders keep besides.
LIMIT_S, LIMIT_MB = 30.0, 650.0
_HANGS_S = 90.0
# A JPEG's own loss is smaller; what differs in so many pixels is seen.
_LEVELS, _SHARE = 24, 0.01

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one picture.

    Attributes:
        number: of the picture.
        base: the format it was made of.
        damage: what was done to it.
        ended: ``refused``, ``read``; ``died`` where the process did, ``hung``, or ``raised`` with an
            error that is none of ours.
        differs: share of pixels (0..1) that are visibly others than before; of those that were read.
        seconds: how long it took.
        peak_mb: the most memory that it took.
        said: why it was refused.
    """

    number: int
    base: str
    damage: str
    ended: str
    differs: float = 0.0
    seconds: float = 0.0
    peak_mb: float = 0.0
    said: str = ""

    @property
    def fault(self) -> bool:
        """Whether a promise is broken."""
        kept = self.ended in ("refused", "read")
        return not kept or self.seconds > LIMIT_S or self.peak_mb > LIMIT_MB


def _scene(seed: int, width: int, height: int) -> Pixels:
    """Soft shapes with some noise, as dense in detail as a photograph: about a byte for four pixels."""
    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    fine = chance.normal(0, 6, (height, width, 3))
    pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + fine
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _encoder(ending: str, *options: int, gray: bool = False) -> Callable[[Pixels], bytes]:
    def encode(pixels: Pixels) -> bytes:
        return cv2.imencode(ending, pixels[..., 0] if gray else pixels, options)[1].tobytes()

    return encode


_PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
_FULL_COLOUR = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
BASES: dict[str, Callable[[Pixels], bytes]] = {
    "jpeg": _encoder(".jpg"),
    "jpeg-quality-60": _encoder(".jpg", cv2.IMWRITE_JPEG_QUALITY, 60),
    "jpeg-444": _encoder(".jpg", *_FULL_COLOUR),
    "jpeg-gray": _encoder(".jpg", gray=True),
    "jpeg-restarts": _encoder(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "jpeg-progressive": _encoder(".jpg", *_PROGRESSIVE),
    "jpeg-progressive-444": _encoder(".jpg", *_PROGRESSIVE, *_FULL_COLOUR),
    "png": _encoder(".png"),
    "webp": _encoder(".webp", cv2.IMWRITE_WEBP_QUALITY, 80),
    "webp-lossless": _encoder(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
    "bmp": _encoder(".bmp"),
    "gif": _encoder(".gif"),
    "tiff-lzw": _encoder(".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 5),
    "tiff-plain": _encoder(".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 1),
}
_SIZES = ((160, 120), (320, 240), (640, 480))
_SCENES = 3


@cache
def _sound(base: str, size: tuple[int, int], scene: int) -> tuple[bytes, Pixels]:
    data = BASES[base](_scene(scene, *size))
    return data, decode_image(data, name=base).pixels


# Each takes a file, where its pixels begin, and chance.
Damage = Callable[[bytes, int, random.Random], bytes]


def _place(data: bytes, begin: int, chance: random.Random, size: int = 1) -> int:
    return chance.randrange(begin, max(begin + 1, len(data) - size - 2))


def _zeros(data: bytes, begin: int, chance: random.Random) -> bytes:
    size = chance.choice((64, 512, 4096))
    at = _place(data, begin, chance, size)
    return data[:at] + bytes(min(size, len(data) - 2 - at)) + data[min(at + size, len(data) - 2) :]


def _noise(data: bytes, begin: int, chance: random.Random) -> bytes:
    size = chance.choice((16, 64, 512))
    at = _place(data, begin, chance, size)
    return data[:at] + chance.randbytes(size) + data[at + size :]


def _lost(data: bytes, begin: int, chance: random.Random) -> bytes:
    at, size = _place(data, begin, chance), chance.choice((1, 2, 512, 4096))
    return data[:at] + data[min(at + size, len(data) - 2) :]


def _flipped(data: bytes, begin: int, chance: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 4, 16))):
        damaged[_place(data, begin, chance)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _cut(data: bytes, begin: int, chance: random.Random) -> bytes:
    return data[: _place(data, begin, chance)]


def _cut_and_ended(data: bytes, begin: int, chance: random.Random) -> bytes:
    return _cut(data, begin, chance) + data[-2:]


def _twice(data: bytes, begin: int, chance: random.Random) -> bytes:
    at, size = _place(data, begin, chance), 512
    return data[:at] + data[at : at + size] + data[at:]


def _head(data: bytes, begin: int, chance: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 3, 8))):
        damaged[chance.randrange(min(begin, len(data)))] = chance.randrange(256)
    return bytes(damaged)


def _sides(data: bytes, begin: int, chance: random.Random) -> bytes:
    """Numbers of the head become large ones: bombs among them."""
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 2))):
        order = chance.choice("<>")
        at = chance.randrange(max(1, min(begin, len(data)) - 4))
        number = chance.choice((0xFFFF, 8000, 30000, 1 << 20, 1 << 28, (1 << 32) - 1))
        raw = struct.pack(order + ("H" if number < 1 << 16 else "I"), number)
        damaged[at : at + len(raw)] = raw
    return bytes(damaged)


DAMAGES: dict[str, Damage] = {
    "a sector of zeros": _zeros,
    "bytes overwritten": _noise,
    "bytes lost": _lost,
    "bits flipped": _flipped,
    "cut off": _cut,
    "cut off and ended": _cut_and_ended,
    "a part twice": _twice,
    "head": _head,
    "sides": _sides,
}
_OF_THE_HEAD = ("head", "sides")


def damaged(number: int) -> tuple[str, str, bytes, Pixels]:
    """Base, damage, file and sound pixels of a number: always the same."""
    chance = random.Random(f"picture {number}")
    # Half of all are JPEGs, which alone go on without a word.
    names = [name for name in BASES if name.startswith("jpeg") == bool(number % 2)]
    base, damage = chance.choice(names), chance.choice(list(DAMAGES))
    data, pixels = _sound(base, chance.choice(_SIZES), chance.randrange(_SCENES))
    begin = data.find(b"\xff\xda") + 14 if base.startswith("jpeg") else 60
    return base, damage, DAMAGES[damage](data, begin, chance), pixels


def _differs(one: Pixels, other: Pixels) -> float:
    if one.shape != other.shape:
        return 1.0
    apart = np.abs(one.astype(np.int16) - other).max(axis=2) > _LEVELS
    return float(apart.mean())


def judge(number: int) -> Outcome:
    """Decodes one picture in this process."""
    base, damage, data, pixels = damaged(number)
    before = _memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts over
    began = time.perf_counter()
    ended, differs, said = "read", 0.0, ""
    try:
        frame = decode_image(data, name=str(number))
    except UnreadableImageError as error:
        ended, said = "refused", error.reason
    except Exception as error:  # noqa: BLE001  # which is what is looked for
        ended, said = "raised", repr(error)
    seconds = time.perf_counter() - began
    peak_mb = max(0.0, _memory_mb("VmHWM") - before)
    if ended == "read":
        differs = _differs(frame.pixels, pixels)
    return Outcome(
        number,
        base,
        damage,
        ended,
        round(differs, 4),
        round(seconds, 3),
        round(peak_mb),
        said[:200],
    )


def _memory_mb(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


class _Worker:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.pictures", "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def judge(self, number: int) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], _HANGS_S)
        line = self._process.stdout.readline() if ready else ""
        if line:
            return Outcome(**json.loads(line))
        self.close()
        base, damage, _, _ = damaged(number)
        return Outcome(number, base, damage, "died" if ready else "hung")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def campaign(numbers: Iterator[int]) -> Iterator[Outcome]:
    """Decodes pictures in a process of its own, which is started again when one has ended it."""
    worker = _Worker()
    try:
        for number in numbers:
            if not worker.alive:
                worker = _Worker()
            yield worker.judge(number)
    finally:
        worker.close()


def summary(outcomes: Sequence[Outcome]) -> str:
    """Figures for a person."""
    lines = [f"{len(outcomes)} pictures: {_counts(Counter(o.ended for o in outcomes))}"]
    lines.append(
        f"longest {max(o.seconds for o in outcomes):.1f} s, most memory "
        f"{max(o.peak_mb for o in outcomes):.0f} MB, faults {sum(o.fault for o in outcomes)}"
    )
    lines += [f"  FAULT {o}" for o in outcomes if o.fault]
    jpegs = [o for o in outcomes if o.base.startswith("jpeg") and o.damage not in _OF_THE_HEAD]
    for damage in [d for d in DAMAGES if d not in _OF_THE_HEAD]:
        lines.append(f"  {damage:20s}{_detected([o for o in jpegs if o.damage == damage])}")
    lines.append(f"JPEGs damaged inside:  {_detected(jpegs)}")
    return "\n".join(lines)


def _detected(outcomes: Sequence[Outcome]) -> str:
    refused = sum(o.ended == "refused" for o in outcomes)
    unseen = sum(o.ended == "read" and o.differs > _SHARE for o in outcomes)
    visible = refused + unseen
    share = f"{100 * refused / visible:.1f} %" if visible else "none"
    harmless = len(outcomes) - visible
    return f"{refused} refused, {unseen} read though visibly damaged, {harmless} harmless: {share}"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))


def _work() -> None:
    for line in sys.stdin:
        print(json.dumps(asdict(judge(int(line)))), flush=True)  # noqa: T201


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("build/pictures.jsonl"))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        _work()
        return
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    done: list[Any] = []
    if arguments.out.exists():
        done = [json.loads(line) for line in arguments.out.read_text().splitlines()]
    outcomes = [Outcome(**each) for each in done][: arguments.count]
    with arguments.out.open("a", encoding="utf-8") as file:
        for outcome in campaign(iter(range(len(outcomes), arguments.count))):
            outcomes.append(outcome)
            file.write(json.dumps(asdict(outcome)) + os.linesep)
            file.flush()
    print(summary(outcomes))  # noqa: T201


if __name__ == "__main__":
    main()
