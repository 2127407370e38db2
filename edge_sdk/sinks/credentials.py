"""User names, passwords and tokens: from the environment or a file, never from a command line."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from edge_sdk.errors import SinkSpecError
from edge_sdk.files import read_text

MQTT_USERNAME, MQTT_PASSWORD = "EDGECLS_MQTT_USERNAME", "EDGECLS_MQTT_PASSWORD"
_SECRET_BYTES = 64_000
WEBHOOK_TOKEN = "EDGECLS_WEBHOOK_TOKEN"  # noqa: S105
WEB_TOKEN, WEB_TOKEN_FILE = "EDGECLS_WEB_TOKEN", "EDGECLS_WEB_TOKEN_FILE"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password; the latter is never printed."""

    username: str
    password: str | None = field(default=None, repr=False)


def mqtt_credentials(file: Path | None) -> Credentials | None:
    """Who to be at a broker: from ``file`` (name, then password, a line each), else the environment.

    Returns:
        None where nobody said, which a broker may allow.

    Raises:
        SinkSpecError: the file cannot be read, is empty or open to everyone; or a password without
            a name.
    """
    if file is not None:
        username, _, secret = read_secret(file).partition("\n")
        return Credentials(username.strip(), secret.strip() or None)
    name, password = os.environ.get(MQTT_USERNAME), os.environ.get(MQTT_PASSWORD)
    if password and not name:
        raise SinkSpecError(
            f"{MQTT_PASSWORD} is set and {MQTT_USERNAME} is not; expected both, or the name alone"
        )
    return Credentials(name, password) if name else None


def webhook_token(file: Path | None) -> str | None:
    """What follows ``Authorization: Bearer``: from ``file``, else from the environment, else None.

    Raises:
        SinkSpecError: the file cannot be read, is empty or open to everyone; or a token that no
            header can hold.
    """
    return _token(file, WEBHOOK_TOKEN)


def web_token(file: Path | None) -> str | None:
    """What a viewer of the web page must know: from ``file``, else from the environment, else None.

    The environment gives the token itself, or in ``$EDGECLS_WEB_TOKEN_FILE`` a file with it.

    Raises:
        SinkSpecError: as ``webhook_token``.
    """
    if file is None and not os.environ.get(WEB_TOKEN) and os.environ.get(WEB_TOKEN_FILE):
        file = Path(os.environ[WEB_TOKEN_FILE])
    return _token(file, WEB_TOKEN)


def _token(file: Path | None, variable: str) -> str | None:
    token = read_secret(file) if file is not None else os.environ.get(variable, "").strip()
    if not token.isascii() or not token.isprintable():
        raise SinkSpecError(
            f"the token of {file or variable} has letters that no HTTP header can hold; "
            "expected one line of plain ASCII"
        )
    return token or None


def read_secret(file: Path) -> str:
    """The text of a file that others may not read, without space at its ends.

    Raises:
        SinkSpecError: it cannot be read, is empty, or open to everyone.
    """
    try:
        text = read_text(file, most_bytes=_SECRET_BYTES).strip()
        mode = file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SinkSpecError(
            f"{file}: the credentials cannot be read ({reason}); expected a text file that this "
            "user may read"
        ) from error
    if mode & stat.S_IROTH:
        raise SinkSpecError(
            f"{file}: everyone on this machine can read these credentials; type: chmod 600 {file}"
        )
    if not text:
        raise SinkSpecError(f"{file}: is empty; expected the credentials")
    return text
