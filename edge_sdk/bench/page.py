"""``write_page``: a benchmark as one self-contained HTML page, to attach to a message.

No scripts, no network, pictures inline; light and dark; for desks and telephones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_sdk.bench import page_comparison, page_costs, page_latency, page_machine, page_summary
from edge_sdk.bench.accuracy import Accuracy
from edge_sdk.bench.compare import Comparison
from edge_sdk.bench.markup import whole_page
from edge_sdk.bench.results import Benchmark
from edge_sdk.files import write_atomically


def page(
    benchmark: Benchmark,
    accuracies: Sequence[Accuracy] = (),
    comparison: Comparison | None = None,
) -> str:
    """The page as text.

    Args:
        benchmark: what was measured.
        accuracies: of a validation of the same files; see ``read_accuracies``.
        comparison: with a baseline.
    """
    return whole_page(
        f"{page_summary.headline(benchmark)}: edgecls bench",
        (
            page_summary.top(benchmark),
            page_summary.figures_table(benchmark, accuracies),
            page_comparison.against(comparison) if comparison else "",
            page_costs.trade(benchmark, accuracies),
            page_latency.distributions(benchmark),
            page_latency.stages(benchmark),
            page_latency.drift(benchmark),
            page_latency.operators(benchmark),
            page_costs.threads(benchmark),
            page_costs.backends(benchmark),
            page_costs.costs(benchmark),
            page_costs.sustained(benchmark),
            page_costs.energy(benchmark),
            page_costs.age(benchmark),
            page_machine.machine(benchmark),
            page_machine.meanwhile(benchmark),
            page_machine.method(benchmark),
        ),
    )


def write_page(
    benchmark: Benchmark,
    path: Path,
    accuracies: Sequence[Accuracy] = (),
    comparison: Comparison | None = None,
) -> None:
    """Writes the page; see ``page``.

    Raises:
        WriteError: the disk is full, or the folder may not be written to.
    """
    write_atomically(path, page(benchmark, accuracies, comparison))
