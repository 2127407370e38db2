"""Every reader of a user's file: what never ends or has to be waited for is refused by what it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.artifact.description import read_labels
from edge_sdk.bench.accuracy import read_accuracies
from edge_sdk.bench.results import read_benchmark
from edge_sdk.errors import EdgeClsError
from edge_sdk.sinks.address import web_token
from edge_sdk.vision.images import read_image
from host_tools.arrays_file import DamagedArraysError, read_arrays
from host_tools.recipe import load_recipe

_READERS: dict[str, Callable[[Path], Any]] = {
    "labels": read_labels,
    "a picture": read_image,
    "a benchmark": read_benchmark,
    "a validation report": read_accuracies,
    "a recipe": load_recipe,
    "arrays": read_arrays,
}


@pytest.mark.parametrize("name", _READERS)
def test_devices_and_pipes_are_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((Path("/dev/zero"), "a device"), (tmp_path / "pipe", "a pipe")):
        with pytest.raises((EdgeClsError, DamagedArraysError), match=f"is {kind}, expected a file"):
            _READERS[name](path)


@pytest.mark.parametrize("name", [name for name in _READERS if name != "arrays"])
def test_a_file_of_a_terabyte_is_refused_unread(name: str, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(EdgeClsError, match=r"has 1\.1 TB, expected .* at most"):
        _READERS[name](path)


def test_a_token_of_a_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECLS_WEB_TOKEN_FILE", "/dev/zero")
    with pytest.raises(EdgeClsError, match="is a device"):
        web_token(None)


def test_line_ends_of_windows_are_read_as_before(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"cat\r\ndog\r\n")
    assert read_labels(tmp_path / "labels.txt") == ("cat", "dog")
