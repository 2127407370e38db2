"""``edgecls demo``."""

from __future__ import annotations

from pathlib import Path

import click

_BENCH_SECONDS = 3.0


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for pictures, model, artifacts and report.",
)
def demo(out: Path) -> None:
    """Train, convert, validate, run and bench a model of scikit-learn's handwritten digits.

    After an interruption the same command resumes.

    \b
    Example:
      edgecls demo --out demo
    """
    from edge_sdk.bench.measure import measure
    from edge_sdk.bench.page import write_page
    from edge_sdk.bench.plan import BenchPlan
    from edge_sdk.bench.plan import OpeningOptions as ModelFile
    from edge_sdk.bench.table import table
    from edge_sdk.classifier import Classifier
    from edge_sdk.cli.output import TextLines
    from edge_sdk.loop.run import run
    from edge_sdk.sources.folder import FolderSource
    from host_tools.cli.output import end_with_verdict, print_comparison, say
    from host_tools.data.digits import write_digits
    from host_tools.data.load import DataPlace
    from host_tools.recipe import load_recipe
    from host_tools.run_directory import RunDirectory, taken
    from host_tools.train.checkpoint import holds_unfinished
    from host_tools.workflow import build

    with taken(out):
        pictures = write_digits(out / "pictures")
        unfinished = holds_unfinished(RunDirectory(out).checkpoint)
        recipe, data = load_recipe("digits"), DataPlace(pictures)
        # For a network this small the corruptions take a few seconds, and complete the report.
        comparison = build(recipe, data, out, resume=unfinished, corruptions=True, note=say)
        print_comparison(comparison)
        artifact = out / "digits_int8.tflite"
        click.echo(f"\nedgecls run {artifact} --source ... on five pictures it was not trained on:")
        unseen = [picture.path for picture in comparison.pictures[:: max(1, comparison.n // 5)]][:5]
        with Classifier.open(artifact) as classifier:
            run(FolderSource(*unseen), classifier, [TextLines()], top_k=2)
        artifacts = [artifact, out / "digits_float16.tflite"]
        click.echo(f"\nedgecls bench {' '.join(map(str, artifacts))}")
        page = out / "bench.html"
        benchmark = measure(
            BenchPlan(tuple(map(ModelFile, artifacts)), seconds=_BENCH_SECONDS)
        ).benchmark
        write_page(benchmark, page)
        click.echo(table(benchmark))
        click.echo(f"The reports: {out / 'report.html'} and {page}")
    end_with_verdict(comparison)
