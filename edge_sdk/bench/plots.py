"""The pictures of a report: distributions, drift, scaling, accuracy against latency."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bench.charts import (
    WIDTH,
    Axis,
    band,
    bar,
    curve,
    dot,
    label,
    picture,
    rule,
    x_axis,
    y_axis,
)
from edge_sdk.bench.figures import ms
from edge_sdk.bench.results import Distribution, Samples, ThreadPoint

Floats = NDArray[np.float64]


Points = Sequence[tuple[float, float]]


_LEFT, _RIGHT = 44.0, WIDTH - 8


_HEIGHT = 190.0


_BOTTOM = _HEIGHT - 34


# The tail has a separate area at the right; otherwise one slow run of a thousand would compress all
# others into one bar.
_LANE = 52.0


_BINS = 48


_DOTS = 300  # of the slowest runs, to limit the size of the page


_COLUMNS = 140


def tail_from(values: Floats) -> float:
    """The limit of slow runs: four times as far above the median as the 90th percentile.

    For drawing only; all figures include all runs.
    """
    p50, p90 = np.percentile(values, (50, 90))
    return float(p50 + 4 * max(p90 - p50, 0.02 * p50))


def histogram(values_ms: Sequence[float], latency: Distribution, series: int) -> str:
    """Histogram of latencies, the median with its 95 % interval, and the slow runs separately."""
    values = np.sort(np.array(values_ms))
    border = tail_from(values)
    slow = values[values > border]
    usual = values[values <= border]
    right = _RIGHT - (_LANE if len(slow) else 0)
    axis = Axis.over((float(usual[0]), float(usual[-1])), 10, right)
    spread = max(float(usual[-1] - usual[0]), 1e-9)
    quarter = float(np.subtract(*np.percentile(usual, (75, 25))))
    # Bin width by Freedman and Diaconis (1981), within visible limits.
    width = 2 * quarter / len(usual) ** (1 / 3)
    bins = int(min(_BINS, max(8, spread / width))) if width > 0 else 8
    counts, edges = np.histogram(usual, bins=bins, range=(axis.low, axis.high))
    top, bottom = 10.0, _BOTTOM
    tallest = max(1, int(counts.max()))
    marks = [x_axis(axis, bottom, top, "ms")]
    if latency.ci95:
        low, high = (min(max(axis.at(v), axis.start), right) for v in latency.ci95)
        marks.append(bar(low, top, max(1.5, high - low), bottom - top, series, "interval"))
    for count, (first, last) in zip(counts, pairwise(edges), strict=True):
        height = (bottom - top) * count / tallest
        x = axis.at(float(first))
        marks.append(bar(x, bottom - height, axis.at(float(last)) - x - 0.6, height, series))
    middle = axis.at(latency.p50)
    marks.append(rule(middle, top, bottom, "median"))
    if len(slow):
        marks += _lane(slow, border, right, top, bottom, series)
    what = f"Histogram of {len(values)} latencies, median {ms(latency.p50)} ms"
    return picture(_HEIGHT, what, marks)


def distribution(curves: Sequence[tuple[int, Floats]]) -> str:
    """Share of runs at most as slow, one line for each ``(series, latencies in ms)``."""
    everything = np.concatenate([values for _, values in curves])
    low, high = float(everything.min()), float(everything.max())
    axis = Axis.over((low, high), _LEFT, _RIGHT, log=low > 0)
    y = Axis(0, 100, _BOTTOM, 18)
    marks = [
        x_axis(axis, _BOTTOM, 18, "ms, logarithmic" if axis.log else "ms"),
        y_axis(y, _LEFT, _RIGHT, "runs at most as slow", " %", most=5),
    ]
    shares = np.concatenate((np.linspace(0, 95, 96), np.linspace(95.25, 100, 20)))
    for series, values in curves:
        at = np.percentile(values, shares)
        places = [(axis.at(float(v)), y.at(float(s))) for v, s in zip(at, shares, strict=True)]
        marks.append(curve(places, series))
    return picture(_HEIGHT, f"Cumulative distribution of {len(curves)} models", marks)


def over_time(samples: Samples, series: int) -> str:
    """Latency over the time of the measurement: median, the middle 90 %, and slow runs."""
    at_s, values = np.array(samples.at_s), np.array(samples.total_ms)
    border = tail_from(values)
    usual = values[values <= border]
    x = Axis.over(at_s.tolist(), _LEFT, _RIGHT, zero=True)
    y = Axis.over((float(usual.min()), float(usual.max())), _BOTTOM, 30)
    marks = [
        x_axis(x, _BOTTOM, 18, "s"),
        y_axis(y, _LEFT, _RIGHT, "ms"),
    ]
    columns = min(_COLUMNS, max(1, len(values) // 8))
    upper, lower, middle = [], [], []
    for part in np.array_split(np.argsort(at_s, kind="stable"), columns):
        low, mid, high = np.percentile(np.minimum(values[part], usual.max()), (5, 50, 95))
        place = x.at(float(np.median(at_s[part])))
        upper.append((place, y.at(float(high))))
        lower.append((place, y.at(float(low))))
        middle.append((place, y.at(float(mid))))
    if columns > 1:
        marks += [band(upper, lower, series), curve(middle, series)]
    else:
        order = zip(at_s, values, strict=True)
        marks += [dot(x.at(float(t)), y.at(min(float(v), border)), 2, series) for t, v in order]
    slow = np.flatnonzero(values > border)
    worst = slow[np.argsort(values[slow])[-_DOTS:]]
    marks += [dot(x.at(float(at_s[i])), 23, 2.2, series, "outlier") for i in worst]
    if len(slow):
        text = f"{len(slow)} slower, up to {ms(float(values.max()))} ms"
        marks.append(label(_RIGHT, 12, text, anchor="end", kind="quiet"))
    return picture(_HEIGHT, f"Latency of {len(values)} runs over time", marks)


def scaling(lines: Sequence[tuple[int, Sequence[ThreadPoint]]]) -> str:
    """Speed over threads, as a multiple of each model's first point; dashed: as fast as threads.

    Args:
        lines: ``(series, its points)``.
    """
    counts = sorted({point.threads for _, line in lines for point in line})
    first, last = counts[0], counts[-1]
    x = Axis(first - 0.3, last + 0.3, _LEFT, _RIGHT)
    gains = [(s, [(p.threads, p.fps / line[0].fps) for p in line]) for s, line in lines]
    best = max(gain for _, line in gains for _, gain in line)
    y = Axis(0, max(best, min(last / first, 1.6 * best)) * 1.08, _BOTTOM, 18)
    marks = [y_axis(y, _LEFT, _RIGHT, "times as many pictures per second")]
    marks.append(_whole_axis(x, counts))
    end = min(float(last), first * y.high)
    marks.append(curve([(x.at(first), y.at(1)), (x.at(end), y.at(end / first))], 0, "ideal"))
    for series, line in gains:
        places = [(x.at(threads), y.at(gain)) for threads, gain in line]
        marks.append(curve(places, series))
        marks += [dot(*place, 3, series) for place in places]
    return picture(_HEIGHT, "Speed over threads", marks)


def trade(points: Sequence[tuple[int, float, float, int]]) -> str:
    """Accuracy over latency; the area of a disc is the size of the file.

    Args:
        points: ``(series, p50 in ms, accuracy 0..1, size in bytes)``.
    """
    x = Axis.over([p[1] for p in points], _LEFT + 22, _RIGHT - 22, log=True)
    y = Axis.over([100 * p[2] for p in points], _BOTTOM - 18, 40)
    marks = [
        x_axis(x, _BOTTOM, 18, "ms, logarithmic"),
        y_axis(y, _LEFT, _RIGHT, "accuracy", " %"),
    ]
    largest = max(p[3] for p in points)
    labels = []
    for series, latency, accuracy, n_bytes in sorted(points, key=lambda p: -p[3]):
        place = (x.at(latency), y.at(100 * accuracy))
        radius = max(3.0, 17 * (n_bytes / largest) ** 0.5)
        marks.append(dot(*place, radius, series, "disc"))
        # Within the disc where it is large enough, else above.
        below = 4 if radius >= 9 else -radius - 3
        text = str(series + 1)
        labels.append(label(place[0], place[1] + below, text, anchor="middle", kind="mark"))
    marks += labels
    return picture(_HEIGHT, "Accuracy over latency", marks)


def trace(points: Points, title: str, series: int, *, zero: bool = False) -> str:
    """One quantity of the machine over the time of the measurement."""
    height, bottom = 130.0, 96.0
    x = Axis.over([t for t, _ in points], _LEFT, _RIGHT, zero=True)
    y = Axis.over([v for _, v in points], bottom, 22, zero=zero)
    places = [(x.at(t), y.at(v)) for t, v in points]
    marks = [
        x_axis(x, bottom, 18, "s"),
        y_axis(y, _LEFT, _RIGHT, title),
        curve(places, series),
        *(dot(*place, 1.8, series) for place in places[:_DOTS]),
    ]
    return picture(height, f"{title} over time", marks)


def _lane(
    slow: Floats, border: float, left: float, top: float, bottom: float, series: int
) -> list[str]:
    """The slow runs as stacked dots at the right, by latency."""
    lane = Axis(border, max(float(slow[-1]), border * 1.01), left + 8, _RIGHT - 4)
    marks = [rule(left + 2, top, bottom, "border")]
    piles: dict[int, int] = {}
    for value in slow[-_DOTS:]:
        place = round(lane.at(float(value)) / 4)
        piles[place] = piles.get(place, 0) + 1
        height = bottom - 4 - 4.6 * (piles[place] - 1)
        if height > top + 14:
            marks.append(dot(4.0 * place, height, 2.3, series, "outlier"))
    text = f"{len(slow)} slower, up to {ms(float(slow[-1]))}"
    marks.append(label(_RIGHT, top + 4, text, anchor="end", kind="quiet"))
    return marks


def _whole_axis(axis: Axis, values: Sequence[int]) -> str:
    marks = [rule(axis.at(v), 18, _BOTTOM, "grid") for v in values]
    marks += [label(axis.at(v), _BOTTOM + 13, str(v), anchor="middle") for v in values]
    marks.append(label(axis.end, _BOTTOM + 27, "threads", anchor="end", kind="quiet"))
    return "".join(marks)
