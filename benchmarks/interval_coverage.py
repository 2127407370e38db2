"""How often the interval of a drop holds the true drop, by simulation, and how wide it is.

    python benchmarks/interval_coverage.py [--draws 20000] [--seed 1998] [--uncorrected]

Prints the table of docs/validation.md. For every number of pictures, true drop and share of other
changed answers, pairs of models are drawn from a multinomial distribution, and the 95 % interval of
``host_tools.validate.statistics.drop_interval`` is computed for each. Exits with 1 where it covers
the true drop less often than documented: 94 % where ten or more discordant pairs are expected, 95 %
elsewhere.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from host_tools.validate.statistics import CORRECTION, drop_interval

PICTURES = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)
DROPS = (0.0, 0.003, 0.01, 0.02, 0.05)
# Answers that change beyond those that make the drop, half of them to the better.
OTHER_CHANGES = (0.0, 0.002, 0.01, 0.05)
_Z95 = 1.959963984540054

Floats = NDArray[np.float64]


class Cell(NamedTuple):
    """One simulated situation.

    Attributes:
        n: pictures.
        drop: the true one, as a share.
        discordant: expected discordant pairs.
        coverage: the share of the intervals that hold the true drop, 0..1.
        width: of the interval on average, in points.
    """

    n: int
    drop: float
    discordant: float
    coverage: float
    width: float

    @property
    def promised(self) -> float:
        return 0.94 if self.discordant >= 10 else 0.95

    @property
    def kept(self) -> bool:
        return self.coverage >= self.promised


def intervals(lost: Floats, won: Floats, n: int, correction: float) -> tuple[Floats, Floats]:
    """``drop_interval`` of many counts at once: the same bisection on arrays, ends as shares."""
    nearer = np.where(lost + won > 0, correction, 0.0)

    def statistic(drop: Floats) -> Floats:
        a = 2 * n
        b = -lost - won + (2 * n - lost + won) * drop
        c = -won * drop * (1 - drop)
        share = (np.sqrt(np.maximum(0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * share + drop * (1 - drop))
        distance = lost - won - n * drop
        distance = np.sign(distance) * np.maximum(0, np.abs(distance) - nearer)
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.where(distance == 0, 0.0, np.sign(distance) * np.inf)
            return np.where(variance > 0, distance / np.sqrt(variance), far)

    def solve(z: float, low: Floats, high: Floats) -> Floats:
        for _ in range(40):  # to 1e-12, far below a picture
            middle = (low + high) / 2
            above = statistic(middle) > z
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return (low + high) / 2

    observed = (lost - won) / n
    return solve(_Z95, -np.ones_like(observed), observed), solve(
        -_Z95, observed, np.ones_like(observed)
    )


def simulate(
    n: int, drop: float, other: float, draws: int, seed: int, correction: float = CORRECTION
) -> Cell:
    """Draws pairs of models, and counts how often the interval holds ``drop``.

    Args:
        n: pictures.
        drop: the true one, as a share.
        other: share of other changed answers, half of them to the better.
        draws, seed: of the simulation.
        correction: see ``drop_interval``.

    Raises:
        AssertionError: these intervals are not those of ``drop_interval``.
    """
    shares = (drop + other / 2, other / 2, 1 - drop - other)
    drawn = np.random.default_rng([seed, n, round(1e6 * drop), round(1e6 * other)])
    counts, often = np.unique(
        drawn.multinomial(n, shares, size=draws)[:, :2], axis=0, return_counts=True
    )
    low, high = intervals(counts[:, 0].astype(float), counts[:, 1].astype(float), n, correction)
    for i in range(0, len(counts), 1 + len(counts) // 20):
        lost, won = counts[i].tolist()
        ends = drop_interval(lost, won, n, correction=correction)
        assert np.allclose(ends, (low[i], high[i]), rtol=0, atol=1e-9)
    held = (low <= drop) & (drop <= high)
    return Cell(
        n,
        drop,
        n * (drop + other),
        float(held @ often / draws),
        100 * float((high - low) @ often / draws),
    )


def table(draws: int, seed: int, correction: float) -> Iterator[tuple[int, float, list[Cell]]]:
    """Row after row: pictures, drop, and a cell for each share of other changes."""
    for n in PICTURES:
        for drop in DROPS:
            yield n, drop, [simulate(n, drop, o, draws, seed, correction) for o in OTHER_CHANGES]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1998)
    parser.add_argument("--uncorrected", action="store_true", help="Tango's own, for comparison")
    arguments = parser.parse_args()
    started = time.perf_counter()
    heads = [f"{100 * other:g} points" for other in OTHER_CHANGES]
    print("| pictures | true drop | " + " | ".join(heads) + " |")
    print("|---|---|" + "---|" * len(heads))
    cells = []
    correction = 0.0 if arguments.uncorrected else CORRECTION
    for n, drop, row in table(arguments.draws, arguments.seed, correction):
        cells += row
        print(f"| {n:,} | {100 * drop:g} | " + " | ".join(map(_words, row)) + " |", flush=True)
    print()
    for name, some in (
        ("ten or more discordant pairs expected", [c for c in cells if c.discordant >= 10]),
        ("fewer", [c for c in cells if c.discordant < 10]),
    ):
        print(f"{name}: at least {100 * min(c.coverage for c in some):.2f} % in {len(some)} cells")
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    return 0 if all(cell.kept for cell in cells) else 1


def _words(cell: Cell) -> str:
    mark = "" if cell.kept else " !"
    return f"{100 * cell.coverage:.1f} %, ± {cell.width / 2:.2f}{mark}"


if __name__ == "__main__":
    sys.exit(main())
