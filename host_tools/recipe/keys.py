"""Every key of a recipe: its default, its meaning, and its limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_sdk.plain import key
from edge_sdk.vision.preprocess import CROPS

# The names of host_tools/models, kept here so that reading a recipe needs no Keras.
APPLICATIONS = (
    *("vgg16", "vgg19", "resnet50", "inception-v3", "inception-resnet-v2", "xception"),
    *("efficientnet-b0", "efficientnet-v2-b0", "mobilenet", "mobilenet-v2", "mobilenet-v3-small"),
)
ARCHITECTURES = ("small-cnn", "resnet8", "resnet20", "airbench", "resdense", *APPLICATIONS)
FORMATS = ("float32", "float16", "dynamic", "int8", "int16x8", "int4", "onnx", "onnx-int8")
INPUT_TYPES = ("uint8", "int8", "float32")
OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "one-cycle", "plateau")
FILL_MODES = ("reflect", "nearest", "constant", "wrap")
ACTIVATIONS = ("relu", "relu6", "leaky_relu", "elu", "selu", "swish", "gelu", "tanh", "sigmoid")

_SHARE = (0.0, 1.0)
_MAX_SEED = 2**32 - 1  # what NumPy and Keras take


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """The model's input, and how a data set without ready splits is split."""

    width: int = key(32, "of the model's input, in pixels", (8, 4096))
    height: int = key(32, "of the model's input, in pixels", (8, 4096))
    color: str = key("rgb", "of the model's input", ("rgb", "gray"))
    crop: str = key(
        "center",
        "center cuts the largest centred region of the input's shape, squash ignores a picture's "
        "shape, letterbox fits all of it in",
        CROPS,
    )
    validation: float = key(
        0.1, "share cut from the training pictures where the data set has no such split", (0, 0.45)
    )
    test: float = key(0.2, "the same for the pictures that results are reported on", (0, 0.45))
    seed: int = key(0, "of the split", (0, _MAX_SEED))
    margin: float = key(
        0.15,
        "training pictures are cached this share larger than the input where they are large "
        "enough, so that zoom, rotation and crop lose no detail",
        (0, 1),
    )


@dataclass(frozen=True, slots=True)
class AugmentationRecipe:
    """Random changes of training pictures, drawn again in every epoch.

    All moves of pixels (flips to crop) are one affine transform, so pixels are resampled once. A
    frozen base gets them in ``training.feature_variants`` passes.
    """

    horizontal_flip: float = key(0.0, "probability of mirroring left and right", _SHARE)
    vertical_flip: float = key(0.0, "probability of mirroring top and bottom", _SHARE)
    rotation: float = key(0.0, "degrees, at most, either way", (0, 180))
    rotation_probability: float = key(1.0, "of a rotation", _SHARE)
    shift: float = key(0.0, "at most this share of width and height, each way", (0, 0.5))
    shift_probability: float = key(1.0, "of a shift", _SHARE)
    shear: float = key(0.0, "degrees, at most, either way", (0, 60))
    shear_probability: float = key(1.0, "of a shear", _SHARE)
    zoom: float = key(0.0, "at most this share closer or farther, both sides alike", (0, 0.9))
    zoom_probability: float = key(1.0, "of a zoom", _SHARE)
    scale: float = key(
        0.0,
        "at most this share wider or narrower, higher or lower, each side drawn alone",
        (0, 0.9),
    )
    scale_probability: float = key(1.0, "of such an affine scale", _SHARE)
    crop: float = key(
        0.0,
        "least share of the area that a random crop keeps, up to a third wider or narrower than the "
        "picture (Szegedy et al. 2015, from 0.08); 0 for none",
        _SHARE,
    )
    crop_probability: float = key(1.0, "of a random crop", _SHARE)
    fill_mode: str = key(
        "reflect", "what fills the gap that a moved picture leaves (constant: black)", FILL_MODES
    )
    brightness: float = key(0.0, "at most this share brighter or darker", (0, 0.95))
    brightness_probability: float = key(1.0, "of a change of brightness", _SHARE)
    channel_multiply: float = key(
        0.0,
        "at most this share more or less of each colour channel, drawn for each alone",
        (0, 0.95),
    )
    channel_multiply_probability: float = key(1.0, "of such a multiplication", _SHARE)
    channel_shuffle: float = key(0.0, "probability of exchanging colour channels", _SHARE)
    coarse_dropout: float = key(
        0.0, "probability of blacking out rectangles (Cutout, DeVries & Taylor 2017)", _SHARE
    )
    coarse_dropout_holes: int = key(1, "rectangles, at most", (1, 64))
    coarse_dropout_size: float = key(
        0.25, "largest side of one, as a share of the picture's", _SHARE
    )
    rand_augment: float = key(
        0.0, "probability of RandAugment (Cubuk et al. 2019) on a picture", _SHARE
    )
    rand_augment_operations: int = key(2, "operations, one after the other", (1, 14))
    rand_augment_magnitude: int = key(9, "strength of each, of 30", (0, 30))
    mixup: float = key(0.0, "probability that a batch is mixed (Zhang et al. 2017)", _SHARE)
    mixup_alpha: float = key(0.2, "both parameters of its Beta distribution", (0.01, 10))
    cutmix: float = key(
        0.0, "probability that a batch exchanges rectangles (Yun et al. 2019)", _SHARE
    )
    cutmix_alpha: float = key(1.0, "both parameters of its Beta distribution", (0.01, 10))


