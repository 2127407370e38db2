"""From what somebody asks for to a plan that will work, or to the reason why it would not."""

from __future__ import annotations

import shutil
import site
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import edge_sdk
from edge_sdk.artifact import Artifact
from edge_sdk.device.unit import (
    Plan,
    check_name,
    credential_path,
    is_hidden,
    present_groups,
    program_folders,
    visible_folders,
    why_unreadable,
)
from edge_sdk.errors import SinkSpecError, SourceSpecError, UnitAccessError
from edge_sdk.files import TEXT_BYTES, read_file
from edge_sdk.redaction import holds_secret, redact
from edge_sdk.sources.specification import STREAM_SCHEMES, parse_source
from edge_sdk.systems import require_linux
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
class Request:
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


def plan(request: Request) -> tuple[Plan, tuple[str, ...]]:
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
    planned = Plan(
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


def _camera(request: Request) -> str | None:
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


def _refuse_secrets(request: Request) -> None:
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


def _refuse_elsewhere(request: Request) -> None:
    state = Path("/var/lib") / request.name
    for path in request.written:
        if path.is_absolute() and not path.is_relative_to(state):
            raise UnitAccessError(
                f"{path}: the service may write below {state} alone; give a relative path, which lies "
                f"there, such as {path.name}"
            )


def _options(request: Request) -> tuple[str, ...]:
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


def _files(request: Request) -> Iterator[Path]:
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


def _notes(planned: Plan) -> Iterator[str]:
    for folder in planned.visible:
        if any(folder.is_relative_to(place) for place in _EMPTIED):
            yield f"{folder} is emptied when the machine starts; better a folder such as /opt/edgecls"
        elif folder.parent in (Path("/home"), Path("/")):
            yield f"the service can read all that everybody may read in {folder}"
    if "video" not in planned.groups:
        yield "there is no group video here, so no camera may be opened; install on the device itself"
