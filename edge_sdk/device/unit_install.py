"""Installs and removes a systemd unit: from the user's options to ``systemctl``."""

from __future__ import annotations

import contextlib
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import edge_sdk
from edge_sdk.device.unit import (
    MARK,
    UnitPlan,
    check_name,
    credential_path,
    is_hidden,
    present_groups,
    program_folders,
    visible_folders,
    why_unreadable,
)
from edge_sdk.errors import (
    SinkSpecError,
    SourceSpecError,
    SystemctlError,
    SystemdNotFoundError,
    UnitAccessError,
    UnitNotFoundError,
    WriteError,
)
from edge_sdk.files import TEXT_BYTES, read_file, write_atomically
from edge_sdk.redaction import holds_secret, redact
from edge_sdk.sources.specification import STREAM_SCHEMES, parse_source
from edge_sdk.systems import require_linux

if TYPE_CHECKING:
    from edge_sdk.vision.preprocess import Crop

CAMERA_VARIABLE = "EDGECLS_CAMERA"
_EMPTIED = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  # at boot
_STARTER = "from host_tools.cli import main; main(prog_name='edgecls')"


class Described(NamedTuple):
    """The description of a third-party model, see ``Artifact.open``."""

    labels: Path | None = None
    normalize: str | None = None
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class UnitRequest:
    """The options of ``edgecls service install``.

    Attributes:
        name: of the unit.
        model: may be relative.
        camera: as for ``run``; None: not given.
        options: further options of ``run``, already validated.
        environment_file, mqtt_credentials, web_token: files, may be relative.
        described: description of the model in ``options``.
        mqtt, webhook: the URLs in ``options``.
        written: files and folders in ``options`` that ``run`` would write.
    """

    name: str
    model: Path
    camera: str | None = None
    options: tuple[str, ...] = ()
    environment_file: Path | None = None
    mqtt_credentials: Path | None = None
    web_token: Path | None = None
    described: Described = field(default_factory=Described)
    mqtt: str | None = None
    webhook: str | None = None
    written: tuple[Path, ...] = ()


def plan(request: UnitRequest) -> tuple[UnitPlan, tuple[str, ...]]:
    """Makes every path absolute, and checks that the unit's user can read the files it needs.

    Returns:
        The plan, and notes for the user.

    Raises:
        ArtifactError: the model is missing, bad, or not described.
        SourceSpecError: the camera is invalid.
        SinkSpecError: a secret that every user could read.
        UnitTextError: a name or a path that a unit cannot contain.
        UnitAccessError: a file that does not exist, or that the unit's user could not read.
        UnsupportedSystemError: this is not Linux.
    """
    require_linux("a service of systemd", "Type the command on the device")
    name = check_name(request.name)
    model = request.model.absolute()
    # The doctor imports this module, also where numpy is broken.
    from edge_sdk.artifact import Artifact

    Artifact.open(model, **request.described._asdict()).require_described()
    camera = _camera(request)
    _refuse_secrets(request)
    _refuse_outside_paths(request)
    options = _options(request)
    starts = program()
    needed = [model, *_files(request), *program_folders(), *map(Path, starts[:1])]
    if camera is not None and camera.startswith("fake:"):
        needed.append(Path(parse_source(camera).target))
    visible = visible_folders(tuple(needed))
    for path in needed:
        _check_readable(path, visible)
    credentials = [
        (key, _existing(path))
        for key, path in (("mqtt", request.mqtt_credentials), ("web-token", request.web_token))
        if path is not None
    ]
    environment = []
    if request.web_token is not None:
        environment.append(("EDGECLS_WEB_TOKEN_FILE", credential_path(name, "web-token")))
    file = request.environment_file
    planned = UnitPlan(
        name,
        starts,
        model,
        camera,
        options,
        present_groups(),
        visible,
        None if file is None else _existing(file),
        tuple(credentials),
        tuple(environment),
        needs_network=camera is None or camera.split(":")[0].lower() in STREAM_SCHEMES,
    )
    return planned, tuple(_notes(planned))


def program() -> tuple[str, ...]:
    """The command that starts this ``edgecls``.

    Raises:
        UnitAccessError: it is installed for this user only (``pip install --user``).
    """
    if Path(edge_sdk.__file__).is_relative_to(site.getusersitepackages()):
        raise UnitAccessError(
            f"edgecls is installed in {site.getusersitepackages()}, for this user only, and the service "
            "runs as another user. Type: sudo python3 -m venv --system-site-packages /opt/edgecls/env && "
            "sudo /opt/edgecls/env/bin/pip install 'edgecls[pi]'"
        )
    beside = Path(sys.executable).with_name("edgecls")
    if beside.is_file():
        return (str(beside),)
    found = shutil.which("edgecls")
    return (str(Path(found).absolute()),) if found else (sys.executable, "-c", _STARTER)


