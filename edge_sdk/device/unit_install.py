"""A systemd unit put in place and taken away: from what a user asks for to ``systemctl``."""

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
_EMPTIED = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  # when the machine starts
_STARTER = "from host_tools.cli import main; main(prog_name='edgecls')"


class Described(NamedTuple):
    """What must be said of a foreign model, see ``Artifact.open``."""

    labels: Path | None = None
    normalize: str | None = None
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class UnitRequest:
    """What was typed.

    Attributes:
        name: of the unit.
        model: perhaps relative.
        camera: as for ``run``; None: not said.
        options: further words for ``run``, which it has understood.
        environment_file, mqtt_credentials, web_token: files, perhaps relative.
        described: what ``options`` say of the model.
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
    """Makes every path absolute, and sees to it that the unit's user can read what it needs.

    Returns:
        The plan, and notes for whoever asked.

    Raises:
        ArtifactError: the model is missing, bad, or not described.
        SourceSpecError: the camera is none.
        SinkSpecError: a secret where everybody could read it.
        UnitTextError: a name or a path that a unit cannot have.
        UnitAccessError: a file that is not there, or that the unit's user could not read.
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
    _refuse_elsewhere(request)
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
    """How this ``edgecls`` is started.

    Raises:
        UnitAccessError: it is installed for this user alone (``pip install --user``).
    """
    if Path(edge_sdk.__file__).is_relative_to(site.getusersitepackages()):
        raise UnitAccessError(
            f"edgecls lies in {site.getusersitepackages()}, where Python looks for one user's packages "
            "only, and the service has another user. Type: sudo python3 -m venv --system-site-packages "
            "/opt/edgecls/env && sudo /opt/edgecls/env/bin/pip install 'edgecls[pi]'"
        )
    beside = Path(sys.executable).with_name("edgecls")
    if beside.is_file():
        return (str(beside),)
    found = shutil.which("edgecls")
    return (str(Path(found).absolute()),) if found else (sys.executable, "-c", _STARTER)


def _camera(request: UnitRequest) -> str | None:
    """The camera's word with an absolute path in it; None: the environment file says it."""
    file = request.environment_file
    if request.camera is None:
        lines = [] if file is None else _lines(_existing(file))
        told = any(line.strip().startswith(f"{CAMERA_VARIABLE}=") for line in lines)
        return None if told else "auto"
    if request.camera.startswith("@"):
        raise SourceSpecError(
            f"--camera {request.camera}: a unit's user reads no file of yours. Write "
            f"{CAMERA_VARIABLE}=URL into a file of root's (chmod 600), and give --environment-file FILE "
            "in place of --camera"
        )
    spec = parse_source(request.camera)
    if spec.kind == "stream" and holds_secret(request.camera):
        raise SourceSpecError(
            f"--camera {redact(request.camera)}: every user of this machine can read what a unit "
            f"starts, so a password has no place in it. Write {CAMERA_VARIABLE}=URL into a file of "
            "root's (chmod 600), and give --environment-file FILE in place of --camera"
        )
    if spec.kind != "fake":
        return request.camera
    _, _, options = request.camera.rpartition("?") if "?" in request.camera else ("", "", "")
    return f"fake:{Path(spec.target).absolute()}" + (f"?{options}" if options else "")


def _refuse_secrets(request: UnitRequest) -> None:
    if request.webhook is not None and holds_secret(request.webhook):
        raise SinkSpecError(
            "--webhook: its URL holds a secret, and every user of this machine can read what a unit "
            "starts. Write EDGECLS_WEBHOOK_TOKEN=... into a file of root's (chmod 600), and give "
            "--environment-file FILE"
        )
    if request.mqtt is None:
        if request.mqtt_credentials is not None:
            raise SinkSpecError("--mqtt-credentials are for a broker; add -- --mqtt mqtt://BROKER")
        return
    if "@" in urlsplit(request.mqtt).netloc or "credentials" in dict(_query(request.mqtt)):
        raise SinkSpecError(
            "--mqtt: a unit's user reads no file of yours, and everybody reads what a unit starts. "
            "Write name and password into a file of root's (a line each, chmod 600), and give "
            "--mqtt-credentials FILE"
        )


def _refuse_elsewhere(request: UnitRequest) -> None:
    state = Path("/var/lib") / request.name
    for path in request.written:
        if path.is_absolute() and not path.is_relative_to(state):
            raise UnitAccessError(
                f"{path}: the service may write below {state} alone; give a relative path, which lies "
                f"there, such as {path.name}"
            )


def _options(request: UnitRequest) -> tuple[str, ...]:
    """The words with absolute paths, and with where systemd puts the credentials."""
    words = list(request.options)
    labels, url = request.described.labels, request.mqtt
    if labels is not None:
        words = _replaced(words, "--labels", str(labels), str(labels.absolute()))
    if url is not None and request.mqtt_credentials is not None:
        told = (
            f"{url}{'&' if '?' in url else '?'}credentials={credential_path(request.name, 'mqtt')}"
        )
        words = _replaced(words, "--mqtt", url, told)
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
            f"{path}: there is no such file, or this user may not see it; make it, or try with sudo"
        )
    return path.absolute()


def _check_readable(path: Path, visible: tuple[Path, ...]) -> None:
    try:
        step = why_unreadable(path, visible)
    except OSError as error:
        raise UnitAccessError(
            f"{path}: cannot be looked at ({error.strerror}); expected a file or folder that everybody "
            "may read"
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
        f"{path}: the service has a user of its own, who may not read {step}; {hint}"
    )


def _notes(planned: UnitPlan) -> Iterator[str]:
    for folder in planned.visible:
        if any(folder.is_relative_to(place) for place in _EMPTIED):
            yield f"{folder} is emptied when the machine starts; better a folder such as /opt/edgecls"
        elif folder.parent in (Path("/home"), Path("/")):
            yield f"the service can read all that everybody may read in {folder}"
    if "video" not in planned.groups:
        yield "there is no group video here, so no camera may be opened; install on the device itself"


# Type=notify: a start is waited for until the camera is open; see TimeoutStartSec= in the unit.
_SECONDS = 120.0
# In this order: what a service with a dynamic user leaves, and the link to it.
_DATA = ("var/lib/private/{}", "var/lib/{}", "var/cache/private/{}", "var/cache/{}")


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What ``systemctl`` said: its exit status and its words."""

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
            "there is no systemctl on this machine, hence no systemd to install a service for; "
            "expected a system such as Raspberry Pi OS. See what it would be with --dry-run"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SystemctlError(
            f"systemctl {' '.join(words)} did not end within {_SECONDS:g} s; look at systemctl status"
        ) from error
    told = done.stderr if done.returncode else done.stdout
    return CommandResult(done.returncode, told.decode(errors="replace").strip())


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that a unit is installed on; tests have one in a folder.

    Attributes:
        root: in front of every path of the unit and its data.
        systemctl: runs it with these words.
    """

    root: Path = Path("/")
    systemctl: Callable[[Sequence[str]], CommandResult] = _systemctl

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
