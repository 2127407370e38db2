"""A training's stages, every setting filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from host_tools.recipe import Recipe, StageRecipe


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        number: 0-based.
        epochs: at most.
        width, height: of the input, in pixels.
        trainable: see ``ModelRecipe``.
        batch_size, learning_rate, schedule: see ``TrainingRecipe``.
    """

    number: int
    epochs: int
    width: int
    height: int
    trainable: str
    batch_size: int
    learning_rate: float
    schedule: str


def stages_of(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages of a recipe; one that names none has a single one."""
    data, model, training = recipe.data, recipe.model, recipe.training
    given = training.stages or (StageRecipe(),)
    return tuple(
        Stage(
            number=number,
            epochs=epochs,
            width=stage.width or data.width,
            height=stage.height or data.height,
            trainable=stage.trainable or model.trainable,
            batch_size=stage.batch_size or training.batch_size,
            learning_rate=stage.learning_rate or training.learning_rate,
            schedule=stage.schedule or training.schedule,
        )
        for number, (stage, epochs) in enumerate(
            zip(given, _shared_out(training.epochs, [stage.share for stage in given]), strict=True)
        )
    )


def _shared_out(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers, at least 1 each, that sum to ``total`` and come closest to the shares."""
    exact = [(total - len(shares)) * share / sum(shares) for share in shares]
    whole = [1 + int(part) for part in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: exact[i] - int(exact[i]), reverse=True)
    for i in by_remainder[: total - sum(whole)]:
        whole[i] += 1
    return whole
