"""The fake picamera2 against the real one: kinds and parameters, and what lies where in an array.

The signatures of three versions are checked in. They are compared with picamera2 itself where it is
installed, or where $PICAMERA2_SOURCE names its folder: ``pip install --no-deps --target p picamera2``,
then ``PICAMERA2_SOURCE=p/picamera2 pytest tests/unit/sources/test_picamera2.py``.
"""

from __future__ import annotations

import inspect
import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.sources import fake_picamera2
from tests.unit.sources.fake_picamera2 import array_of, buffer_of, stride_of
from tests.unit.sources.picamera2_source import Signatures, installed, make_array, signatures

_KNOWN: dict[str, Signatures] = json.loads(
    Path(__file__).with_name("picamera2_signatures.json").read_text("utf-8")
)
_NEWEST = list(_KNOWN.values())[-1]


@pytest.fixture(scope="module")
def package() -> Path:
    found = installed()
    if found is None:
        pytest.skip("picamera2 is not installed")
    return found


@pytest.mark.parametrize("version", _KNOWN)
def test_the_fake_offers_no_more_than_the_real_one(version: str) -> None:
    real = _KNOWN[version]
    new = "sensor" in real["Picamera2.create_video_configuration"]["parameters"]
    camera = fake_picamera2.Picamera2 if new else fake_picamera2.OldPicamera2
    for name, signature in real.items():
        owner, _, member = name.partition(".")
        kind, parameters = _of(camera if owner == "Picamera2" else _request(), member)
        if member != "__init__" or owner == "Picamera2":
            assert kind == signature["kind"], name
        assert set(parameters) <= set(signature["parameters"]), name
        positions = [signature["parameters"].index(one) for one in parameters[:1]]
        assert positions in ([], [0]), f"{name}: what is given without a name comes first"


def test_the_signatures_are_those_of_the_package(package: Path) -> None:
    found = signatures(package)
    assert set(found) == set(_NEWEST)
    for name, signature in found.items():
        kinds = {version[name]["kind"] for version in _KNOWN.values()}
        assert signature["kind"] in kinds, name
        _, parameters = _of(
            fake_picamera2.Picamera2 if name.startswith("Picamera2.") else _request(),
            name.partition(".")[2],
        )
        assert set(parameters) <= set(signature["parameters"]), f"{name} has changed"


@pytest.mark.parametrize("format_", ["RGB888", "BGR888", "XBGR8888", "XRGB8888", "YUV420"])
@pytest.mark.parametrize("size", [(64, 48), (400, 224), (300, 224), (66, 50)])
def test_arrays_are_those_that_the_package_makes(
    format_: str, size: tuple[int, int], package: Path
) -> None:
    buffer = buffer_of(format_, *size)
    config = {"format": format_, "size": size, "stride": stride_of(format_, size[0])}
    real = make_array(package)(buffer, config)
    np.testing.assert_array_equal(real, array_of(buffer, config))


def _request() -> type[Any]:
    return fake_picamera2.CompletedRequest


def _of(owner: type[Any], member: str) -> tuple[str, list[str]]:
    """Kind and parameters of a member of the fake."""
    found = inspect.getattr_static(owner, member, None)
    if isinstance(found, property):
        return "property", []
    if isinstance(found, staticmethod):
        return "staticmethod", list(inspect.signature(found.__func__).parameters)
    if isinstance(found, types.FunctionType):
        return "method", list(inspect.signature(found).parameters)[1:]
    assert f"self.{member} = " in inspect.getsource(fake_picamera2), f"the fake has no {member}"
    return "attribute", []
