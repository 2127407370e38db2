"""Who may see the page: names it is called by, a token, and requests from the page alone."""

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

# Other names by which the page is reached, such as that of a proxy: NAME[,NAME ...].
WEB_NAMES = "EDGECLS_WEB_NAMES"
# 16 letters of a random token are 96 bits: nobody guesses them, however often they may try.
MIN_TOKEN = 16
_COOKIE_S = 30 * 24 * 3600
_MAKE_ONE = f"export {WEB_TOKEN}=\"$(python3 -c 'import secrets; print(secrets.token_urlsafe())')\""


class Access:
    """What a request needs to be answered.

    On loopback the page asks for no token unless there is one. A browser that has shown the token
    gets a cookie made from it, which stays good when the page is started again.

    Args:
        host: the address the page listens at.
        token: None: nobody is asked for one.
        names: other host names that the page is called by.

    Raises:
        SinkSpecError: another address than loopback without a token, or a short one.
    """

    def __init__(self, host: str, token: str | None, names: Iterable[str] = ()) -> None:
        if token is None and not is_loopback(host):
            raise SinkSpecError(
                f"--web {host}: whoever reaches this address would see the camera; expected a token "
                f"in ${WEB_TOKEN}, or this machine alone, as in --web 127.0.0.1:8080. Type: {_MAKE_ONE}"
            )
        if token is not None and len(token) < MIN_TOKEN:
            raise SinkSpecError(
                f"the web page's token has {len(token)} characters; expected {MIN_TOKEN} or more, "
                f"which nobody can guess. Type: {_MAKE_ONE}"
            )
        own = socket.gethostname().lower()
        self._names = {"localhost", host.lower(), own, f"{own}.local"}
        self._names |= {name.strip().lower() for name in names if name.strip()}
        self._token = token
        self._session = "" if token is None else _session(token)

    @property
    def asks(self) -> bool:
        """Whether a token is needed."""
        return self._token is not None

    def knows(self, host_header: str | None) -> bool:
        """Whether the page is called by this name.

        A name that belongs to somebody else and leads here (DNS rebinding) would let that somebody's
        pages read ours; an address cannot be somebody else's.
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
        """Whether the cookies say that the token has been shown."""
        if self._token is None:
            return True
        try:
            morsel = SimpleCookie(cookies or "").get(_cookie_name(port))
        except CookieError:
            return False
        return morsel is not None and _same(morsel.value, self._session)

    def is_token(self, text: str) -> bool:
        """Whether this is the token; how long it takes does not tell how much of it is right."""
        return self._token is not None and _same(text, self._token)

    def cookie(self, port: int, *, secure: bool) -> str:
        """The value of ``Set-Cookie`` for who has shown the token; ``secure``: over TLS."""
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
        SinkSpecError: see ``Access``, or a file that cannot be read or that everyone can.
    """
    file = None if token_file is None else Path(token_file)
    return Access(host, web_token(file), environment.get(WEB_NAMES, "").split(","))


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a page of ours sent this request; browsers name the origin of every POST.

    Args:
        headers: by names in lower case.
    """
    try:
        origin = urlsplit(headers.get("origin", ""))
    except ValueError:
        return False
    host = headers.get("host", "")
    return origin.scheme in ("http", "https") and bool(host) and origin.netloc == host


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that another site's page wants this."""
    return headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def _host_name(header: str | None) -> str | None:
    try:
        return urlsplit(f"//{header or ''}").hostname
    except ValueError:
        return None


def _cookie_name(port: int) -> str:
    return f"edgecls_{port}"  # cookies know no ports: two pages on one machine must not share one


def _session(token: str) -> str:
    return hmac.new(token.encode(), b"edgecls web page", hashlib.sha256).hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
