"""Training a head on a frozen base: what the base says of each picture is computed once.

A frozen base gives the same features for the same picture in every epoch, so they are kept, and an
epoch costs what its head costs. Augmented variants are passes of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.data.augment import augment
from host_tools.data.load import Subset
from host_tools.extras import require
from host_tools.models import dtype_policy
from host_tools.models.head import FEATURES
from host_tools.progress import progress
from host_tools.recipe import AugmentationRecipe, Recipe

_BATCH = 32


def split_network(network: Any, precision: str = "float32") -> tuple[Any, Any]:
    """A network's base and its head, which share its weights: training the head trains the network.

    Args:
        network: from ``build_model``.
        precision: the one it was built with.

    Returns:
        ``keras.Model`` from pixels to features ``(N, F)``, and one from features to logits.
    """
    keras = require("keras")
    features = network.get_layer(FEATURES).output
    base = keras.Model(network.inputs, features, name="base")
    names = [layer.name for layer in network.layers]
    inputs = keras.Input(features.shape[1:], name="features")
    logits = inputs
    for layer in network.layers[names.index(FEATURES) + 1 :]:
        logits = layer(logits)
    with dtype_policy(precision):
        return base, keras.Model(inputs, logits, name="head")


def training_features(base: Any, subset: Subset, recipe: Recipe) -> NDArray[np.float32]:
    """``(variants, N, F)`` features: of the pictures as they are, then of augmented passes."""
    variants = []
    passes = recipe.training.feature_variants
    for variant in range(passes):
        how = recipe.augmentation if variant else None
        seed = (recipe.training.seed, variant)
        variants.append(
            _features(
                base,
                subset,
                how,
                seed,
                f"computing features, pass {variant + 1} of {recipe.training.feature_variants}",
            )
        )
    return np.stack(variants)


def plain_features(base: Any, subset: Subset) -> NDArray[np.float32]:
    """``(N, F)`` features of the pictures as they are."""
    return _features(base, subset, None, (0, 0), "computing features for validation")


def _features(
    base: Any, subset: Subset, how: AugmentationRecipe | None, seed: tuple[int, int], what: str
) -> NDArray[np.float32]:
    starts = range(0, len(subset), _BATCH)
    parts = []
    for start in progress(starts, what, len(starts)):
        random = np.random.default_rng((*seed, start))
        rows = np.arange(start, min(start + _BATCH, len(subset)))
        pixels = subset.pixels(rows)
        if how is not None:
            height, width = pixels.shape[1:3]
            pixels = augment(subset.large_pictures(rows), how, random, (width, height))
        parts.append(np.asarray(base.predict_on_batch(pixels), np.float32))
    return np.concatenate(parts)
