"""What is in the wheel and in the source distribution: exactly what is versioned, and no more.

    python tests/package/contents.py dist

Files that git ignores are no part of either; new files that it does not know yet are.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

_PACKAGES = ("edge_sdk/", "host_tools/")
_ONLY_FOR_GIT = {".gitignore"}
# What the build adds: metadata, and setuptools' own list of sources.
_MADE_FOR_SOURCES = ("PKG-INFO", "edgecls.egg-info/")
_METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}


def main() -> None:
    """Compares both archives in a folder with the checkout; exits 1 with what is wrong."""
    folder = Path(sys.argv[1])
    (wheel,), (sources,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    versioned = _versioned()
    of_packages = {name for name in versioned if name.startswith(_PACKAGES)}
    wrong = [
        *_differences(wheel.name, _in_wheel(wheel), of_packages),
        *_differences(sources.name, _in_sources(sources), versioned - _ONLY_FOR_GIT),
    ]
    if wrong:
        sys.exit("\n".join(wrong))
    sys.stdout.write(
        f"{wheel.name}: {len(of_packages)} files and metadata, {wheel.stat().st_size:,} bytes\n"
        f"{sources.name}: {len(versioned) - 1} files, {sources.stat().st_size:,} bytes\n"
    )


def _versioned() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    # Without what is deleted in the working tree.
    return {name for name in listed.stdout.split("\0") if name and Path(name).is_file()}


def _in_wheel(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
    metadata = {name.partition(".dist-info/")[2] for name in names if ".dist-info/" in name}
    lost = _METADATA - metadata
    if lost:
        sys.exit(f"{path.name} lacks {sorted(lost)} of its metadata")
    return {name for name in names if ".dist-info/" not in name}


def _in_sources(path: Path) -> set[str]:
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    return {name for name in names if not name.startswith(_MADE_FOR_SOURCES)}


def _differences(archive: str, found: set[str], expected: set[str]) -> list[str]:
    missing = [f"{archive} lacks {name}: see MANIFEST.in and [options.package_data] in setup.cfg"
               for name in sorted(expected - found)]  # fmt: skip
    surplus = [
        f"{archive} holds {name}, which is no part of it" for name in sorted(found - expected)
    ]
    return missing + surplus


if __name__ == "__main__":
    main()
