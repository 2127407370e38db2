"""``edgecls classify``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_sdk.cli.options import (
    ModelOptions,
    json_option,
    max_megapixels_option,
    model_options,
    threshold_option,
    top_k_option,
)
from edge_sdk.errors import SourceNotFoundError, UnreadableImageError


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument(
    "images", metavar="IMAGE...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@model_options
@top_k_option
@threshold_option
@max_megapixels_option
@json_option
def classify(
    model: Path,
    images: tuple[Path, ...],
    options: ModelOptions,
    top_k: int,
    threshold: float | None,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Classify each IMAGE, a picture file or a folder of them.

    A picture that cannot be read is reported, the others are still classified, and the exit code
    is 1.

    \b
    Example:
      edgecls classify trash_int8.tflite photo.jpg
    """
    from edge_sdk.cli.output import TextLines
    from edge_sdk.redaction import redact_text
    from edge_sdk.sinks.jsonl import JsonLines
    from edge_sdk.sources.folder import list_images
    from edge_sdk.types import ClassificationRecord, ErrorRecord, Record
    from edge_sdk.vision.images import read_image

    files = [file for path in images for file in (list_images(path) if path.is_dir() else [path])]
    if not files:
        raise SourceNotFoundError(f"{', '.join(map(str, images))}: no pictures there")
    sink = JsonLines() if as_json else TextLines()
    failed = False
    with options.open(model) as classifier:
        if threshold is not None:
            classifier.threshold = threshold
        for image in files:
            record: Record
            try:
                prediction = classifier.classify(read_image(image, max_pixels=max_pixels))
                record = ClassificationRecord.of(str(image), prediction, top_k)
            except UnreadableImageError as error:
                failed = True
                record = ErrorRecord(redact_text(str(image)), error.reason)
            sink.write(record)
    if failed:
        raise click.exceptions.Exit(1)
