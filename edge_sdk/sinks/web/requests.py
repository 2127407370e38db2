"""What the page's server answers: the page itself to everyone, all else to whom ``Access`` admits."""

from __future__ import annotations

import http.server
import io
import json
import time
from http import HTTPStatus
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from edge_sdk.sinks.web.access import WEB_NAMES, Access, is_foreign, is_same_origin
from edge_sdk.sinks.web.live import MAX_VIEWERS, Live
from edge_sdk.sinks.web.server import BoundedServer
from edge_sdk.sinks.web.uploads import MAX_BYTES, Uploads

_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# Nothing from elsewhere, nothing inline, no page around ours, no text that becomes markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# A viewer without news asks again after so long, and shows by that that it is still there.
_WAIT_S = 1.0
# A connection that says nothing, or takes nothing, for so long is given up.
_PATIENCE_S = 10.0
_MAX_TOKEN_BYTES = 4096
_CHUNK = 65536
_UPLOAD_S = 60.0
_DRAIN_S = 3.0
_MAX_NAME = 64


class Site(NamedTuple):
    """What there is to be seen, and for whom."""

    access: Access
    live: Live
    uploads: Uploads | None


def request_handler(site: Site) -> type[http.server.BaseHTTPRequestHandler]:
    """The class that ``BoundedServer`` answers with."""
    return type("PageRequest", (_Request,), {"site": site})


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class _Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "edgecls", ""
    timeout = _PATIENCE_S
    rfile: io.BufferedReader
    disable_nagle_algorithm = True
    site: Site

    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(message)s"

    def send_response(self, code: int, message: str | None = None) -> None:
        """As its base, with the headers that every answer has."""
        super().send_response(code, message)
        for name, value in _HEADERS.items():
            self.send_header(name, value)

    def do_GET(self) -> None:
        self._answer({"/live": self._live}, self._file)

    def do_HEAD(self) -> None:
        self._answer({}, self._file)

    def do_POST(self) -> None:
        self._answer({"/token": self._token, "/try": self._try}, None)

    def _answer(self, verbs: dict[str, Any], otherwise: Any) -> None:
        self._unread = -1  # nobody has looked how much there is
        path = urlsplit(self.path).path
        try:
            if not self.site.access.knows(self.headers.get("Host")):
                raise _RefusedError(
                    HTTPStatus.MISDIRECTED_REQUEST,
                    "This page is not known by that name. Open it by its address, or start it with "
                    f"{WEB_NAMES}=NAME.",
                )
            if self.command == "POST" and not is_same_origin(self.headers):
                raise _RefusedError(HTTPStatus.FORBIDDEN, "Only this page itself may send that.")
            verb = verbs.get(path, otherwise)
            if verb is None:
                raise _RefusedError(HTTPStatus.NOT_FOUND, "There is nothing here.")
            verb()
        except _RefusedError as error:
            # What came with the request has not been read; a next one could not be told from it.
            self.close_connection = True
            self._send_json(error.status, {"error": str(error)}, error.headers)
            self._drain()

    def _file(self) -> None:
        name, kind = _FILES.get(urlsplit(self.path).path, ("", ""))
        if not name:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "There is nothing here.")
        self._send(HTTPStatus.OK, kind, (files(__package__) / name).read_bytes())

    def _admit(self) -> None:
        """Raises unless this browser has shown the token."""
        if is_foreign(self.headers):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "Only this page itself may ask for that.")
        if not self.site.access.admits(self.headers.get("Cookie"), self._port):
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "This page asks for its token.")
        self._server.trust(self.connection)

    def _token(self) -> None:
        text = self._body(_MAX_TOKEN_BYTES).decode("utf-8", "replace").strip()
        if not self.site.access.is_token(text):
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "That is not the token.")
        secure = self.headers["Origin"].startswith("https:")  # a proxy in front of us speaks TLS
        cookie = self.site.access.cookie(self._port, secure=secure)
        self._send_json(HTTPStatus.OK, {}, {"Set-Cookie": cookie})

    def _live(self) -> None:
        self._admit()
        asked = parse_qs(urlsplit(self.path).query)
        viewer, region, after = (asked.get(name, [""])[0] for name in ("viewer", "region", "after"))
        if not self.site.live.admit(viewer[:_MAX_NAME]):
            raise _RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{MAX_VIEWERS} viewers are looking already; waiting for one to go.",
                Retry_After="3",
            )
        number = int(after) if after.isascii() and after.isdigit() and len(after) < 16 else 0
        view = self.site.live.wait(region, number, _WAIT_S)
        # The answer before its picture, in one reply: they always belong together.
        body = len(view.state).to_bytes(4, "big") + view.state + view.jpeg
        self._send(HTTPStatus.OK, "application/octet-stream", body)

    def _try(self) -> None:
        self._admit()
        uploads = self.site.uploads
        if uploads is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "This page takes no pictures.")
        if not uploads.allows():
            raise _RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Too many pictures at once; wait a moment.",
                Retry_After="1",
            )
        with uploads.place() as free:
            if not free:
                raise _RefusedError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "Other pictures are being looked at; try again in a moment.",
                    Retry_After="2",
                )
            reply = uploads.classify(self._body(MAX_BYTES))
        self._send_json(HTTPStatus(reply.status), reply.content)

    def _body(self, max_bytes: int) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "Its length is missing.")
        if len(length) > 15 or int(length) > max_bytes:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"More than {max_bytes / 1e6:g} MB are not taken.",
            )
        self._unread = int(length)
        body = bytearray()
        end_s = time.monotonic() + _UPLOAD_S
        while self._unread:
            chunk = self.rfile.read1(min(_CHUNK, self._unread))
            if not chunk or time.monotonic() > end_s:
                raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT, "It did not arrive in time.")
            body += chunk
            self._unread -= len(chunk)
        return bytes(body)

    def _drain(self) -> None:
        """Reads what a refused request brought, so that its sender comes to read the refusal."""
        length = self.headers.get("Content-Length", "")
        if self._unread < 0:
            self._unread = int(length) if length.isdigit() and len(length) < 16 else 0
        left, end_s = min(self._unread, MAX_BYTES), time.monotonic() + _DRAIN_S
        while left > 0 and time.monotonic() < end_s:
            chunk = self.rfile.read1(min(_CHUNK, left))
            left = left - len(chunk) if chunk else 0

    def _send_json(
        self, status: HTTPStatus, content: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        self._send(status, "application/json", json.dumps(content).encode(), headers)

    def _send(
        self, status: HTTPStatus, kind: str, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def _server(self) -> BoundedServer:
        assert isinstance(self.server, BoundedServer)
        return self.server

    @property
    def _port(self) -> int:
        return self._server.server_port

    def log_message(self, *_: Any) -> None:
        """Nothing: a line per request would fill the journal."""
