"""What the host commands print about a comparison, and how they end."""

from __future__ import annotations

import click

from edge_sdk.cli.group import GATE_FAILED, GATE_INCONCLUSIVE
from host_tools.validate.results import Validation


def say(text: str) -> None:
    """Prints a message on standard error."""
    click.echo(text, err=True)


def print_comparison(comparison: Validation) -> None:
    """Prints a table on standard output."""
    click.echo(
        f"reference  {comparison.reference_path}  accuracy {100 * comparison.accuracy:.2f} % "
        f"on {comparison.n} pictures"
    )
    rows = [
        (
            *("artifact", "accuracy", "drop", "95 % interval", "agreement", "flips"),
            *("scores differ", "bytes", "verdict"),
        )
    ]
    for a in comparison.artifacts:
        low, high = a.drop_ci95
        rows.append(
            (
                a.path,
                f"{100 * a.accuracy:.2f} %",
                f"{a.drop_points:+.2f}",
                f"{low:+.2f} to {high:+.2f}",
                f"{100 * a.agreement:.2f} %",
                str(a.flips),
                f"{a.score_difference.mean:.2g}, {a.score_difference.largest:.2g}",
                f"{a.size_bytes:,}",
                a.verdict or "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
        ]
        click.echo("  ".join(cells).rstrip())
    if comparison.unreadable:
        say(f"{len(comparison.unreadable)} pictures could not be read and were left out")


def end_with_verdict(comparison: Validation) -> None:
    """Exits with 3 where a gate failed, 4 where one is inconclusive."""
    if comparison.verdict == "fail":
        say("a gate failed: the accuracy drop exceeds the budget")
        raise click.exceptions.Exit(GATE_FAILED)
    if comparison.verdict == "inconclusive":
        needed = max((a.images_needed or 0 for a in comparison.artifacts), default=0)
        hint = f"; about {needed:,} pictures would be enough" if needed else ""
        say(f"a gate is inconclusive: {comparison.n} pictures are too few to decide{hint}")
        raise click.exceptions.Exit(GATE_INCONCLUSIVE)
