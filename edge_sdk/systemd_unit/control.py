"""Putting a unit in place, taking it away, asking systemd how it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.errors import (
    SystemctlError,
    SystemdNotFoundError,
    UnitAccessError,
    UnitNotFoundError,
    WriteError,
)
from edge_sdk.files import write_atomically
from edge_sdk.systemd_unit.text import MARK

# Type=notify: a start is waited for until the camera is open; see TimeoutStartSec= in the unit.
_SECONDS = 120.0
# In this order: what a service with a dynamic user leaves, and the link to it.
_DATA = ("var/lib/private/{}", "var/lib/{}", "var/cache/private/{}", "var/cache/{}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What ``systemctl`` said: its exit status and its words."""

    status: int
    printed: str


def _systemctl(words: Sequence[str]) -> Answer:
    try:
        done = subprocess.run(
            ["systemctl", "--no-pager", *words],  # noqa: S607  # wherever the system has it
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise SystemdNotFoundError(
            "there is no systemctl on this machine, hence no systemd to install a service for; "
            "expected a system such as Raspberry Pi OS. See what it would be with --dry-run"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SystemctlError(
            f"systemctl {' '.join(words)} did not end within {_SECONDS:g} s; look at systemctl status"
        ) from error
    told = done.stderr if done.returncode else done.stdout
    return Answer(done.returncode, told.decode(errors="replace").strip())


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that a unit is installed on; tests have one in a folder.

    Attributes:
        root: in front of every path of the unit and its data.
        systemctl: runs it with these words.
    """

    root: Path = Path("/")
    systemctl: Callable[[Sequence[str]], Answer] = _systemctl

    @property
    def boots_with_systemd(self) -> bool:
        """Whether systemd runs here at this moment: not in a chroot or a container; sd_booted(3)."""
        return (self.root / "run/systemd/system").is_dir()

    def unit(self, name: str) -> Path:
        """The unit's file."""
        return self.root / "etc/systemd/system" / f"{name}.service"

    def check_root(self, instead: str) -> None:
        """Raises where this user may not install units.

        Args:
            instead: the command to type.

        Raises:
            UnitAccessError: it may not.
        """
        folder = self.unit("x").parent
        if not os.access(folder if folder.exists() else self.root, os.W_OK):
            raise UnitAccessError(
                f"{folder} may not be written to by this user; installing and removing a service takes "
                f"root. Type: {instead}"
            )


def install(host: Host, name: str, text: str, *, start: bool = True) -> bool:
    """Writes the unit, switches it on for every boot, and starts it, or anew if it runs.

    Returns:
        Whether it was started; False where systemd does not run here, or with ``start=False``.

    Raises:
        UnitNotFoundError: another unit of this name is there, and not by us.
        SystemdNotFoundError: there is no systemctl.
        SystemctlError: it refused; the unit is gone again, or the one before it is back, unless it
            was only the start that failed.
        WriteError: no room, or no permission.
    """
    path = host.unit(name)
    before = _ours(path) if path.exists() else None
    write_atomically(path, text)
    try:
        if host.boots_with_systemd:
            _must(host, "daemon-reload")
        _must(host, "enable", f"{name}.service")
    except (SystemctlError, SystemdNotFoundError):
        if before is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, before)
        raise
    if not (start and host.boots_with_systemd):
        return False
    host.systemctl(("reset-failed", f"{name}.service"))  # one that gave up may try again
    _must(host, "restart", f"{name}.service")
    return True


def remove(host: Host, name: str, *, purge: bool = False) -> tuple[Path, ...]:
    """Stops the unit, switches it off and deletes it; a unit of somebody else is left alone.

    Args:
        host: where.
        name: which.
        purge: also what the service wrote: spools, logs, pictures, memories of models.

    Returns:
        What it left behind: data, and changes made with ``systemctl edit``.

    Raises:
        UnitNotFoundError: there is none, or it is not ours.
        SystemctlError: it cannot be stopped.
        WriteError: something cannot be deleted.
    """
    path = host.unit(name)
    _ours(path)
    running = host.boots_with_systemd
    _must(host, "disable", *(["--now"] if running else []), f"{name}.service")
    try:
        path.unlink()
        for folder in _data(host, name) if purge else ():
            folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    except OSError as error:
        raise WriteError(
            f"{error.filename}: cannot be deleted ({error.strerror}); delete it by hand"
        ) from error
    if running:
        _must(host, "daemon-reload")
        host.systemctl(("reset-failed", f"{name}.service"))  # fails where nothing had failed
    changes = path.with_name(f"{path.name}.d")
    left = [folder for folder in _data(host, name) if not folder.is_symlink()]
    return (*left, *([changes] if changes.is_dir() else []))


def show(host: Host, name: str, keys: Sequence[str]) -> dict[str, str]:
    """What systemd knows of a unit, by property.

    Raises:
        SystemdNotFoundError: systemd does not run here.
    """
    words = [word for key in keys for word in ("-p", key)]
    answer = host.systemctl(("show", f"{name}.service", *words))
    if answer.status:
        raise SystemdNotFoundError(
            f"systemd does not answer ({answer.printed.splitlines()[0] if answer.printed else ''}); "
            "expected a machine that was started by it. In a container, look at the process itself"
        )
    return dict(line.split("=", 1) for line in answer.printed.splitlines() if "=" in line)


def _must(host: Host, *words: str) -> None:
    answer = host.systemctl(words)
    if answer.status:
        raise SystemctlError(
            f"systemctl {' '.join(words)} failed: {answer.printed or answer.status}"
        )


def _ours(path: Path) -> str:
    """The text of a unit of ours."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        raise UnitNotFoundError(
            f"there is no {path}; install it with edgecls service install MODEL, or give the --name "
            "that it was installed with"
        ) from None
    except OSError as error:
        raise UnitAccessError(
            f"{path}: cannot be read ({error.strerror}); try with sudo"
        ) from error
    if not text.startswith(MARK):
        raise UnitNotFoundError(
            f"{path} was not written by edgecls, and is left alone; choose another --name"
        )
    return text


def _data(host: Host, name: str) -> list[Path]:
    found = []
    for pattern in _DATA:
        path = host.root / pattern.format(name)
        with contextlib.suppress(OSError):
            if path.is_symlink() or path.is_dir():
                found.append(path)
    return found
