"""Which of a sensor's modes is asked for, and which size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def choose_mode(
    modes: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> Mapping[str, Any] | None:
    """The sensor mode that sees most, then covers ``size``, then is smallest, then fastest.

    None where the sensor tells no modes.
    """
    known = [mode for mode in modes if "size" in mode and "crop_limits" in mode]
    if not known:
        return None

    def rank(mode: Mapping[str, Any]) -> tuple[float, ...]:
        width, height = mode["size"]
        covers = width >= size[0] and height >= size[1]
        area = width * height
        seen = mode["crop_limits"][2] * mode["crop_limits"][3]
        return (-seen, not covers, area if covers else -area, -mode.get("fps", 0.0))

    return min(known, key=rank)


def covering(size: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """The smallest even size of the sensor's shape that covers ``size``; all ``(width, height)``."""
    scale = max(size[0] / shape[0], size[1] / shape[1])
    return _even(max(size[0], shape[0] * scale)), _even(max(size[1], shape[1] * scale))


def _even(length: float) -> int:
    return 2 * math.ceil(round(length, 6) / 2)
