"""The wheel on 64-bit Arm, without a board: Debian bookworm and trixie under emulation.

    make test-arm64                              or, with a wheel at hand,
    python -m tests.device.arm64 --wheel dist/edgecls-*.whl [--release trixie] [--work DIR]

Needs Linux and three Debian packages, which it names and never installs; it does not need root.
The roots come from Debian's archive and the wheels from the package index; the roots are kept for
a week in a cache, the wheels in pip's. Exit status: 0 done, 1 something is wrong, 77 this machine
cannot run them, with the reason. Latencies under emulation say nothing about a board.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import FrameType

from tests.device.board import NAMESPACES, RELEASES, Board, CannotTryError, Release, kept_root
from tests.device.checks import CHECKS, Reference
from tests.device.processes import BoardError, call, stop_all

_CANNOT_TELL = 77  # as in automake's tests
_CHECKOUT = ("tests", "setup.cfg")
_DEBIAN = "http://deb.debian.org/debian/dists/{}/InRelease"
_PACKAGES = "apt-get install --no-install-recommends qemu-user-static mmdebstrap"


def main() -> None:
    """Checks the releases that are asked for, side by side where there are processors."""
    options = _options()
    signal.signal(signal.SIGTERM, _as_interrupt)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edgecls-arm64"
    started = time.monotonic()
    try:
        with _work(options.work) as work:
            releases = [r for r in RELEASES if options.release in (None, r.name)]
            _require(releases, cache)
            boards = [Board(r, work / r.name / "root", work / r.name / "wheels") for r in releases]
            _check(boards, options.wheel.resolve(), work, cache, options.jobs)
    except CannotTryError as reason:
        sys.stderr.write(f"arm64: skipped: {reason}\n")
        sys.exit(_CANNOT_TELL)
    except BoardError as error:
        sys.exit(f"arm64: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    _say("", f"{time.monotonic() - started:6.1f} s  in all")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wheel", type=Path, required=True, help="the wheel to install")
    parser.add_argument("--release", choices=[r.name for r in RELEASES], help="only this one")
    parser.add_argument("--work", type=Path, help="keep the roots in this new folder")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    return parser.parse_args()


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _work(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="edgecls-arm64-") as name:
        yield Path(name)


def _require(releases: list[Release], cache: Path) -> None:
    if not sys.platform.startswith("linux"):
        raise CannotTryError("QEMU's user mode needs Linux")
    missing = [name for name in ("mmdebstrap", "unshare", "tar") if shutil.which(name) is None]
    emulator = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
    if not emulator.exists() and not Path("/usr/lib/binfmt.d/qemu-aarch64.conf").exists():
        missing.append("qemu-aarch64")
    if not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        missing.append("debian-archive-keyring")
    if missing:
        raise CannotTryError(f"missing: {', '.join(missing)}; {_PACKAGES} debian-archive-keyring")
    _require_namespaces(emulator)
    for release in releases:
        if not kept_root(release, cache).exists():
            _require_debian(release)
    with tempfile.TemporaryDirectory() as nowhere:
        done = call(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--retries=1", f"--dest={nowhere}", "iniconfig"),
        )
    if done.returncode:
        raise CannotTryError(f"the package index does not answer: {done.stderr.strip()[-300:]}")


def _require_namespaces(emulator: Path) -> None:
    mounts = "mount -t proc none /proc"
    if not emulator.exists():
        mounts = f"mount -t binfmt_misc none {emulator.parent} && {mounts}"
    done = call("unshare", *NAMESPACES, "sh", "-c", mounts)
    if done.returncode:
        raise CannotTryError(
            f"no namespace with /proc and binfmt_misc of its own ({done.stderr.strip()[-300:]}): either "
            "a container, or a kernel before 6.7 where QEMU is not registered (systemctl restart "
            "systemd-binfmt)"
        )


def _require_debian(release: Release) -> None:
    try:
        with urllib.request.urlopen(_DEBIAN.format(release.name), timeout=20) as answer:
            answer.read(1)
    except OSError as error:
        raise CannotTryError(f"Debian's archive does not answer: {error}") from error


def _check(boards: list[Board], wheel: Path, work: Path, cache: Path, jobs: int) -> None:
    reference = Reference(work / "x86-64")
    first_failure = Event()

    def stage(board: Board, work_: Callable[[], str]) -> None:
        if first_failure.is_set():
            return
        began = time.monotonic()
        try:
            said = work_()
        except BaseException:
            first_failure.set()
            raise
        _say(board.release.name, f"{time.monotonic() - began:6.1f} s  {said}")

    def prepare(board: Board) -> None:
        stage(board, lambda: f"root {board.make(cache)}")
        stage(board, lambda: _downloaded(board, wheel))
        stage(board, board.install)
        board.place(*_CHECKOUT)
        for name, version, files, size in board.sizes():
            _say(
                board.release.name, f"          {files:6,} files {size:12,} bytes  {name} {version}"
            )
        totals = [row[2:] for row in board.sizes()]
        files, size = map(sum, zip(*totals, strict=True))
        _say(board.release.name, f"          {files:6,} files {size:12,} bytes  together")

    def examine(board: Board) -> None:
        for check in CHECKS:
            stage(board, lambda check=check: check(board, reference))

    with ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(prepare, boards))
            stage(boards[0], lambda: f"x86-64 beside it: {reference.install(wheel, boards[0])}")
            list(pool.map(examine, boards))
        except BaseException:
            first_failure.set()
            stop_all()
            raise


def _downloaded(board: Board, wheel: Path) -> str:
    board.download(wheel)
    sizes = [path.stat().st_size for path in board.wheels.glob("*.whl")]
    return f"{len(sizes)} wheels, {sum(sizes):,} bytes, test tools included"


def _say(who: str, text: str) -> None:
    sys.stdout.write(f"{who:<9}{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
