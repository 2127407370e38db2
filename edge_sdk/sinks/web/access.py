"""Access to the web page: allowed host names, a token, and same-origin requests only."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

from edge_sdk.errors import SinkSpecError
from edge_sdk.sinks.address import WEB_TOKEN, is_loopback, web_token

# Further host names of the page, such as that of a proxy: NAME[,NAME ...].
WEB_NAMES = "EDGECLS_WEB_NAMES"
# 16 characters of a random token are 96 bits: not guessable at any request rate.
MIN_TOKEN = 16
_COOKIE_S = 30 * 24 * 3600
_MAKE_TOKEN = (
    f"export {WEB_TOKEN}=\"$(python3 -c 'import secrets; print(secrets.token_urlsafe())')\""
)


class Access:
    """Checks whether a request may be answered.

    On loopback a token is optional. A browser that has sent the token gets a cookie derived from it,
    which stays valid after a restart.

    Args:
        host: the address the page listens at.
        token: None: no token is required.
        names: further host names of the page.

    Raises:
        SinkSpecError: an address other than loopback without a token, or a short token.
    """

    def __init__(self, host: str, token: str | None, names: Iterable[str] = ()) -> None:
        if token is None and not is_loopback(host):
            raise SinkSpecError(
                f"--web {host}: every host that can reach this address would see the camera; expected a "
                f"token in ${WEB_TOKEN}, or this machine only, as in --web 127.0.0.1:8080. Type: "
                f"{_MAKE_TOKEN}"
            )
        if token is not None and len(token) < MIN_TOKEN:
            raise SinkSpecError(
                f"the web page's token has {len(token)} characters; expected {MIN_TOKEN} or more, "
                f"chosen at random. Type: {_MAKE_TOKEN}"
            )
        own = socket.gethostname().lower()
        self._names = {"localhost", host.lower(), own, f"{own}.local"}
        self._names |= {name.strip().lower() for name in names if name.strip()}
        self._token = token
        self._session = "" if token is None else _session(token)

    @property
    def needs_token(self) -> bool:
        """Whether a token is required."""
        return self._token is not None

    def knows(self, host_header: str | None) -> bool:
        """Whether this is a host name of the page.

        With DNS rebinding, an attacker's name resolves to this machine, and pages of that name could
        read this page; an IP address cannot be rebound.
        """
        name = _host_name(host_header)
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    def admits(self, cookies: str | None, port: int) -> bool:
        """Whether the cookies prove that the browser has sent the token."""
        if self._token is None:
            return True
        try:
            morsel = SimpleCookie(cookies or "").get(_cookie_name(port))
        except CookieError:
            return False
        return morsel is not None and _same(morsel.value, self._session)

    def is_token(self, text: str) -> bool:
        """Whether this is the token, compared in constant time."""
        return self._token is not None and _same(text, self._token)

    def cookie(self, port: int, *, secure: bool) -> str:
        """The value of ``Set-Cookie`` for a browser that has sent the token; ``secure``: over TLS."""
        return (
            f"{_cookie_name(port)}={self._session}; Path=/; Max-Age={_COOKIE_S}; HttpOnly; "
            f"SameSite=Strict{'; Secure' if secure else ''}"
        )


def open_access(
    host: str,
    *,
    token_file: str | Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Access:
    """``Access`` with the token of ``token_file`` or the environment, and ``$EDGECLS_WEB_NAMES``.

    Raises:
        SinkSpecError: see ``Access``, or a file that cannot be read or that every user can read.
    """
    file = None if token_file is None else Path(token_file)
    return Access(host, web_token(file), environment.get(WEB_NAMES, "").split(","))


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether this page sent the request; browsers send the origin with every POST.

    Args:
        headers: by names in lower case.
    """
    try:
        origin = urlsplit(headers.get("origin", ""))
    except ValueError:
        return False
    host = headers.get("host", "")
    return origin.scheme in ("http", "https") and bool(host) and origin.netloc == host


def is_cross_site(headers: Mapping[str, str]) -> bool:
    """Whether the browser reports that another site's page sent the request."""
    return headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def _host_name(header: str | None) -> str | None:
    try:
        return urlsplit(f"//{header or ''}").hostname
    except ValueError:
        return None


def _cookie_name(port: int) -> str:
    return f"edgecls_{port}"  # cookies are shared by all ports of a host: each page needs its own


def _session(token: str) -> str:
    return hmac.new(token.encode(), b"edgecls web page", hashlib.sha256).hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
