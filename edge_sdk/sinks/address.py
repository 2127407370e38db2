"""Addresses of receivers: URLs, the credentials for them, and how they are shown without secrets."""

from __future__ import annotations

import functools
import importlib.metadata
import ipaddress
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from edge_sdk.errors import SinkSpecError
from edge_sdk.files import read_text
from edge_sdk.redaction import redact_text


@dataclass(frozen=True, slots=True)
class Address:
    """Where a receiver is; ``str()`` gives scheme, host and port, never a path that may hold a key.

    Attributes:
        scheme: in lower case.
        host: a name or an IP address.
        port: 1..65535.
        path: with its leading slash, not unquoted; "" where there is none.
        query: the part after the question mark, undecoded.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine alone, for what listens there and for what is sent there.

    A name other than ``localhost`` is not, whatever it begins with: it belongs to its DNS server.

    Args:
        host: a name, an IPv4 address or an IPv6 address without brackets.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def parse_address(text: str, ports: dict[str, int], *, example: str, instead: str) -> Address:
    """Parses a URL.

    Args:
        text: the URL as typed.
        ports: the known schemes, and the default port of each.
        example: a valid URL.
        instead: what to type in place of a password in the URL.

    Raises:
        SinkSpecError: another scheme, no host, a port that is none, or a user or password in it.
            The message shows no more of the text than its scheme and host.
    """
    try:
        parts = urlsplit(text)
        host, port, secret = parts.hostname, parts.port, "@" in parts.netloc
    except ValueError as error:  # urllib names what is wrong, but may quote a password
        advice = f"; if there is a password in it: {instead}" if "@" in text else ""
        raise SinkSpecError(
            f"an address that cannot be read ({type(error).__name__}: its port or brackets); "
            f"expected something like {example}{advice}"
        ) from None
    if not secret and port is not None and "@" in text:
        # user:1/23@host reads as a host "user" with port 1: a password may hold any of these.
        raise SinkSpecError(
            f"{parts.scheme}://…@…: an @ behind a /, ? or # after what looks like a port; if there is "
            f"a password in the address, {instead}; if the @ belongs to the path, write it as %40"
        )
    scheme = parts.scheme.lower()
    if scheme not in ports:
        raise SinkSpecError(
            f"an address that begins with {scheme or 'no scheme'}; expected "
            f"{' or '.join(f'{known}://' for known in ports)}, as in {example}"
        )
    if secret:
        raise SinkSpecError(
            f"{scheme}://…@{host}: a user or a password in an address can be read by everyone on this "
            f"machine, in the list of processes; {instead}"
        )
    if not host or port == 0:
        raise SinkSpecError(
            f"{scheme}://: an address without a host or with port 0; expected something like {example}"
        )
    return Address(scheme, host, port or ports[scheme], parts.path, parts.query)


def options(address: Address, known: tuple[str, ...]) -> dict[str, str]:
    """The query of the URL, as ``{name: value}``.

    Raises:
        SinkSpecError: a name that is not known, or one twice.
    """
    found: dict[str, str] = {}
    for name, value in parse_qsl(address.query, keep_blank_values=True):
        if name not in known or name in found:
            raise SinkSpecError(
                f"{address}: the option {name!r} is {'unknown' if name not in known else 'given twice'}"
                f"; expected {', '.join(known)}, each once"
            )
        found[name] = value
    return found


def plain_path(address: Address) -> str:
    """The path without slashes at its ends, unquoted."""
    return unquote(address.path).strip("/")


def host_and_port(text: str, *, host: str = "127.0.0.1", example: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[IPV6]:PORT`` or ``PORT`` alone, which means this machine only.

    Raises:
        SinkSpecError: it is none of these.
    """
    before, colon, after = text.rpartition(":")
    name = before.strip("[]") if colon else host
    if not name or not after.isascii() or not after.isdigit() or int(after) > 65535:
        raise SinkSpecError(
            f"{redact_text(text)!r} is not an address to listen on; expected HOST:PORT or PORT, as in "
            f"{example}"
        )
    return name, int(after)


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
    """Credentials for a broker: from ``file`` (name, then password, one per line), else the environment.

    Returns:
        None if neither has any, which a broker may allow.

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
    """The token of the web page: from ``file``, else from the environment, else None.

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
            f"the token of {file or variable} has characters that no HTTP header can hold; "
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


@functools.cache
def version() -> str:
    """Version of the installed package; sinks are a layer below ``edge_sdk`` and cannot import it."""
    try:
        return importlib.metadata.version("edgecls")
    except importlib.metadata.PackageNotFoundError:  # copied, not installed
        return "unknown"
