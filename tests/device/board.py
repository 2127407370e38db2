"""An emulated board: a Debian arm64 root with `edgecls` installed like on a real one.

Needs no root: a user namespace of its own stands for it. Nothing is installed on this machine, and
no mount or process outlives the command that it served (see `enter.sh`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.device import readme
from tests.device.processes import BoardError, call, failure, must

_HERE = Path(__file__).parent
_CHECKOUT = _HERE.parents[1]
NAMESPACES = ("--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")
_CACHE_DAYS = 7  # then a root is made again, for Debian's corrections
_CORES = 4
# The Raspberry Pi 4's, from its own /proc/cpuinfo.
_CPUINFO = """processor\t: {core}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
# Wheels of every glibc up to the release's, as pip on the board would take them.
_OLDEST_GLIBC = 17
_TEST_TOOLS = ("pytest>=8.3,<10", "pytest-timeout>=2.3,<3")
# Beside what README installs with apt: what every Raspberry Pi OS has.
_BASE = ("libc6", "libstdc++6", "libgcc-s1", "dash", "coreutils", "systemd")
# What an installation from source would start.
_COMPILERS = ("cc", "gcc", "g++", "clang", "cmake", "make")


@dataclass(frozen=True, slots=True)
class Release:
    """A Debian release, and so a Raspberry Pi OS.

    Attributes:
        name: Debian's code name.
        number: of the release.
        python: its version of Python, such as ``3.11``.
        glibc: the minor version of its C library, 36 for 2.36.
    """

    name: str
    number: int
    python: str
    glibc: int


RELEASES = (Release("bookworm", 12, "3.11", 36), Release("trixie", 13, "3.13", 41))


class CannotTryError(Exception):
    """This machine lacks what the check needs, so that it can say nothing."""


