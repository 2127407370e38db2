"""The check of `make dist` notices a file that is missing from an archive, and one too many."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

_PROGRAM = Path(__file__).parents[1] / "package" / "contents.py"
_METADATA = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE")
_PACKAGE = ("edge_sdk/__init__.py", "edge_sdk/page.html")
_SOURCES = ("README.md", *_PACKAGE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Versioned files, one of which git ignores."""
    for name in (*_SOURCES, "edge_sdk/left.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("*.pyc\ndist/\n")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "dist").mkdir()
    return tmp_path


def _check(
    checkout: Path,
    in_wheel: tuple[str, ...] = _PACKAGE,
    in_sources: tuple[str, ...] = _SOURCES,
    metadata: tuple[str, ...] = _METADATA,
) -> subprocess.CompletedProcess[str]:
    with zipfile.ZipFile(checkout / "dist/x-1-py3-none-any.whl", "w") as wheel:
        for name in (*in_wheel, *(f"x-1.dist-info/{name}" for name in metadata)):
            wheel.writestr(name, "")
    with tarfile.open(checkout / "dist/x-1.tar.gz", "w:gz") as sources:
        for name in (*in_sources, "PKG-INFO"):
            sources.add(checkout / "README.md", f"x-1/{name}")
    return subprocess.run(
        [sys.executable, _PROGRAM, "dist"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_what_is_versioned_is_enough(checkout: Path) -> None:
    done = _check(checkout)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 files and metadata" in done.stdout


def test_lost_package_data_is_noticed(checkout: Path) -> None:
    done = _check(checkout, in_wheel=_PACKAGE[:1])
    assert done.returncode == 1
    assert "lacks edge_sdk/page.html: see MANIFEST.in and [options.package_data]" in done.stderr


@pytest.mark.parametrize("name", ["tests/test_x.py", "edge_sdk/left.pyc"])
def test_what_is_no_part_of_the_wheel_is_noticed(name: str, checkout: Path) -> None:
    done = _check(checkout, in_wheel=(*_PACKAGE, name))
    assert done.returncode == 1
    assert f"holds {name}" in done.stderr


def test_the_source_archive_is_checked_as_well(checkout: Path) -> None:
    done = _check(checkout, in_sources=(*_PACKAGE, "junk.log"))
    assert done.returncode == 1
    assert "lacks README.md" in done.stderr
    assert "holds junk.log" in done.stderr


def test_lost_metadata_is_noticed(checkout: Path) -> None:
    done = _check(checkout, metadata=_METADATA[:-1])
    assert done.returncode == 1
    assert "licenses/LICENSE" in done.stderr