@dataclass(frozen=True, slots=True)
class ModelRecipe:
    """The network: a backbone, and a head on its features."""

    architecture: str = key("small-cnn", "of the backbone", ARCHITECTURES)
    width: float = key(1.0, "multiplier of the number of channels (MobileNet's alpha)", (0.05, 4))
    weights: str = key(
        "none",
        "none, imagenet (downloaded by Keras), or a file: Keras weights without the top, or a "
        ".keras model trained before",
    )
    trainable: str = key(
        "all",
        "all; head: the backbone is frozen; last-20: the head and the backbone's last 20 "
        "layers; or names of layers to train beside the head, as in block5_*,conv_7b",
    )
    batch_norm: bool = key(
        True,
        "batch normalisation in the blocks of small-cnn and airbench, and the head's hidden layers",
    )
    train_batch_norm: bool = key(
        False, "whether a pretrained backbone's batch normalisation keeps updating its statistics"
    )
    block_dropout: float = key(
        0.0, "share dropped after each block of small-cnn and airbench", (0, 0.95)
    )
    pooling: str = key(
        "avg", "how the backbone's last feature map becomes features", ("avg", "max", "flatten")
    )
    head: tuple[int, ...] = key(
        (), "units of hidden layers between features and answer", (1, 65_536)
    )
    activation: str = key("relu", "of the head's hidden layers", ACTIVATIONS)
    dropout: float = key(
        0.2, "share dropped before the last layer and after each hidden one", (0, 0.95)
    )


