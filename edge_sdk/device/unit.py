"""A systemd unit that runs ``edgecls run``: its plan and its text."""

from __future__ import annotations

import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import edge_sdk
from edge_sdk.errors import UnitTextError

# Cameras (video), the graphics processor (render), USB devices and the Coral's udev rules (plugdev,
# and apex for the one on PCIe). systemd does not start a unit with a group that does not exist.
GROUPS = ("video", "render", "plugdev", "apex")
# Hidden from a service by ProtectHome= and PrivateTmp=.
_HIDDEN = tuple(Path(name) for name in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))  # noqa: S108
# Also a valid user name: the dynamic user is named after the unit.
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """A unit before it is written.

    Attributes:
        name: of the unit, without ``.service``; of its user and its folders.
        program: the command for ``edgecls``: an absolute path, and arguments if needed.
        model: an absolute path.
        camera: value of ``--camera``; None: ``$EDGECLS_CAMERA`` in ``environment_file`` sets it.
        options: further options of ``edgecls run``.
        groups: that the process belongs to; each must exist.
        visible: folders to show to it although homes and temporary folders are hidden.
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
        """The arguments of the process that systemd starts."""
        camera = () if self.camera is None else ("--camera", self.camera)
        return (*self.program, "run", str(self.model), *camera, *self.options)


def check_name(name: str) -> str:
    """Returns the name, if it is valid for a unit and its user.

    Raises:
        UnitTextError: it is not.
    """
    if not _NAME.fullmatch(name):
        raise UnitTextError(
            f"--name {name!r}: expected at most 31 lower-case letters, digits, - and _, starting with a "
            "letter, as in edgecls-gate"
        )
    return name


def credential_path(name: str, credential: str) -> str:
    """The path of a credential in the process (systemd.exec(5), LoadCredential=)."""
    return f"/run/credentials/{name}.service/{credential}"


def present_groups() -> tuple[str, ...]:
    """Those of ``GROUPS`` that exist on this machine."""
    import grp

    here = {group.gr_name for group in grp.getgrall()}
    return tuple(name for name in GROUPS if name in here)


def program_folders() -> tuple[Path, ...]:
    """The folders of this program: its environment, its Python, and a checkout if it is one."""
    folders = (Path(sys.prefix), Path(sys.base_prefix), Path(edge_sdk.__file__).parents[1])
    return tuple(dict.fromkeys(folders))


def visible_folders(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders that must be shown to a service so that it can read files and folders.

    Args:
        paths: absolute; for a file its folder is shown, so that a replaced file is visible.

    Returns:
        Only hidden folders, none of them within another.
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
    """Whether this path is hidden from a service by ProtectHome= or PrivateTmp=."""
    return any(path.is_relative_to(folder) for folder in _HIDDEN)


def why_unreadable(path: Path, visible: tuple[Path, ...]) -> Path | None:
    """The first folder or file on the way to ``path`` that the service's user may not pass or read.

    The process runs as a new dynamic user, so the permissions for others apply. Permissions above a
    folder in ``visible`` do not matter.
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


# Without the colon, which separates two paths in BindReadOnlyPaths=.
_PLAIN = re.compile(r"[A-Za-z0-9_@+=,./-]+")
# systemd refuses such a program ("Executable path contains special characters").
_NOT_IN_PROGRAM = "\"'\\"
# Characters of a pattern in EnvironmentFile=.
_PATTERN = "*?[\\"


def word(text: str) -> str:
    """Quotes one argument of a command line, or one path of a list, if needed.

    ``%`` starts a specifier and is doubled; ``$`` is kept, since commands here start with ``:``.

    Raises:
        UnitTextError: a line break or another control character, or a name that is not UTF-8.
    """
    _check(text)
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def command(words: tuple[str, ...]) -> str:
    """A line for ``ExecStart=`` whose arguments reach the program unchanged.

    Args:
        words: the program's absolute path, then its arguments.

    Raises:
        UnitTextError: as ``word``; or a quote or a backslash in the program's path.
    """
    program = words[0]
    if any(letter in program for letter in _NOT_IN_PROGRAM):
        raise UnitTextError(
            f"{program}: systemd starts no program with a quote or a backslash in its path; move the "
            "environment to another folder, such as /opt/edgecls"
        )
    # The colon switches off the expansion of $ in the arguments.
    return " ".join((f":{word(program)}", *map(word, words[1:])))


def value(text: str) -> str:
    """Escapes a value that takes the whole line, without quotes.

    Raises:
        UnitTextError: as ``word``; or it ends with a backslash, or starts or ends with space.
    """
    _check(text)
    if text != text.strip() or text.endswith("\\"):
        raise UnitTextError(
            f"{text!r}: a unit file cannot contain a value with a space at its start or end, or a "
            "backslash at its end; rename it"
        )
    return text.replace("%", "%%")


