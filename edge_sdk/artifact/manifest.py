"""``edgecls.json``: what an artifact of ours says of itself; ``docs/artifact.md`` specifies it."""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import CorruptArtifactError, UnsupportedArtifactError
from edge_sdk.plain import from_plain, key, to_plain
from edge_sdk.vision.preprocess import Crop, Preprocessing
from edge_sdk.vision.tensors import NO_TEMPERATURE, TEMPERATURES

MANIFEST_FILE = "edgecls.json"
LABELS_FILE = "labels.txt"
SCHEMA = 1

# A self-test is a few pictures of the model's input size; a hostile file may claim otherwise.
_SELFTEST_LIMIT_BYTES = 64 << 20
# A value of JSON becomes an object of some hundred bytes. Each stands behind one of these, and a
# manifest of a thousand classes has some thousand.
_MAX_VALUES = 500_000
# A softmax may round to above 1.
_HIGHEST_SCORE = 1.001


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
        how, selftest = self.preprocessing, self.selftest
        content = to_plain(
            _File(
                SCHEMA,
                self.name,
                self.format,
                _Preprocess(
                    "rgb" if how.channels == 3 else "gray",
                    how.crop,
                    "area-halving-linear",
                    how.width,
                    how.height,
                ),
                _Score(self.threshold, self.temperature),
                _Hashes(self.model_bytes, self.model_sha256, self.labels_sha256),
                _PackedSelfTest(
                    selftest.pixels.shape,
                    base64.b64encode(zlib.compress(selftest.pixels.tobytes(), 9)).decode(),
                    selftest.scores.tolist(),
                ),
                self.provenance,
            )
        )
        if self.temperature == NO_TEMPERATURE:  # files of before there was one stay as they are
            del content["score"]["temperature"]
        return json.dumps(content, indent=1)


@dataclass(frozen=True, slots=True)
class _Version:
    schema: int


@dataclass(frozen=True, slots=True)
class _Preprocess:
    color: Literal["rgb", "gray"]
    crop: Crop
    resize: Literal["area-halving-linear"]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Score:
    threshold: float = key(within=(0, _HIGHEST_SCORE))
    temperature: float = key(NO_TEMPERATURE, within=TEMPERATURES)


@dataclass(frozen=True, slots=True)
class _Hashes:
    model_bytes: int
    model_sha256: str
    labels_sha256: str


@dataclass(frozen=True, slots=True)
class _PackedSelfTest:
    """``pixels`` is base64 of the deflated bytes of an array of ``shape``."""

    shape: tuple[int, ...]
    pixels: str
    scores: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class _File:
    """``edgecls.json`` as it is written, key by key."""

    schema: int
    name: str
    format: str
    preprocess: _Preprocess
    score: _Score
    hashes: _Hashes
    selftest: _PackedSelfTest
    provenance: dict[str, Any]


def parse_manifest(text: bytes, name: str) -> Manifest:
    """Reads ``edgecls.json``; keys it does not know are ignored.

    Raises:
        UnsupportedArtifactError: its major schema number is newer than ours.
        CorruptArtifactError: not JSON, or a key is missing or of the wrong kind.
    """
    try:
        if sum(map(text.count, (b",", b"[", b"{"))) > _MAX_VALUES:
            raise ValueError(f"more than {_MAX_VALUES} values")
        content = json.loads(text)
        schema = from_plain(_Version, content).schema
        if schema > SCHEMA:
            raise UnsupportedArtifactError(
                f"{name}: its manifest has schema {schema}, this edgecls reads up to {SCHEMA}; "
                "pip install --upgrade edgecls"
            )
        file = from_plain(_File, content)
        how = file.preprocess
        return Manifest(
            name=file.name,
            format=file.format,
            preprocessing=Preprocessing(
                how.width, how.height, 3 if how.color == "rgb" else 1, how.crop
            ),
            threshold=file.score.threshold,
            model_bytes=file.hashes.model_bytes,
            model_sha256=file.hashes.model_sha256,
            labels_sha256=file.hashes.labels_sha256,
            selftest=_unpacked(file.selftest),
            provenance=file.provenance,
            temperature=file.score.temperature,
        )
    except UnsupportedArtifactError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, zlib.error) as error:
        raise CorruptArtifactError(f"{name}: its {MANIFEST_FILE} is damaged ({error})") from error


def _unpacked(packed: _PackedSelfTest) -> SelfTest:
    shape, rows = packed.shape, packed.scores
    size = math.prod(shape) if len(shape) == 4 and min(shape) > 0 else 0
    if not 0 < size <= _SELFTEST_LIMIT_BYTES or len(rows) != shape[0]:
        raise ValueError(f"a self-test of shape {list(shape)} with {len(rows)} answers")
    deflated = base64.b64decode(packed.pixels, validate=True)
    pixels = np.frombuffer(zlib.decompressobj().decompress(deflated, size), np.uint8)
    scores = np.array(rows)
    if not ((scores >= 0) & (scores <= _HIGHEST_SCORE)).all():
        raise ValueError(f"self-test scores beyond 0..1: {scores.min():g} to {scores.max():g}")
    return SelfTest(pixels.reshape(shape), scores.astype(np.float32))
