"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from edge_sdk.errors import WriteError

if TYPE_CHECKING:
    from edge_sdk.classifier import Classifier
    from edge_sdk.hotswap import ReloadingClassifier
    from edge_sdk.vision.preprocess import Crop

F = TypeVar("F", bound=Callable[..., Any])


class ModelOptions(NamedTuple):
    """How a model is opened: the arguments of ``Classifier.open``."""

    backend: str
    threads: int
    labels: Path | None
    normalize: str | None
    crop: Crop | None

    def open(self, model: Path) -> Classifier:
        """Opens the model and prints what was assumed about it."""
        from edge_sdk.cli.output import echo_notes

        classifier = self.open_quietly(model)
        echo_notes(classifier.artifact)
        return classifier

    def open_reloading(
        self,
        model: Path,
        fits: Callable[[tuple[str, ...]], None] = lambda _: None,
        *,
        last_good: bool = False,
    ) -> ReloadingClassifier:
        """As ``open``; the model may be replaced later, without output, if ``fits`` accepts its labels.

        Args:
            model: the file.
            fits: see ``ReloadingClassifier``.
            last_good: keep a copy of a good model, and use it where the file is bad.
        """
        from edge_sdk.cli.output import echo_notes
        from edge_sdk.hotswap import ReloadingClassifier

        copy = None
        if last_good:
            from edge_sdk.last_good import LastGood

            try:
                copy = LastGood.of(model)
            except WriteError as error:
                click.echo(
                    f"Warning: no copy of a good model is kept for the next start: {error}",
                    err=True,
                )
        classifier = ReloadingClassifier(model, self.open_quietly, fits=fits, last_good=copy)
        echo_notes(classifier.artifact)
        return classifier

    def open_quietly(self, model: Path) -> Classifier:
        """As ``open``, without output."""
        from edge_sdk.classifier import Classifier

        return Classifier.open(
            model,
            self.backend,
            threads=self.threads,
            labels=self.labels,
            normalize=self.normalize,
            crop=self.crop,
        )


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--backend``, ``--threads`` and ``third_party_options``, given to the callback as ``options``."""

    @wraps(function)
    def collected(**values: Any) -> Any:
        options = ModelOptions(*(values.pop(name) for name in ModelOptions._fields))
        return function(options=options, **values)

    backend = click.option(
        "--backend",
        default="cpu",
        show_default=True,
        help="cpu, litert, tflite-runtime, litert-noxnnpack, onnx, edgetpu[:usb:N|:pci:N].",
    )
    threads = click.option(
        "--threads",
        type=click.IntRange(1, 64),
        default=1,
        show_default=True,
        help="CPU threads for one inference.",
    )
    return backend(threads(third_party_options(collected)))


def third_party_options(function: F) -> F:
    """``--labels``, ``--normalize`` and ``--crop``: for models without an edgecls manifest."""
    labels = click.option(
        "--labels",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Third-party model: a file with one label per line.",
    )
    normalize = click.option(
        "--normalize",
        metavar="RANGE",
        help="Third-party model: raw (0..255), unit (0..1), symmetric (-1..1) or MEAN,STD.",
    )
    crop = click.option(
        "--crop",
        type=click.Choice(["squash", "center", "letterbox"]),
        help="Third-party model: how a picture is resized to the input  [default: squash].",
    )
    return labels(normalize(crop(function)))


def max_megapixels_option(function: F) -> F:
    """``--max-megapixels``, given to the callback as ``max_pixels``."""
    return click.option(
        "--max-megapixels",
        "max_pixels",
        type=click.FloatRange(min=0, min_open=True),
        default=64,
        show_default=True,
        callback=lambda _context, _parameter, value: round(value * 1e6),
        help="Refuse larger pictures before decoding.",
    )(function)


def top_k_option(function: F) -> F:
    """``--top-k``."""
    return click.option(
        "--top-k",
        type=click.IntRange(min=1),
        default=3,
        show_default=True,
        help="How many labels to rank.",
    )(function)


def threshold_option(function: F) -> F:
    """``--threshold``."""
    return click.option(
        "--threshold",
        type=click.FloatRange(0, 1),
        help='Answer "unknown" below this score  [default: from the model file].',
    )(function)


def json_option(function: F) -> F:
    """``--json``, given to the callback as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, see docs/json.md.")(
        function
    )
