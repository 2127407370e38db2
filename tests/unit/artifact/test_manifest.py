"""``edgecls.json``: every key must be there and of its kind, nothing else is taken on trust."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.artifact.manifest import Manifest, parse_manifest
from edge_sdk.errors import CorruptArtifactError, UnsupportedArtifactError

_GOLDEN = Path(__file__).parents[2] / "golden" / "digits_int8.tflite"

_Place = tuple[str | int, ...]
# One value of each kind that JSON knows; a boolean is never a number.
_KINDS: dict[str, Any] = {
    "null": None,
    "true": True,
    "a number": 3,
    "a fraction": 0.5,
    "a word": "0.5",
    "a list": [],
    "an object": {},
}


def _golden() -> dict[str, Any]:
    with zipfile.ZipFile(_GOLDEN) as archive:
        loaded: dict[str, Any] = json.loads(archive.read("edgecls.json"))
    return loaded


def _parse(value: Any) -> Manifest:
    return parse_manifest(json.dumps(value).encode(), "my.tflite")


def _places(value: Any, place: _Place = ()) -> Iterator[tuple[_Place, Any]]:
    """Every key, and the first entry of every list; what is within provenance is free."""
    if isinstance(value, dict) and place != ("provenance",):
        for key, entry in value.items():
            yield (*place, key), entry
            yield from _places(entry, (*place, key))
    elif isinstance(value, list):
        yield (*place, 0), value[0]
        yield from _places(value[0], (*place, 0))


def _with(place: _Place, value: Any) -> dict[str, Any]:
    changed = _golden()
    target: Any = changed
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    return changed


def _without(place: _Place) -> dict[str, Any]:
    changed = _golden()
    target: Any = changed
    for step in place[:-1]:
        target = target[step]
    del target[place[-1]]
    return changed


def _fits(value: Any, original: Any, place: _Place) -> bool:
    """Whether a value is of the kind that belongs there."""
    if place in (("score", "threshold"), ("selftest", "scores", 0, 0)):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(original)


def _wrong_kinds() -> Iterator[Any]:
    for place, original in _places(_golden()):
        for kind, value in _KINDS.items():
            if not _fits(value, original, place):
                name = ".".join(map(str, place))
                yield pytest.param(place, value, id=f"{name} is {kind}")


def _keys() -> Iterator[Any]:
    for place, _ in _places(_golden()):
        if isinstance(place[-1], str):
            yield pytest.param(place, id=".".join(map(str, place)))


def test_the_golden_manifest_is_read() -> None:
    manifest, values = _parse(_golden()), _golden()
    assert (manifest.name, manifest.format, manifest.threshold) == ("digits", "int8", 0.0)
    how = manifest.preprocessing
    assert (how.width, how.height, how.channels, how.crop) == (32, 32, 3, "center")
    assert manifest.model_bytes == values["hashes"]["model_bytes"] == 87_824
    assert manifest.model_sha256 == values["hashes"]["model_sha256"]
    assert manifest.labels_sha256 == values["hashes"]["labels_sha256"]
    assert manifest.selftest.pixels.shape == (2, 32, 32, 3)
    assert manifest.selftest.pixels.dtype == np.uint8
    assert manifest.selftest.scores.shape == (2, 10)
    assert manifest.selftest.scores.dtype == np.float32
    assert manifest.selftest.scores.sum(axis=1) == pytest.approx([1, 1], abs=1e-3)
    assert manifest.provenance == values["provenance"]


def test_what_is_written_is_read_back() -> None:
    manifest = _parse(_golden())
    assert json.loads(manifest.to_json()) == _golden()


def test_a_gray_model_takes_one_channel() -> None:
    assert _parse(_with(("preprocess", "color"), "gray")).preprocessing.channels == 1


def test_a_whole_number_is_a_threshold_too() -> None:
    assert _parse(_with(("score", "threshold"), 1)).threshold == 1.0


def test_a_manifest_of_before_there_was_a_temperature_has_none() -> None:
    manifest = _parse(_golden())
    assert manifest.temperature == 1.0
    assert "temperature" not in json.loads(manifest.to_json())["score"]


@pytest.mark.parametrize("temperature", [0.01, 0.644, 1, 3, 100.0])
def test_a_temperature_is_written_and_read_back(temperature: float) -> None:
    manifest = _parse(_with(("score", "temperature"), temperature))
    assert manifest.temperature == temperature
    assert _parse(json.loads(manifest.to_json())).temperature == temperature


@pytest.mark.parametrize("place", list(_keys()))
def test_a_missing_key_is_damage(place: _Place) -> None:
    with pytest.raises(CorruptArtifactError, match=r"my\.tflite: its edgecls\.json is damaged"):
        _parse(_without(place))


@pytest.mark.parametrize(("place", "value"), list(_wrong_kinds()))
def test_a_value_of_the_wrong_kind_is_damage(place: _Place, value: Any) -> None:
    with pytest.raises(CorruptArtifactError, match=r"my\.tflite: its edgecls\.json is damaged"):
        _parse(_with(place, value))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param(("preprocess", "crop"), "circle", id="an unknown crop"),
        pytest.param(("preprocess", "color"), "cmyk", id="an unknown colour"),
        pytest.param(("preprocess", "resize"), "nearest", id="an unknown resize"),
        pytest.param(("score", "threshold"), float("nan"), id="a threshold that is no number"),
        pytest.param(("score", "threshold"), float("inf"), id="an infinite threshold"),
        pytest.param(("score", "threshold"), 1.5, id="a threshold above every probability"),
        pytest.param(("score", "threshold"), -0.5, id="a negative threshold"),
        pytest.param(("score", "threshold"), 10**400, id="a threshold that no float holds"),
        pytest.param(("score", "temperature"), 0, id="a temperature of zero"),
        pytest.param(("score", "temperature"), -1.5, id="a negative temperature"),
        pytest.param(("score", "temperature"), 1e-30, id="a temperature of next to nothing"),
        pytest.param(("score", "temperature"), 1e9, id="a huge temperature"),
        pytest.param(("score", "temperature"), 10**400, id="a temperature that no float holds"),
        pytest.param(("score", "temperature"), float("nan"), id="a temperature that is no number"),
        pytest.param(("score", "temperature"), float("inf"), id="an infinite temperature"),
        pytest.param(("score", "temperature"), True, id="a temperature of true"),
        pytest.param(("score", "temperature"), None, id="a temperature of null"),
        pytest.param(("score", "temperature"), "1.5", id="a temperature in quotes"),
        pytest.param(("score", "temperature"), [1.5], id="a temperature in a list"),
        pytest.param(("selftest", "shape"), [], id="no shape"),
        pytest.param(("selftest", "shape"), [0, 32, 32, 3], id="no pictures"),
        pytest.param(("selftest", "shape"), [-2, -32, 32, 3], id="negative sides"),
        pytest.param(("selftest", "shape"), [2, 32, 32], id="three sides"),
        pytest.param(("selftest", "shape"), [2, 32, 32, 3, 1], id="five sides"),
        pytest.param(("selftest", "shape"), [2, 33, 32, 3], id="more pixels than packed"),
        pytest.param(("selftest", "shape"), [3, 32, 32, 2], id="more pictures than answers"),
        pytest.param(("selftest", "shape"), [2, 1 << 20, 1 << 20, 3], id="a huge picture"),
        pytest.param(("selftest", "shape"), [1 << 40] * 4, id="a shape that overflows"),
        pytest.param(("selftest", "shape"), [1 << 70, 1, 1, 1], id="a side that no int64 holds"),
        pytest.param(("selftest", "scores"), [], id="no answers"),
        pytest.param(("selftest", "scores"), [[0.5], [0.2, 0.3]], id="answers of two lengths"),
        pytest.param(("selftest", "scores"), [[10**400], [0]], id="a score that no float holds"),
        pytest.param(("selftest", "pixels"), "", id="no pixels"),
        pytest.param(("selftest", "pixels"), "not base64!", id="pixels not in base64"),
        pytest.param(("selftest", "pixels"), "größe", id="pixels not in ASCII"),
        pytest.param(("selftest", "pixels"), "AAAA", id="pixels not deflated"),
    ],
)
def test_a_value_out_of_range_is_damage(place: _Place, value: Any) -> None:
    with pytest.raises(CorruptArtifactError, match=r"my\.tflite: its edgecls\.json is damaged"):
        _parse(_with(place, value))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"\xff\xfe\xfd", id="not text"),
        pytest.param(b'{"schema": ' + b"9" * 5000 + b"}", id="a number of 5000 digits"),
        pytest.param(b'{"schema":' * 100_000, id="nested too deep"),
    ],
)
def test_what_is_no_json_object_is_damage(text: bytes) -> None:
    with pytest.raises(CorruptArtifactError, match=r"my\.tflite: its edgecls\.json is damaged"):
        parse_manifest(text, "my.tflite")


@pytest.mark.parametrize("length", [1, 100, 1000, 2000, 3000])
def test_a_manifest_that_was_cut_is_damage(length: int) -> None:
    with pytest.raises(CorruptArtifactError):
        parse_manifest(json.dumps(_golden()).encode()[:length], "my.tflite")


@pytest.mark.parametrize("schema", [2, 10**30])
def test_a_newer_schema_is_refused_by_name(schema: int) -> None:
    with pytest.raises(UnsupportedArtifactError, match=rf"schema {schema}.*upgrade edgecls"):
        _parse(_with(("schema",), schema))


def test_a_newer_schema_is_refused_before_anything_else_is_looked_at() -> None:
    with pytest.raises(UnsupportedArtifactError):
        _parse({"schema": 2, "all else": "is different"})


@pytest.mark.parametrize(
    "place",
    [(), ("preprocess",), ("score",), ("hashes",), ("selftest",), ("provenance",)],
    ids=lambda place: ".".join(place) or "root",
)
def test_unknown_keys_are_ignored(place: tuple[str, ...]) -> None:
    manifest = _parse(_with((*place, "from the future"), {"a": [1]}))
    assert manifest.model_sha256 == _golden()["hashes"]["model_sha256"]


def test_a_self_test_unpacks_to_no_more_than_it_says() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(256 << 20))).decode()
    text = json.dumps(_with(("selftest", "pixels"), bomb)).encode()
    tracemalloc.start()
    try:
        parse_manifest(text, "bomb")
        _, peak = tracemalloc.get_traced_memory()
    except CorruptArtifactError:
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("values", [b"[" * 600_000, b"[0," * 300_000, b'{"":{' * 300_000])
def test_a_manifest_of_a_million_values_is_refused_unread(values: bytes) -> None:
    with pytest.raises(CorruptArtifactError, match="more than 500000 values"):
        parse_manifest(values, "my.tflite")
