"""Charts as small inline SVG pictures; a device has no plotting library.

A picture is drawn 360 units wide, the width of a telephone, so that its text stays readable there;
colours come from the page's style sheet, so that light and dark both work. Whatever text is put in
is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 360.0
_DECADES = 1e-6  # a logarithmic axis shows no more than so much of its largest value
COLOURS = 6  # classes c0 to c5 of the style sheet; then the same ones with dashes


@dataclass(frozen=True, slots=True)
class Axis:
    """Where values lie along one side of a picture.

    Attributes:
        low, high: values at the ends; above 0 with ``log``, and apart.
        start, end: of the side, in units of the picture.
        log: by their logarithm.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(
        cls,
        values: Iterable[float],
        start: float,
        end: float,
        *,
        log: bool = False,
        zero: bool = False,
    ) -> Axis:
        """An axis that covers all values, with a margin; from 0 if ``zero``."""
        known = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
        low, high = min(known), max(known)
        if log:
            return cls(max(low, high * _DECADES) / 1.05, high * 1.05, start, end, log=True)
        low = min(0.0, low) if zero else low
        air = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
        return cls(low if zero else low - air, high + air, start, end)

    def at(self, value: float) -> float:
        """The place of a value; the end for one that is beyond it."""
        low, high = self.low, self.high
        value = min(max(value, low), high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values within the ends: 1, 2 or 5 times a power of ten apart."""
        if self.log:
            for steps in ((1, 2, 5), (1, 3), (1,)):
                found = [
                    step * 10.0**power
                    for power in range(
                        math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1
                    )
                    for step in steps
                    if self.low <= step * 10.0**power <= self.high
                ]
                if len(found) <= most + 1:
                    break
            # Within one such step a linear scale has more ticks.
            if len(found) >= 2:
                return found[:: math.ceil(len(found) / (most + 1))]
        step = _round_step((self.high - self.low) / max(1, most))
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first + 1
        return [round((first + i) * step, 12) for i in range(max(0, count))]


def picture(height: float, label: str, marks: Iterable[str]) -> str:
    """A whole SVG element.

    Args:
        height: in units, of 360 in width.
        label: description of the chart, for screen readers.
        marks: results of the functions below.
    """
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(label)}">'
        f"{''.join(marks)}</svg>"
    )


def x_axis(axis: Axis, y: float, top: float, title: str) -> str:
    """A line below, with values and a fine line up to ``top`` for each; the title below right."""
    marks = [_line(axis.start, y, axis.end, y, "axis")]
    free = -math.inf
    for value in axis.ticks():
        x, text = axis.at(value), short(value)
        marks.append(_line(x, top, x, y, "grid"))
        half = 3.2 * len(text)
        if x - half > free:
            marks.append(label(x, y + 13, text, anchor="middle"))
            free = x + half + 4
    marks.append(label(axis.end, y + 27, title, anchor="end", kind="quiet"))
    return "".join(marks)


def y_axis(axis: Axis, x: float, right: float, title: str, unit: str = "", most: int = 4) -> str:
    """Values at the left, with a fine line to ``right`` for each; the title above left."""
    marks = []
    for value in axis.ticks(most):
        y = axis.at(value)
        marks.append(_line(x, y, right, y, "grid"))
        marks.append(label(x - 5, y + 3.5, short(value) + unit, anchor="end"))
    marks.append(label(2, 10, title, kind="quiet"))
    return "".join(marks)


def curve(points: Sequence[tuple[float, float]], series: int, kind: str = "") -> str:
    """A line through places in the picture, in the colour of a series."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="line {look(series)} {kind}" points="{path}"/>'


def band(
    upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], series: int
) -> str:
    """The area between two lines."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*upper, *reversed(lower)))
    return f'<polygon class="band {look(series)}" points="{path}"/>'


def bar(x: float, y: float, width: float, height: float, series: int, kind: str = "bar") -> str:
    """A filled rectangle."""
    return (
        f'<rect class="{kind} {look(series)}" x="{x:.1f}" y="{y:.1f}" '
        f'width="{max(0.0, width):.1f}" height="{max(0.0, height):.1f}"/>'
    )


def dot(x: float, y: float, radius: float, series: int, kind: str = "dot") -> str:
    """A filled circle."""
    return f'<circle class="{kind} {look(series)}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'


def rule(x: float, top: float, bottom: float, kind: str) -> str:
    """An upright line."""
    return _line(x, top, x, bottom, kind)


def label(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    """A piece of text; escaped."""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def look(series: int) -> str:
    """Classes of the style sheet for the n-th series."""
    return f"c{series % COLOURS}" + (" dashed" if series // COLOURS % 2 else "")


def short(value: float) -> str:
    """A value for an axis: ``0.25``, ``12``, ``1,500``, ``20k``."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:,g}" if abs(value) >= 1000 else f"{value:.4g}"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least ``least``."""
    if not least > 0 or not math.isfinite(least):
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))
