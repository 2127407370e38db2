"""``edgecls inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_sdk.cli.options import json_option, third_party_options

if TYPE_CHECKING:
    from edge_sdk.artifact import Artifact
    from edge_sdk.types import TensorSpec


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@third_party_options
@json_option
def inspect(
    model: Path, labels: Path | None, normalize: str | None, crop: str | None, as_json: bool
) -> None:
    """Describe a model file: labels, tensors, preprocessing, provenance, hash.

    \b
    Example:
      edgecls inspect trash_int8.tflite
    """
    import json

    from edge_sdk.artifact import Artifact
    from edge_sdk.cli.output import echo_notes

    artifact = Artifact.open(model, labels=labels, normalize=normalize, crop=crop)  # type: ignore[arg-type]  # click.Choice
    echo_notes(artifact)
    if artifact.needs_edgetpu:
        click.echo(
            f"Note: {model}: compiled for the Coral Edge TPU; it runs only there, with --backend "
            "edgetpu",
            err=True,
        )
    description = _describe(artifact)
    if as_json:
        click.echo(json.dumps(description))
        return
    for key, value in description.items():
        if key in ("schema", "type"):
            continue
        if key == "labels":
            value = f"{len(value)}: {', '.join(value[:10])}{', ...' if len(value) > 10 else ''}"
        elif isinstance(value, dict):
            value = "\n" + _indented(value) if value else "none"
        click.echo(f"{key}: {value}")


def _describe(artifact: Artifact) -> dict[str, Any]:
    how, normalization = artifact.preprocessing, artifact.normalization
    return {
        "schema": 1,
        "type": "artifact",
        "path": str(artifact.path),
        "sha256": artifact.sha256,
        "size_bytes": len(artifact.data),
        "model_bytes": artifact.model_bytes,
        "format": artifact.format,
        "labels": list(artifact.labels),
        "input": _tensor(artifact.input),
        "output": _tensor(artifact.output),
        "preprocess": {
            "width": how.width,
            "height": how.height,
            "color": "rgb" if how.channels == 3 else "gray",
            "crop": how.crop,
            "mean": list(normalization.mean) if normalization else None,
            "std": list(normalization.std) if normalization else None,
        },
        "score": {
            "threshold": artifact.manifest.threshold if artifact.manifest else 0.0,
            "temperature": artifact.manifest.temperature if artifact.manifest else 1.0,
        },
        "provenance": artifact.manifest.provenance if artifact.manifest else {},
        "ops": artifact.operators,
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    quantization = spec.quantization
    return {
        "shape": list(spec.shape),
        "dtype": spec.dtype,
        "scale": quantization.scale if quantization else None,
        "zero_point": quantization.zero_point if quantization else None,
    }


def _indented(value: dict[str, Any], depth: int = 1) -> str:
    lines = []
    for key, entry in value.items():
        if isinstance(entry, dict) and entry:
            lines += [f"{'  ' * depth}{key}:", _indented(entry, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{key}: {entry}")
    return "\n".join(lines)
