"""Fixtures of the benchmarks, and the machine's facts beside their figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import public_model
from edge_sdk import Frame, read_image
from edge_sdk.machine.facts import read_machine


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Passed trials of models are recorded per user; benchmarks must leave no such records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The folder of public models and pictures; skips where it is absent."""
    if not public_model.PUBLIC_DATA.is_dir():
        pytest.skip("public test data is absent; see CONTRIBUTING.md")
    return public_model.PUBLIC_DATA


@pytest.fixture(scope="session")
def cat_file(public_data: Path) -> Path:
    """A photograph of a cat, 1280x720 JPEG."""
    return public_data / public_model.CAT


@pytest.fixture(scope="session")
def cat(cat_file: Path) -> Frame:
    """The same, decoded to RGB."""
    return read_image(cat_file)


@pytest.fixture(scope="session")
def mobilenet(public_data: Path) -> Path:
    """MobileNetV2 1.0 224, int8 per channel, a third-party model for pixels -1..1."""
    return public_data / public_model.MOBILENET


@pytest.fixture(scope="session")
def imagenet_labels(public_data: Path) -> tuple[str, ...]:
    """Its 1001 labels."""
    return tuple((public_data / public_model.LABELS).read_text("utf-8").splitlines())


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of the small artifacts that tests use, too."""
    return public_model.GOLDEN


@pytest.hookimpl
def pytest_benchmark_update_machine_info(
    config: pytest.Config,  # noqa: ARG001  the name is part of the hook
    machine_info: dict[str, Any],
) -> None:
    """Keeps the versions that matter, drops the name of the machine."""
    machine_info.pop("node", None)
    machine_info["edgecls"] = read_machine().to_json()
