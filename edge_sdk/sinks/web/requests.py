"""Request handlers of the web page: its files for everyone, the rest for clients with access."""

from __future__ import annotations

import functools
from http import HTTPStatus
from importlib.resources import files
from typing import NamedTuple
from urllib.parse import parse_qs

from edge_sdk.sinks.http_message import RefusedError, Reply, Request, json_reply
from edge_sdk.sinks.http_server import Connection, Limits
from edge_sdk.sinks.web.access import WEB_NAMES, Access, is_cross_site, is_same_origin
from edge_sdk.sinks.web.live import MAX_FPS, MAX_VIEWERS, Live
from edge_sdk.sinks.web.uploads import MAX_BYTES, Uploads

_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# No resources of other origins, no inline code, no framing, no text that becomes markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Eight viewers with one or two connections each, and a few more that connect; a viewer sends a request
# for every picture, and a new browser four for the files.
MAX_CONNECTIONS = 32
LIMITS = Limits(MAX_CONNECTIONS, per_second=MAX_VIEWERS * MAX_FPS + 20, burst=64)
# Long-poll timeout: a viewer sends a new request after this, which shows that it is still there.
_WAIT_S = 1.0
_MAX_TOKEN_BYTES, _TOKEN_S = 4096, 10.0
_UPLOAD_S = 60.0
_MAX_NAME = 64


class Site(NamedTuple):
    """The pages of the server.

    Attributes:
        access: checks requests.
        live: the live view.
        uploads: classifies viewers' pictures; None: uploads are off.
        port: where the page listens.
    """

    access: Access
    live: Live
    uploads: Uploads | None
    port: int

    def answer(self, request: Request, connection: Connection) -> Reply:
        """The reply to a request.

        Raises:
            RefusedError: the client has no access, or the path does not exist.
        """
        if not self.access.knows(request.headers.get("host")):
            raise RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This host name is not allowed. Open the page by its IP address, or start it with "
                f"{WEB_NAMES}=NAME.",
            )
        if request.method == "POST" and not is_same_origin(request.headers):
            raise RefusedError(HTTPStatus.FORBIDDEN, "Only this page itself may send this request.")
        match request.method, request.path:
            case "GET", "/live":
                return self._view(request, connection)
            case "POST", "/token":
                return self._token(request, connection)
            case "POST", "/try":
                return self._try(request, connection)
            case "GET" | "HEAD", path if path in _FILES:
                return _file(path)
        raise RefusedError(HTTPStatus.NOT_FOUND, "Not found.")

    def _admit(self, request: Request, connection: Connection) -> None:
        """Raises RefusedError unless this browser has sent the token."""
        if is_cross_site(request.headers):
            raise RefusedError(HTTPStatus.FORBIDDEN, "Only this page itself may send this request.")
        if not self.access.admits(request.headers.get("cookie"), self.port):
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "A token is required.")
        connection.trust()

    def _token(self, request: Request, connection: Connection) -> Reply:
        body = connection.body(request, _MAX_TOKEN_BYTES, _TOKEN_S)
        if not self.access.is_token(body.decode("utf-8", "replace").strip()):
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "The token is wrong.")
        # https: a proxy in front terminates TLS.
        secure = request.headers["origin"].startswith("https:")
        cookie = self.access.cookie(self.port, secure=secure)
        return json_reply(HTTPStatus.OK, {}, {"Set-Cookie": cookie})

    def _view(self, request: Request, connection: Connection) -> Reply:
        self._admit(request, connection)
        query = parse_qs(request.query)
        viewer, region, after = (query.get(name, [""])[0] for name in ("viewer", "region", "after"))
        if not self.live.admit(viewer[:_MAX_NAME]):
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"The limit of {MAX_VIEWERS} viewers is reached; waiting for one to leave.",
                Retry_After="3",
            )
        number = int(after) if after.isascii() and after.isdigit() and len(after) < 16 else 0
        view = self.live.wait(region, number, _WAIT_S)
        # Answer and picture in one reply, so that they always match.
        body = len(view.state).to_bytes(4, "big") + view.state + view.jpeg
        return Reply(HTTPStatus.OK, "application/octet-stream", body)

    def _try(self, request: Request, connection: Connection) -> Reply:
        self._admit(request, connection)
        if self.uploads is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "Uploads are off.")
        if not self.uploads.allows():
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Too many pictures; try again in a moment.",
                Retry_After="1",
            )
        with self.uploads.place() as free:
            if not free:
                raise RefusedError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "Other pictures are being classified; try again in a moment.",
                    Retry_After="2",
                )
            reply = self.uploads.classify(connection.body(request, MAX_BYTES, _UPLOAD_S))
        return json_reply(HTTPStatus(reply.status), reply.content)


@functools.cache
def _file(path: str) -> Reply:
    name, kind = _FILES[path]
    return Reply(HTTPStatus.OK, kind, (files(__package__) / name).read_bytes())
