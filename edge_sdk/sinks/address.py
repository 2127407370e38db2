"""URLs of receivers: taken apart, and printed without their secrets."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from edge_sdk.errors import SinkSpecError
from edge_sdk.redaction import redact_text


@dataclass(frozen=True, slots=True)
class Address:
    """Where a receiver is; ``str()`` gives scheme, host and port, never a path that may hold a key.

    Attributes:
        scheme: in lower case.
        host: a name or an IP address.
        port: 1..65535.
        path: with its leading slash, not unquoted; "" where there is none.
        query: behind the question mark, as it stands.
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
    """Takes a URL apart.

    Args:
        text: what somebody typed.
        ports: the schemes that are known, and the port each uses unless told.
        example: a URL that would do.
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
    """What stands behind the question mark, as ``{name: value}``.

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
            f"{redact_text(text)!r} is no place to listen at; expected HOST:PORT or PORT, as in {example}"
        )
    return name, int(after)