def _camera(request: UnitRequest) -> str | None:
    """The value of ``--camera`` with an absolute path; None: the environment file sets it."""
    file = request.environment_file
    if request.camera is None:
        lines = [] if file is None else _lines(_existing(file))
        is_set = any(line.strip().startswith(f"{CAMERA_VARIABLE}=") for line in lines)
        return None if is_set else "auto"
    if request.camera.startswith("@"):
        raise SourceSpecError(
            f"--camera {request.camera}: the service's user cannot read your files. Write "
            f"{CAMERA_VARIABLE}=URL into a file owned by root (chmod 600), and give --environment-file "
            "FILE in place of --camera"
        )
    spec = parse_source(request.camera)
    if spec.kind == "stream" and holds_secret(request.camera):
        raise SourceSpecError(
            f"--camera {redact(request.camera)}: every user of this machine can read a unit's command, "
            f"so it must not contain a password. Write {CAMERA_VARIABLE}=URL into a file owned by root "
            "(chmod 600), and give --environment-file FILE in place of --camera"
        )
    if spec.kind != "fake":
        return request.camera
    _, _, options = request.camera.rpartition("?") if "?" in request.camera else ("", "", "")
    return f"fake:{Path(spec.target).absolute()}" + (f"?{options}" if options else "")


def _refuse_secrets(request: UnitRequest) -> None:
    if request.webhook is not None and holds_secret(request.webhook):
        raise SinkSpecError(
            "--webhook: its URL contains a secret, and every user of this machine can read a unit's "
            "command. Write EDGECLS_WEBHOOK_TOKEN=... into a file owned by root (chmod 600), and give "
            "--environment-file FILE"
        )
    if request.mqtt is None:
        if request.mqtt_credentials is not None:
            raise SinkSpecError("--mqtt-credentials needs a broker; add -- --mqtt mqtt://BROKER")
        return
    if "@" in urlsplit(request.mqtt).netloc or "credentials" in dict(_query(request.mqtt)):
        raise SinkSpecError(
            "--mqtt: its URL contains credentials. Every user of this machine can read a unit's "
            "command, and the service's user cannot read your files. Write name and password into a "
            "file owned by root (one per line, chmod 600), and give --mqtt-credentials FILE"
        )


def _refuse_outside_paths(request: UnitRequest) -> None:
    state = Path("/var/lib") / request.name
    for path in request.written:
        if path.is_absolute() and not path.is_relative_to(state):
            raise UnitAccessError(
                f"{path}: the service may write only below {state}; give a path relative to it, such as "
                f"{path.name}"
            )


def _options(request: UnitRequest) -> tuple[str, ...]:
    """The options with absolute paths, and with systemd's path of the credentials."""
    words = list(request.options)
    labels, url = request.described.labels, request.mqtt
    if labels is not None:
        words = _replaced(words, "--labels", str(labels), str(labels.absolute()))
    if url is not None and request.mqtt_credentials is not None:
        complete = (
            f"{url}{'&' if '?' in url else '?'}credentials={credential_path(request.name, 'mqtt')}"
        )
        words = _replaced(words, "--mqtt", url, complete)
    return tuple(words)


def _replaced(words: list[str], option: str, old: str, new: str) -> list[str]:
    changed = [f"{option}={new}" if word == f"{option}={old}" else word for word in words]
    for place, word in enumerate(words[:-1]):
        if word == option and words[place + 1] == old:
            changed[place + 1] = new
    return changed


def _files(request: UnitRequest) -> Iterator[Path]:
    """Files in the options that the process reads."""
    if request.described.labels is not None:
        yield request.described.labels.absolute()
    for option, text in _query(request.mqtt or ""):
        if option in ("ca", "cert") and Path(text).is_absolute():
            yield _existing(Path(text))


def _query(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query)


def _lines(path: Path) -> list[str]:
    return read_file(path, TEXT_BYTES).decode("utf-8", "replace").splitlines()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UnitAccessError(
            f"{path}: no such file, or this user may not read its folder; create it, or use sudo"
        )
    return path.absolute()


def _check_readable(path: Path, visible: tuple[Path, ...]) -> None:
    try:
        step = why_unreadable(path, visible)
    except OSError as error:
        raise UnitAccessError(
            f"{path}: cannot be read ({error.strerror}); expected a file or folder that every user may "
            "read"
        ) from error
    if step is None:
        return
    letters = "rx" if step.is_dir() else "r"
    if step == Path.home() or is_hidden(step):
        hint = (
            f"move {path.name} to a folder such as /opt/edgecls, or type: chmod o+{letters} {step}"
        )
    else:
        hint = f"type: sudo chmod o+{letters} {step}"
    raise UnitAccessError(
        f"{path}: the service runs as its own user, who may not read {step}; {hint}"
    )


def _notes(planned: UnitPlan) -> Iterator[str]:
    for folder in planned.visible:
        if any(folder.is_relative_to(place) for place in _EMPTIED):
            yield f"{folder} is emptied at boot; use a folder such as /opt/edgecls"
        elif folder.parent in (Path("/home"), Path("/")):
            yield f"the service can read all world-readable files in {folder}"
    if "video" not in planned.groups:
        yield "there is no group video here, so no camera can be opened; install on the device itself"


