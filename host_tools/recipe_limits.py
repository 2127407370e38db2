"""What the values of a recipe may be, by their dotted keys."""

from __future__ import annotations

from edge_sdk.preprocess import CROPS
from host_tools.strict_toml import Limits

ARCHITECTURES = ("small-cnn", "resnet8", "mobilenet-v2")
FORMATS = ("float32", "float16", "dynamic", "int8", "int16x8")

_SHARE = (0.0, 1.0)
_MAX_SEED = 2**32 - 1  # what NumPy and Keras take
_RANGES: dict[str, tuple[float, float]] = {
    "data.width": (8, 4096),
    "data.height": (8, 4096),
    "data.seed": (0, _MAX_SEED),
    "data.validation": (0.0, 0.45),
    "data.test": (0.0, 0.45),
    "augmentation.horizontal_flip": _SHARE,
    "augmentation.shift": (0.0, 0.5),
    "augmentation.brightness": (0.0, 0.9),
    "model.width": (0.05, 4.0),
    "model.dropout": (0.0, 0.95),
    "training.seed": (0, _MAX_SEED),
    "training.epochs": (1, 100_000),
    "training.feature_variants": (1, 1000),
    "training.batch_size": (1, 65_536),
    "training.learning_rate": (1e-12, 1e3),
    "training.weight_decay": _SHARE,
    "training.label_smoothing": (0.0, 0.9),
    "training.patience": (0, 100_000),
    "conversion.calibration_images": (1, 1_000_000),
    "gates.max_drop": (0.0, 100.0),
    "gates.max_class_drop": (0.0, 100.0),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "data.color": ("rgb", "gray"),
    "data.crop": CROPS,
    "model.architecture": ARCHITECTURES,
    "model.trainable": ("all", "head"),
    "training.optimizer": ("adam", "sgd"),
    "training.schedule": ("constant", "cosine", "one-cycle"),
    "conversion.formats": FORMATS,
}

LIMITS = Limits(_RANGES, _CHOICES)
