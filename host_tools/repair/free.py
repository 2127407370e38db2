"""Treatments of the same size and speed: they cost nothing at run time."""

from __future__ import annotations

from host_tools.quantize.int8 import Treatment

# All are tried and the best one goes on.
FREE: tuple[tuple[str, str, Treatment], ...] = (
    (
        "int8",
        "weights per channel, ranges of everything that was seen",
        Treatment("minmax", equalized=False, corrected=False),
    ),
    (
        "ranges cut at 99.99 %",
        "the outermost ten-thousandth of each activation saturates",
        Treatment("percentile", equalized=False, corrected=False),
    ),
    (
        "ranges of least squared error",
        "rounding and saturation balanced, activation by activation",
        Treatment("mse", equalized=False, corrected=False),
    ),
    (
        "biases corrected",
        "biases make up for the rounding of weights",
        Treatment("mse", equalized=False, corrected=True),
    ),
    (
        "equalised, biases corrected",
        "channels of like size, then ranges of least squared error and corrected biases",
        Treatment("mse", equalized=True, corrected=True),
    ),
)