# Type=notify: systemctl waits until the camera is open; see TimeoutStartSec= in the unit.
_SECONDS = 120.0
# Folders of a service with a dynamic user, each before the link to it.
_DATA = ("var/lib/private/{}", "var/lib/{}", "var/cache/private/{}", "var/cache/{}")


@dataclass(frozen=True, slots=True)
class CommandResult:
    """Exit status and output of ``systemctl``."""

    status: int
    printed: str


def _systemctl(words: Sequence[str]) -> CommandResult:
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
            "there is no systemctl on this machine; expected a system with systemd, such as Raspberry Pi "
            "OS. To print the unit, add --dry-run"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SystemctlError(
            f"systemctl {' '.join(words)} did not end within {_SECONDS:g} s; type: systemctl status"
        ) from error
    output = done.stderr if done.returncode else done.stdout
    return CommandResult(done.returncode, output.decode(errors="replace").strip())


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that a unit is installed on; tests use a folder.

    Attributes:
        root: prefix of every path of the unit and its data.
        systemctl: runs systemctl with these arguments.
    """

    root: Path = Path("/")
    systemctl: Callable[[Sequence[str]], CommandResult] = _systemctl

    @property
    def boots_with_systemd(self) -> bool:
        """Whether systemd is running: not in a chroot or a container; sd_booted(3)."""
        return (self.root / "run/systemd/system").is_dir()

    def unit(self, name: str) -> Path:
        """The unit's file."""
        return self.root / "etc/systemd/system" / f"{name}.service"

    def check_root(self, instead: str) -> None:
        """Checks that this user may install units.

        Args:
            instead: the command to type.

        Raises:
            UnitAccessError: it may not.
        """
        folder = self.unit("x").parent
        if not os.access(folder if folder.exists() else self.root, os.W_OK):
            raise UnitAccessError(
                f"{folder}: this user may not write there; installing and removing a service needs root. "
                f"Type: {instead}"
            )


def install(host: Host, name: str, text: str, *, start: bool = True) -> bool:
    """Writes the unit, enables it at boot, and starts or restarts it.

    Returns:
        Whether it was started; False if systemd is not running, or with ``start=False``.

    Raises:
        UnitNotFoundError: a unit of this name exists that edgecls did not write.
        SystemdNotFoundError: there is no systemctl.
        SystemctlError: it failed; the unit is removed, or the previous one restored, unless only the
            start failed.
        WriteError: no space, or no permission.
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
    host.systemctl(("reset-failed", f"{name}.service"))  # clears the state of a failed unit
    _must(host, "restart", f"{name}.service")
    return True


def remove(host: Host, name: str, *, purge: bool = False) -> tuple[Path, ...]:
    """Stops, disables and deletes the unit; refuses a unit that edgecls did not write.

    Args:
        host: the machine.
        name: of the unit.
        purge: also delete the service's data: spools, logs, pictures, copies of models.

    Returns:
        What is kept: data, and changes made with ``systemctl edit``.

    Raises:
        UnitNotFoundError: there is none, or edgecls did not write it.
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
            f"{error.filename}: cannot be deleted ({error.strerror}); delete it manually"
        ) from error
    if running:
        _must(host, "daemon-reload")
        host.systemctl(("reset-failed", f"{name}.service"))  # fails if the unit had not failed
    changes = path.with_name(f"{path.name}.d")
    left = [folder for folder in _data(host, name) if not folder.is_symlink()]
    return (*left, *([changes] if changes.is_dir() else []))


def show(host: Host, name: str, keys: Sequence[str]) -> dict[str, str]:
    """The properties of a unit, from systemd.

    Raises:
        SystemdNotFoundError: systemd is not running here.
    """
    words = [word for key in keys for word in ("-p", key)]
    answer = host.systemctl(("show", f"{name}.service", *words))
    if answer.status:
        raise SystemdNotFoundError(
            f"systemd does not answer ({answer.printed.splitlines()[0] if answer.printed else ''}); "
            "expected a machine that was booted with it. In a container, check the process itself"
        )
    return dict(line.split("=", 1) for line in answer.printed.splitlines() if "=" in line)


def _must(host: Host, *words: str) -> None:
    answer = host.systemctl(words)
    if answer.status:
        raise SystemctlError(
            f"systemctl {' '.join(words)} failed: {answer.printed or answer.status}"
        )


def _ours(path: Path) -> str:
    """The text of a unit that edgecls wrote."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        raise UnitNotFoundError(
            f"there is no {path}; type: edgecls service install MODEL, or give the --name that it was "
            "installed with"
        ) from None
    except OSError as error:
        raise UnitAccessError(f"{path}: cannot be read ({error.strerror}); use sudo") from error
    if not text.startswith(MARK):
        raise UnitNotFoundError(
            f"{path} was not written by edgecls, and is not changed; choose another --name"
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
