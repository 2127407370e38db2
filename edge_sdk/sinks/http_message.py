"""An HTTP/1.1 request read strictly, and the reply to it (RFC 9110, RFC 9112).

An ambiguous request is refused, never repaired: behind a proxy that reuses connections, a second
interpretation of the same bytes is another client's request (request smuggling).
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

# Browsers send all cookies of a host, whatever its port; none sends more than this.
MAX_HEAD_BYTES = 16_384
END_OF_HEAD = b"\r\n\r\n"
_LINE = re.compile(rb"([A-Za-z]{1,16}) ([!-~]+) HTTP/(\d)\.(\d)")
# RFC 9110, 5.1 and 5.5: a token, no space before the colon, no control characters in the value.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_ABSOLUTE = re.compile(r"https?://([^/?#]+)(/[^?#]*)?(\?[^#]*)?", re.IGNORECASE)
_ONCE = ("host", "content-length", "cookie", "origin", "sec-fetch-site", "expect")
_BODILESS = ("GET", "HEAD")
_LONGEST = 15  # digits; a longer number exceeds every limit, and is not parsed


class RefusedError(Exception):
    """A request that is answered with an error; the connection ends after it.

    Args:
        status: of the reply.
        reason: a sentence for the client's user.
        headers: further fields of the reply; ``_`` is replaced by ``-``.

    Attributes:
        status, headers: as given, the names of the headers with ``-``.
    """

    def __init__(self, status: HTTPStatus, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request.

    Attributes:
        method: ``GET``, ``HEAD``, ``POST``.
        path: begins with a slash, percent-encoded as it came.
        query: the part after the question mark, likewise.
        headers: by names in lower case.
        length: of the body in bytes; None where the head names none.
        keeps: whether the connection may serve another request after this one.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    length: int | None
    keeps: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a request.

    Attributes:
        status: 200 and so on.
        kind: ``Content-Type``.
        body: omitted for HEAD.
        headers: further fields.
    """

    status: HTTPStatus
    kind: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def json_reply(
    status: HTTPStatus, content: dict[str, Any], headers: Mapping[str, str] | None = None
) -> Reply:
    """A JSON object as a reply."""
    return Reply(status, "application/json", json.dumps(content).encode(), headers or {})


def parse_head(head: bytes) -> Request:
    """Parses the lines before the empty line; ``head`` does not include that.

    Raises:
        RefusedError: 400 for an ambiguous head (a folded line, a space before a colon, a control
            character, a length or a host given twice), a body with GET or HEAD, or an invalid target;
            405 for another method; 411 for ``Transfer-Encoding``; 505 for a version other than HTTP/1.
    """
    line, *lines = head.split(b"\r\n")
    begin = _LINE.fullmatch(line)
    if begin is None:
        raise _bad("The first line is not METHOD /PATH HTTP/1.1.")
    method, target = begin[1].decode(), begin[2].decode()
    if begin[3] != b"1":
        raise RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "This server supports HTTP/1.1.")
    if method not in (*_BODILESS, "POST"):
        raise RefusedError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "This server supports GET, HEAD and POST.",
            Allow="GET, HEAD, POST",
        )
    headers = _fields(lines)
    path, query = _target(target, headers)
    modern = begin[4] != b"0"
    if modern and "host" not in headers:
        raise _bad("The field Host is missing.")
    if "transfer-encoding" in headers:
        raise RefusedError(
            HTTPStatus.LENGTH_REQUIRED,
            "Content-Length is missing; Transfer-Encoding is not supported.",
        )
    length = _length(headers.get("content-length"))
    if length and method in _BODILESS:
        raise _bad(f"A {method} has no body.")
    closes = "close" in headers.get("connection", "").lower()
    return Request(method, path, query, headers, length, modern and not closes)


def write_head(
    reply: Reply, common: Mapping[str, str], *, keeps: bool, now_s: float | None = None
) -> bytes:
    """The lines before the body, the empty one included.

    Args:
        reply: the reply.
        common: fields that every reply of this server has.
        keeps: whether the connection stays open.
        now_s: seconds since 1970, for tests.
    """
    fields = {
        "Date": email.utils.formatdate(now_s, usegmt=True),
        "Server": "edgecls",
        **common,
        "Content-Type": reply.kind,
        "Content-Length": str(len(reply.body)),
        **reply.headers,
        **({} if keeps else {"Connection": "close"}),
    }
    lines = [f"HTTP/1.1 {reply.status.value} {reply.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def _fields(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise _bad("A header field is not NAME: VALUE.")
        name, value = found[1].decode().lower(), found[2].decode("latin-1").strip(" \t")
        if name in headers and name in _ONCE:
            raise _bad(f"The field {name} is given twice.")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _target(target: str, headers: dict[str, str]) -> tuple[str, str]:
    if not target.startswith("/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise _bad("The target does not begin with a slash.")
        headers["host"] = absolute[1]  # RFC 9112, 3.2.2: it takes precedence over the field
        target = (absolute[2] or "/") + (absolute[3] or "")
    path, _, query = target.partition("?")
    return path, query


def _length(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise _bad("Content-Length is not a number.")
    return int(text) if len(text) <= _LONGEST else 10**_LONGEST


def _bad(reason: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, reason)
