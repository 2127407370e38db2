"""``edgecls.json``: what an artifact of ours says of itself; ``docs/artifact.md`` specifies it."""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import CorruptArtifactError, UnsupportedArtifactError
from edge_sdk.vision.preprocess import CROPS, Preprocessing
from edge_sdk.vision.tensors import NO_TEMPERATURE, TEMPERATURES

MANIFEST_FILE = "edgecls.json"
LABELS_FILE = "labels.txt"
SCHEMA = 1

# A self-test is a few pictures of the model's input size; a hostile file may claim otherwise.
_SELFTEST_LIMIT_BYTES = 64 << 20
# A value of JSON becomes an object of some hundred bytes. Each stands behind one of these, and a
# manifest of a thousand classes has some thousand.
_MAX_VALUES = 500_000
_RESIZE = "area-halving-linear"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class SelfTest:
    """Inputs and the answers they had when the artifact was made.

    Attributes:
        pixels: ``(N, H, W, C)`` uint8 model input pixels.
        scores: ``(N, labels)`` float32 probabilities.
    """

    pixels: NDArray[np.uint8]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """The content of ``edgecls.json``.

    Attributes:
        name: of the model, for people.
        format: one of those in ``docs/artifact.md``.
        preprocessing: from a picture to the model's input.
        threshold: score below which the answer is "unknown"; 0: never. Compared with scores after
            the temperature.
        model_bytes, model_sha256: of the flatbuffer, the file up to the appended zip.
        labels_sha256: of ``labels.txt``.
        selftest: the golden self-test.
        provenance: where the model comes from: recipe, data set, tool versions, validation.
        temperature: of the scores, within ``TEMPERATURES``, see ``tensors.temper``; 1: as they are.
    """

    name: str
    format: str
    preprocessing: Preprocessing
    threshold: float
    model_bytes: int
    model_sha256: str
    labels_sha256: str
    selftest: SelfTest
    provenance: dict[str, Any]
    temperature: float = NO_TEMPERATURE

    def to_json(self) -> str:
        """The text of ``edgecls.json``."""
        how = self.preprocessing
        score = {"threshold": self.threshold}
        if self.temperature != NO_TEMPERATURE:  # files of before there was one stay as they are
            score["temperature"] = self.temperature
        return json.dumps(
            {
                "schema": SCHEMA,
                "name": self.name,
                "format": self.format,
                "preprocess": {
                    "color": "rgb" if how.channels == 3 else "gray",
                    "crop": how.crop,
                    "resize": _RESIZE,
                    "width": how.width,
                    "height": how.height,
                },
                "score": score,
                "hashes": {
                    "model_bytes": self.model_bytes,
                    "model_sha256": self.model_sha256,
                    "labels_sha256": self.labels_sha256,
                },
                "selftest": {
                    "shape": list(self.selftest.pixels.shape),
                    "pixels": base64.b64encode(
                        zlib.compress(self.selftest.pixels.tobytes(), 9)
                    ).decode(),
                    "scores": [[float(x) for x in row] for row in self.selftest.scores],
                },
                "provenance": self.provenance,
            },
            indent=1,
        )


def parse_manifest(text: bytes, name: str) -> Manifest:
    """Reads ``edgecls.json``; keys it does not know are ignored.

    Raises:
        UnsupportedArtifactError: its major schema number is newer than ours.
        CorruptArtifactError: not JSON, or a key is missing or of the wrong kind.
    """
    try:
        if sum(map(text.count, (b",", b"[", b"{"))) > _MAX_VALUES:
            raise ValueError(f"more than {_MAX_VALUES} values")
        root = _Section(json.loads(text))
        schema = root.get("schema", int)
        if schema > SCHEMA:
            raise UnsupportedArtifactError(
                f"{name}: its manifest has schema {schema}, this edgecls reads up to {SCHEMA}; "
                "pip install --upgrade edgecls"
            )
        preprocess, hashes = root.section("preprocess"), root.section("hashes")
        score = root.section("score")
        return Manifest(
            name=root.get("name", str),
            format=root.get("format", str),
            preprocessing=_preprocessing(preprocess),
            threshold=_share(score.get("threshold", (int, float))),
            model_bytes=hashes.get("model_bytes", int),
            model_sha256=hashes.get("model_sha256", str),
            labels_sha256=hashes.get("labels_sha256", str),
            selftest=_selftest(root.section("selftest")),
            provenance=root.get("provenance", dict),
            temperature=_temperature(score),
        )
    except UnsupportedArtifactError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, zlib.error) as error:
        raise CorruptArtifactError(f"{name}: its {MANIFEST_FILE} is damaged ({error})") from error


class _Section:
    """A JSON object whose values are checked as they are taken."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise ValueError("an object was expected")
        self._value = value

    def get(self, key: str, kind: type[T] | tuple[type[Any], ...]) -> T:
        value = self._value.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{key!r} is {'missing' if value is None else 'of the wrong kind'}")
        return value

    def has(self, key: str) -> bool:
        return key in self._value

    def section(self, key: str) -> _Section:
        return _Section(self.get(key, dict))


def _preprocessing(section: _Section) -> Preprocessing:
    crop, color, resize = (section.get(key, str) for key in ("crop", "color", "resize"))
    if crop not in CROPS or color not in ("rgb", "gray") or resize != _RESIZE:
        raise ValueError(f"unknown preprocessing {crop!r}, {color!r}, {resize!r}")
    return Preprocessing(
        width=section.get("width", int),
        height=section.get("height", int),
        channels=3 if color == "rgb" else 1,
        crop=crop,
    )


def _share(value: Any) -> float:
    # Also refuses NaN, and true, which is an int to Python. A softmax may round to above 1.
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1.001:
        raise ValueError(f"{value!r} is not a number in 0..1")
    return float(value)


def _temperature(score: _Section) -> float:
    if not score.has("temperature"):
        return NO_TEMPERATURE
    value: float = score.get("temperature", (int, float))
    low, high = TEMPERATURES
    if not low <= value <= high:  # also refuses NaN
        raise ValueError(f"a temperature of {value!r}, expected {low:g} to {high:g}")
    return float(value)


def _selftest(section: _Section) -> SelfTest:
    shape: list[int] = section.get("shape", list)
    rows: list[list[float]] = section.get("scores", list)
    size = math.prod(shape) if len(shape) == 4 and min(shape) > 0 else 0
    if not 0 < size <= _SELFTEST_LIMIT_BYTES or len(rows) != shape[0]:
        raise ValueError(f"a self-test of shape {shape} with {len(rows)} answers")
    packed = base64.b64decode(section.get("pixels", str), validate=True)
    pixels = np.frombuffer(zlib.decompressobj().decompress(packed, size), np.uint8)
    scores = [[_share(score) for score in row] for row in rows]
    return SelfTest(pixels.reshape(shape), np.array(scores, np.float32))