def file_name(path: Path) -> str:
    """A path for ``EnvironmentFile=``, which accepts patterns.

    Raises:
        UnitTextError: as ``value``; or a character of a pattern.
    """
    if any(letter in str(path) for letter in _PATTERN):
        raise UnitTextError(
            f"{path}: systemd takes a path with one of {' '.join(_PATTERN)} for a pattern; rename it"
        )
    return value(str(path))


def _check(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnitTextError(
            f"{text!r}: this name is not valid UTF-8, as a unit file must be; rename it"
        ) from None
    if not text or any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise UnitTextError(
            f"{text!r}: a unit file cannot contain an empty argument, a line break or a control "
            "character; rename it"
        )


# Marks units of edgecls: no other unit is replaced or removed.
MARK = "# Written by edgecls service install"

# Video4Linux and media controllers, buffers of the Pi's camera, USB, the Coral on PCIe.
_DEVICES = ("video4linux", "media", "dma_heap", "usb_device", "apex")

_HARDENING = (
    # A user that exists while the service runs, and owns only its two folders.
    "DynamicUser=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "UMask=0077",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    # Not PrivateUsers=: in a user namespace the supplementary groups are mapped to nobody.
    # Not ProcSubset=pid: without /proc/cpuinfo the kernels for Arm are not selected.
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    # Netlink: libcamera and libusb use it for device events.
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    # Refused, not killed: a library continues without a priority that it may not set.
    "SystemCallErrorNumber=EPERM",
    # An allow list instead of PrivateDevices=, which would hide the camera.
    "PrivateDevices=no",
    "DevicePolicy=closed",
    *(f"DeviceAllow=char-{kind} rw" for kind in _DEVICES),
)


def unit_text(plan: UnitPlan) -> str:
    """The whole file.

    Raises:
        UnitTextError: a path or an argument that no unit file can contain.
    """
    sections = (
        (
            f"{MARK}; edgecls service remove --name {plan.name} removes it.",
            f"# To change a setting: sudo systemctl edit {plan.name}",
        ),
        ("[Unit]", *_unit(plan)),
        ("[Service]", *_service(plan)),
        ("[Install]", "WantedBy=multi-user.target"),
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _unit(plan: UnitPlan) -> list[str]:
    network = "network-online.target" if plan.needs_network else "network.target"
    return [
        f"Description={value(f'edgecls run {plan.model.name}')}",
        *(["Wants=network-online.target"] if plan.needs_network else []),
        f"After={network}",
        # No start limit: after a disk has space again, or a camera is plugged in again, the service
        # must start without a manual reset-failed.
        "StartLimitIntervalSec=0",
    ]


def _service(plan: UnitPlan) -> list[str]:
    folder = plan.name
    return [
        "Type=notify",
        f"ExecStart={command(plan.command)}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        # The process stops its camera's child itself; the child must not get a second signal.
        "KillMode=mixed",
        "TimeoutStartSec=90",
        "TimeoutStopSec=10",
        # Notified while the loop makes progress, see edge_sdk.loop.service.
        "WatchdogSec=30",
        "Restart=on-failure",
        # Without a start limit, 30 s keep a start that fails at once to about 5 % of a Pi's core.
        # Not RestartSteps=: it counts all restarts since the last manual start, so that after months
        # every lost camera would cost the longest pause; and systemd before 254 does not have it.
        "RestartSec=30",
        # A wrong option and a bad model need a user.
        "RestartPreventExitStatus=2 7",
        f"StateDirectory={folder}",
        f"CacheDirectory={folder}",
        f"WorkingDirectory=%S/{folder}",
        f"Environment=XDG_CACHE_HOME=%C/{folder}",
        *(f"Environment={word(f'{name}={text}')}" for name, text in plan.environment),
        *([] if plan.environment_file is None else [_environment_file(plan)]),
        *(f"LoadCredential={name}:{value(str(path))}" for name, path in plan.credentials),
        "StandardOutput=journal",
        "StandardError=journal",
        f"SyslogIdentifier={plan.name}",
        # The rest is left for a login to diagnose a problem.
        "MemoryMax=75%",
        "TasksMax=128",
        *([f"SupplementaryGroups={' '.join(plan.groups)}"] if plan.groups else []),
        *_homes(plan),
        *_HARDENING,
    ]


def _environment_file(plan: UnitPlan) -> str:
    assert plan.environment_file is not None
    return f"EnvironmentFile={file_name(plan.environment_file)}"


def _homes(plan: UnitPlan) -> list[str]:
    if not plan.visible:
        return ["ProtectHome=yes"]
    # Folders, not files: a model renamed over the old one must be visible.
    paths = " ".join(word(str(folder)) for folder in plan.visible)
    return ["ProtectHome=tmpfs", f"BindReadOnlyPaths={paths}"]
