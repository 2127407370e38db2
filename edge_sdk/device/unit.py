"""What a unit is to do, as a value; and what of the disk its process must see for that."""

from __future__ import annotations

import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import edge_sdk
from edge_sdk.errors import UnitTextError

# Cameras (video), the graphics processor (render), USB devices and the Coral's udev rules (plugdev,
# and apex for the one on PCIe). systemd starts nothing that names a group which is not there.
GROUPS = ("video", "render", "plugdev", "apex")
# What ProtectHome= and PrivateTmp= take away from a service.
_HIDDEN = tuple(Path(name) for name in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))  # noqa: S108
# A name that is a user's name, too: the dynamic user is called after the unit.
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


@dataclass(frozen=True, slots=True)
class Plan:
    """A unit before it is written.

    Attributes:
        name: of the unit, without ``.service``; of its user and its folders.
        program: how ``edgecls`` is started: an absolute path, and arguments if need be.
        model: an absolute path.
        camera: ``--camera``'s word; None: ``$EDGECLS_CAMERA`` in ``environment_file`` says it.
        options: further words for ``edgecls run``.
        groups: that the process belongs to; each must exist.
        visible: folders that it must see though homes and temporary folders are hidden from it.
        environment_file: with lines ``NAME=VALUE``, read by systemd as root.
        credentials: ``(id, file)``, given to the process by systemd, below ``credential_path``.
        environment: ``(name, value)``.
        needs_network: a camera or a stream on the network, which must be up at the start.
    """

    name: str
    program: tuple[str, ...]
    model: Path
    camera: str | None = "auto"
    options: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    visible: tuple[Path, ...] = ()
    environment_file: Path | None = None
    credentials: tuple[tuple[str, Path], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    needs_network: bool = False

    @property
    def command(self) -> tuple[str, ...]:
        """What systemd starts, word by word."""
        camera = () if self.camera is None else ("--camera", self.camera)
        return (*self.program, "run", str(self.model), *camera, *self.options)


def check_name(name: str) -> str:
    """The name, if it can be that of a unit and of its user.

    Raises:
        UnitTextError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise UnitTextError(
            f"--name {name!r}: expected at most 31 small letters, digits, - and _, beginning with a "
            "letter, as in edgecls-gate"
        )
    return name


def credential_path(name: str, credential: str) -> str:
    """Where the process finds a credential (systemd.exec(5), LoadCredential=)."""
    return f"/run/credentials/{name}.service/{credential}"


def present_groups() -> tuple[str, ...]:
    """Those of ``GROUPS`` that this machine has."""
    import grp

    here = {group.gr_name for group in grp.getgrall()}
    return tuple(name for name in GROUPS if name in here)


def program_folders() -> tuple[Path, ...]:
    """Where this very program lies: its environment, its Python, and a checkout if it is one."""
    folders = (Path(sys.prefix), Path(sys.base_prefix), Path(edge_sdk.__file__).parents[1])
    return tuple(dict.fromkeys(folders))


def visible_folders(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders that must be shown to a service so that it finds files and folders.

    Args:
        paths: absolute; of files the folder is meant, so that a file renamed over one is seen.

    Returns:
        The hidden ones only, none of them within another.
    """
    folders = sorted(
        {
            folder
            for path in paths
            for real in (path, path.resolve())
            if (folder := real if real.is_dir() else real.parent) and is_hidden(folder)
        }
    )
    return tuple(f for f in folders if not any(f.is_relative_to(g) for g in folders if g != f))


def is_hidden(path: Path) -> bool:
    """Whether a service with a home of nobody does not see this."""
    return any(path.is_relative_to(folder) for folder in _HIDDEN)


def why_unreadable(path: Path, visible: tuple[Path, ...]) -> Path | None:
    """The first folder or file on the way to ``path`` that a stranger may not pass or read.

    The process belongs to a user that did not exist before, so what counts is what everybody may do.
    Above a folder that is shown to it, nothing matters.
    """
    real = path.resolve()
    shown = [folder for folder in visible if real.is_relative_to(folder)]
    for step in (*reversed(real.parents), real):
        if shown and not any(step.is_relative_to(folder) for folder in shown):
            continue
        mode = step.stat().st_mode
        needed = stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
        if step == real:
            needed |= stat.S_IROTH
        if mode & needed != needed:
            return step
    return None