@dataclass(frozen=True, slots=True)
class StageRecipe:
    """A part of the training with its own settings; keys left out are as in [training]."""

    share: float = key(1.0, "of the epochs, relative to the other stages", (1e-6, 1e6))
    width: int | None = key(None, "of the input in this stage, in pixels", (8, 4096))
    height: int | None = key(None, "of the input in this stage, in pixels", (8, 4096))
    trainable: str | None = key(None, "as model.trainable")
    batch_size: int | None = key(None, "pictures per step", (1, 65_536))
    learning_rate: float | None = key(None, "the highest of this stage", (1e-12, 1e3))
    schedule: str | None = key(None, "of this stage alone", SCHEDULES)


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """How the network is trained."""

    epochs: int = key(30, "at most, all stages together", (1, 100_000))
    batch_size: int = key(32, "pictures per step", (1, 65_536))
    optimizer: str = key(
        "adam", "adam, adamw, rmsprop, or sgd with Nesterov momentum 0.9", OPTIMIZERS
    )
    learning_rate: float = key(0.001, "the highest", (1e-12, 1e3))
    schedule: str = key(
        "cosine",
        "constant; cosine: down to zero; one-cycle: up for a quarter of the steps, then down to "
        "zero (Smith 2018); plateau: times plateau_factor when the validation loss stops improving",
        SCHEDULES,
    )
    plateau_factor: float = key(0.5, "see schedule", (0.001, 0.999))
    plateau_patience: int = key(3, "epochs without a better validation loss", (1, 1000))
    weight_decay: float = key(0.0, "decoupled (AdamW, SGDW); 0 for none", _SHARE)
    label_smoothing: float = key(0.0, "Szegedy et al. 2016", (0, 0.9))
    loss: str = key(
        "crossentropy",
        "crossentropy, or focal (Lin et al. 2017), which gives well-classified pictures less weight",
        ("crossentropy", "focal"),
    )
    focal_gamma: float = key(2.0, "focusing parameter of the focal loss", (0, 10))
    class_weights: str = key(
        "none",
        "balanced: pictures are weighted by N / (classes * N of the class)",
        ("none", "balanced"),
    )
    ema: float = key(
        0.0,
        "momentum of the moving average of the weights, which is validated and kept; 0: none",
        (0, 0.99999),
    )
    precision: str = key(
        "float32",
        "of training; mixed_bfloat16 and mixed_float16 are faster where the hardware has them. The "
        "model kept is float32",
        ("float32", "mixed_bfloat16", "mixed_float16"),
    )
    teacher: str = key(
        "none", "a larger .keras model or run directory to learn from (Hinton et al. 2015)"
    )
    distillation_weight: float = key(0.5, "share of the teacher's term in the loss", _SHARE)
    distillation_temperature: float = key(4.0, "softens both models' probabilities", (0.1, 100))
    patience: int = key(
        8, "epochs without a better validation loss before training stops; 0: never", (0, 100_000)
    )
    seed: int = key(0, "of weights, order and augmentation", (0, _MAX_SEED))
    feature_variants: int = key(
        1,
        "passes over the pictures for a frozen backbone, which is computed once: the first as they "
        "are, each further one augmented",
        (1, 1000),
    )
    stages: tuple[StageRecipe, ...] = key((), "one after the other, weights carried over")


@dataclass(frozen=True, slots=True)
class ConversionRecipe:
    """The artifacts to make."""

    formats: tuple[str, ...] = key(("int8", "float16"), "of the artifacts", FORMATS)
    calibration_images: int = key(
        200,
        "training pictures that set the ranges of int8, drawn evenly from the classes",
        (1, 1_000_000),
    )
    io: str = key(
        "uint8", "what the input of an int8 artifact stores; MediaPipe refuses int8", INPUT_TYPES
    )


@dataclass(frozen=True, slots=True)
class ScoresRecipe:
    """What ``edgecls build`` fits on each artifact's scores of the validation pictures."""

    temperature: bool = key(
        False, "whether scores are tempered until they fit the truth (Guo et al. 2017)"
    )
    coverage: float | None = key(
        None,
        'share of known pictures that keep an answer; lower scores are "unknown"',
        (0.0001, 0.9999),
    )
    accuracy: float | None = key(
        None, 'share of answers that are right; lower scores are "unknown"', (0.0001, 0.9999)
    )


@dataclass(frozen=True, slots=True)
class GatesRecipe:
    """Budgets of accuracy that ``edgecls build`` checks; without one there is no verdict."""

    max_drop: float | None = key(None, "points of accuracy an artifact may lose", (0, 100))
    max_class_drop: float | None = key(None, "points any single class may lose", (0, 100))


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole recipe. ``name`` names the files; ``description`` is a sentence."""

    name: str
    description: str = ""
    data: DataRecipe = field(default_factory=DataRecipe)
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    conversion: ConversionRecipe = field(default_factory=ConversionRecipe)
    scores: ScoresRecipe = field(default_factory=ScoresRecipe)
    gates: GatesRecipe = field(default_factory=GatesRecipe)
