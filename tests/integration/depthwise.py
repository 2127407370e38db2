"""A small depthwise-separable network with plain ReLUs, and the same function made hard for int8.

Its weights lie in `tests/golden`: what a training ends with differs between processors, and with it
what int8 makes of the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.integration.host import set_golden_weights

_STRONG = [3, 5]


def pictures_of(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """``(N, 32, 32, 3)`` pixels and ``(N,)`` labels of a folder per class of 32x32 pictures."""
    files = sorted(folder.rglob("*.png"))
    names = sorted({file.parent.name for file in files})
    pixels = [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]
    labels = [names.index(file.parent.name) for file in files]
    return np.stack(pixels), np.array(labels, np.int64)


def separable_network() -> Any:
    """Knows the digits 0, 1, 4 and 7: all 400 pictures of the fixture ``digits``."""
    model = untrained_network(4)
    set_golden_weights(model, "separable")
    return model


def untrained_network(classes: int) -> Any:
    """The architecture, with weights drawn at random."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(12, 3, 2, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
    for name, width in (("first", 16), ("second", 24)):
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
        x = layers.BatchNormalization(momentum=0.8, name=f"{name}_norm")(x)
        x = layers.ReLU()(x)
        x = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_project")(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(classes)(x)
    return keras.Model(inputs, layers.Softmax()(x), name="separable")


def made_hard(model: Any) -> None:
    """Two channels a hundred times larger, and read a hundred times smaller: the same function."""
    norm = model.get_layer("second_norm")
    gamma, beta, mean, variance = norm.get_weights()
    gamma[_STRONG] *= 100
    beta[_STRONG] *= 100
    norm.set_weights([gamma, beta, mean, variance])
    project = model.get_layer("second_project")
    (kernel,) = project.get_weights()
    kernel[:, :, _STRONG] /= 100
    project.set_weights([kernel])
