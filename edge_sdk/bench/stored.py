"""Reading a benchmark that was written before: ``bench --json`` or ``--out``."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from edge_sdk.bench.results import SCHEMA, Benchmark
from edge_sdk.errors import BaselineError
from edge_sdk.files import TEXT_BYTES, read_file
from edge_sdk.plain import from_plain


def read_benchmark(path: Path, *, any_schema: bool = False) -> Benchmark:
    """Reads a stored benchmark; keys that it does not know are ignored.

    Args:
        path: a file that ``bench --out`` wrote.
        any_schema: try one of another schema, too.

    Raises:
        BaselineError: no such file, no benchmark, another schema, or damaged.
    """
    try:
        text = read_file(path, TEXT_BYTES)
    except OSError as error:
        raise BaselineError(
            f"{path}: cannot be read ({error.strerror or error}); give a file that edgecls bench "
            "MODEL --out FILE.json wrote"
        ) from error
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BaselineError(
            f"{path}: not JSON ({error}); give a file that edgecls bench MODEL --out FILE.json wrote"
        ) from error
    return parse_benchmark(content, str(path), any_schema=any_schema)


def parse_benchmark(content: object, name: str, *, any_schema: bool = False) -> Benchmark:
    """The benchmark that a JSON object describes.

    Args:
        content: what ``json.loads`` gave.
        name: what to call it in errors.
        any_schema: try one of another schema, too.

    Raises:
        BaselineError: of another type or schema, or a key is missing or of the wrong kind.
    """
    kind = content.get("type") if isinstance(content, dict) else type(content).__name__
    if not isinstance(content, dict) or kind != "benchmark":
        raise BaselineError(
            f"{name}: is of type {kind!r}, expected a benchmark; give a file that edgecls bench MODEL "
            "--out FILE.json wrote"
        )
    schema = content.get("schema")
    if schema != SCHEMA and not any_schema:
        raise BaselineError(
            f"{name}: has schema {schema!r:.20}, this edgecls reads {SCHEMA}; measure it again with "
            "edgecls bench MODEL --out FILE.json, or try all the same with --force"
        )
    try:
        benchmark = from_plain(Benchmark, content)
        for model in benchmark.models:
            _check_lengths(model.samples)
    except ValueError as error:
        raise BaselineError(
            f"{name}: {error}; the file is damaged or was edited, measure it again with edgecls "
            "bench MODEL --out FILE.json"
        ) from error
    return benchmark


def _check_lengths(samples: object) -> None:
    lengths = {len(getattr(samples, field.name)) for field in fields(samples)}  # type: ignore[arg-type]
    if len(lengths) != 1:
        raise ValueError("its samples are lists of different lengths")