@dataclass(frozen=True, slots=True)
class Board:
    """One root and the commands that run in it.

    Attributes:
        release: which Debian.
        root: the folder that is its ``/``.
        wheels: the wheels for it.
    """

    release: Release
    root: Path
    wheels: Path

    @property
    def site_packages(self) -> Path:
        """Where the packages lie, seen from outside."""
        return self.root / f"opt/edge/lib/python{self.release.python}/site-packages"

    def run(
        self, *command: str, environment: dict[str, str] | None = None, timeout_s: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in ``/root/checkout``, without judging its exit status.

        Args:
            command: the program and its arguments, as paths within the root.
            environment: what `enter.sh` reads: ``BOARD_CPU``, ``BOARD_PYTHONPATH``,
                ``HIDE_PROCESSORS``.
            timeout_s: when to give up.

        Raises:
            BoardError: it took longer.
        """
        return call(
            *("unshare", *NAMESPACES, "sh", str(_HERE / "enter.sh"), str(self.root), *command),
            environment={**os.environ, **(environment or {})},
            timeout_s=timeout_s,
        )

    def must(self, *command: str) -> str:
        """Standard output of a command that has to succeed.

        Raises:
            BoardError: it failed; with the end of what it said.
        """
        done = self.run(*command)
        if done.returncode:
            raise BoardError(failure(done))
        return done.stdout

    def make(self, cache: Path) -> str:
        """Unpacks the root, from the cache where it has a fresh one; says which.

        Args:
            cache: the folder of archives.

        Raises:
            BoardError: Debian's archive answered, and still there is no root.
        """
        archive = kept_root(self.release, cache)
        self.root.parent.mkdir(parents=True)
        fresh = archive.exists() and time.time() - archive.stat().st_mtime < _CACHE_DAYS * 86400
        if not fresh:
            _bootstrap(self.release, archive, self.root.parent)
        self.root.mkdir()
        # Without /dev: its nodes are bound to this machine's on entering.
        must("tar", "-xf", str(archive), "-C", str(self.root), "--exclude=./dev/*")
        self._furnish()
        return "from the cache" if fresh else "from Debian's archive"

    def _furnish(self) -> None:
        """What the packages' own scripts and a kernel would have made."""
        for name in ("bin", "lib", "sbin"):  # one with /usr since trixie
            link = self.root / name
            if not link.exists():
                link.symlink_to(f"usr/{name}")
        for name in ("proc", "dev/shm", "sys/devices/system/cpu", "root/checkout", "opt"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for name in ("possible", "present", "online"):
            (self.root / "sys/devices/system/cpu" / name).write_text(f"0-{_CORES - 1}\n")
        etc = self.root / "etc"
        (etc / "cpuinfo").write_text("".join(_CPUINFO.format(core=core) for core in range(_CORES)))
        (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (etc / "group").write_text("root:x:0:\n")
        (etc / "os-release").write_text(
            f'ID=debian\nVERSION_ID="{self.release.number}"\nVERSION_CODENAME={self.release.name}\n'
            f'PRETTY_NAME="Debian GNU/Linux {self.release.number} ({self.release.name})"\n'
        )

    def download(self, wheel: Path) -> None:
        """Fetches and unpacks every wheel that ``pip install edgecls`` would take on this board.

        Raises:
            BoardError: a package has no wheel for it.
        """
        self.wheels.mkdir()
        platforms = [
            f"manylinux_2_{n}_aarch64" for n in range(_OLDEST_GLIBC, self.release.glibc + 1)
        ]
        platforms.append("manylinux2014_aarch64")
        tag = "cp" + self.release.python.replace(".", "")
        options = [f"--platform={name}" for name in reversed(platforms)]
        options += [f"--abi={abi}" for abi in (tag, "abi3", "none")]
        options += [f"--python-version={self.release.python}", "--implementation=cp"]
        must(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--only-binary=:all:", *options, f"--dest={self.wheels}", str(wheel), "pip"),
            *_TEST_TOOLS,
        )
        # The tools of the tests lie apart, so that the board's own packages stay as they are.
        for target, packages in (
            (self.site_packages, ("edgecls",)),
            (self.root / "opt/test-tools", _TEST_TOOLS),
        ):
            must(
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--only-binary=:all:", *options, "--no-index", f"--find-links={self.wheels}"),
                # Asked of the running Python; the download asked it of the board's.
                *("--ignore-requires-python", "--no-compile", "--root-user-action=ignore"),
                *(f"--target={target}", *packages),
            )

    def install(self) -> str:
        """Makes the environment around what `download` unpacked, and has the board's Python judge it.

        ``pip check`` there says whether each wheel suits its processor and C library, and whether
        each requirement is met under its own markers.

        Returns:
            How many packages that made.

        Raises:
            BoardError: something does not suit, or the root holds a compiler that could have helped.
        """
        helpers = [name for name in _COMPILERS if (self.root / "usr/bin" / name).exists()]
        if helpers:
            raise BoardError(f"the root holds {helpers}: it proves nothing about a bare board")
        self.must(
            f"/usr/bin/python{self.release.python}", "-m", "venv", "--without-pip", "/opt/edge"
        )
        script = self.root / "opt/edge/bin/edgecls"
        script.write_text(
            "#!/opt/edge/bin/python\nimport sys\nfrom host_tools.cli import main\nsys.exit(main())\n"
        )
        script.chmod(0o755)
        pip = next(self.wheels.glob("pip-*.whl"))
        shutil.copy(pip, self.root / "opt")
        self.must("/opt/edge/bin/python", f"/opt/{pip.name}/pip", "check")
        return f"{len(self.sizes())} packages, pip check is content, no compiler in the root"

    def sizes(self) -> list[tuple[str, str, int, int]]:
        """Name, version, files and bytes of every package, byte code left out; largest first."""
        rows = []
        for found in importlib.metadata.distributions(path=[str(self.site_packages)]):
            paths = [Path(str(found.locate_file(file))) for file in found.files or []]
            sizes = [
                path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc"
            ]
            rows.append((found.metadata["Name"], found.version, len(sizes), sum(sizes)))
        return sorted(rows, key=lambda row: -row[3])

    def place(self, *paths: str) -> None:
        """Copies parts of the checkout to where the commands run."""
        for name in paths:
            source, target = _CHECKOUT / name, self.root / "root/checkout" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)


def kept_root(release: Release, cache: Path) -> Path:
    """The archive of a release's root, with these packages, which need not exist."""
    packages = hashlib.sha256(_packages(release).encode()).hexdigest()[:8]
    return cache / f"{release.name}-arm64-{packages}.tar"


def _packages(release: Release) -> str:
    names = [*_BASE, f"python{release.python}", *readme.debian_packages(readme.block())]
    return ",".join(sorted(set(names)))


def _bootstrap(release: Release, archive: Path, scratch: Path) -> None:
    made = scratch / "root.tar"
    must(
        *("unshare", *NAMESPACES, "mmdebstrap", "--quiet", "--mode=root", "--variant=extract"),
        *("--arch=arm64", f"--include={_packages(release)}", release.name, str(made)),
        environment={**os.environ, "TMPDIR": str(scratch)},
    )
    archive.parent.mkdir(parents=True, exist_ok=True)
    half = archive.with_suffix(f".{os.getpid()}")
    try:
        shutil.move(made, half)
        half.replace(archive)
    finally:
        half.unlink(missing_ok=True)
