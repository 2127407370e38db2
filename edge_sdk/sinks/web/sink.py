"""``--web``: the live view, and classification of uploaded pictures, as a sink."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from edge_sdk.errors import WriteError
from edge_sdk.loop.statistics import LiveStatistics
from edge_sdk.sinks.address import WEB_TOKEN, host_and_port, is_loopback, version
from edge_sdk.sinks.http_message import Reply, Request
from edge_sdk.sinks.http_server import BoundedServer, Connection
from edge_sdk.sinks.web.access import Access, open_access
from edge_sdk.sinks.web.live import Live
from edge_sdk.sinks.web.requests import HEADERS, LIMITS, Site
from edge_sdk.sinks.web.uploads import Uploads
from edge_sdk.types import Frame, FrameRecord, Record

_LOG = logging.getLogger("edgecls.web")
_EXAMPLE = "127.0.0.1:8080"
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  # to be compared with


def open_web(
    place: str,
    statistics: LiveStatistics,
    *,
    uploads: Uploads | None = None,
    token_file: str | Path | None = None,
) -> WebPage:
    """The sink for ``--web [HOST:]PORT``; a port alone listens on this machine only.

    Args:
        place: where to listen.
        statistics: those passed to ``run``.
        uploads: classifies viewers' pictures; None: uploads are off.
        token_file: a file with the token; else ``$EDGECLS_WEB_TOKEN`` or ``$EDGECLS_WEB_TOKEN_FILE``.

    Raises:
        SinkSpecError: an invalid address, one other than loopback without a token, or an invalid
            token.
        WriteError: the port is taken, or the address is not of this machine.
    """
    host, port = host_and_port(place, example=_EXAMPLE)
    access = open_access(host, token_file=token_file)
    return WebPage(host, port, statistics, access, uploads)


class WebPage:
    """Shows the loop to viewers: the ``FrameSink`` that listens for browsers.

    Its threads encode pictures and answer viewers; the loop only copies frames.

    Args:
        host, port: where to listen; port 0 takes a free one.
        statistics: of the loop.
        access: checks requests.
        uploads: classifies viewers' pictures, closed with the page; None: uploads are off.

    Attributes:
        url: the URL for a browser.

    Raises:
        SinkSpecError, WriteError: see ``BoundedServer``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        statistics: LiveStatistics,
        access: Access,
        uploads: Uploads | None = None,
    ) -> None:
        about = {
            "device": socket.gethostname(),
            "version": version(),
            "uploads": None if uploads is None else uploads.limits,
        }
        self._uploads = uploads
        self._live = Live(statistics, about)
        self._closed = False
        try:
            self._server = BoundedServer(
                host, port, self._answer, LIMITS, option="--web", headers=HEADERS
            )
        except BaseException:
            self._live.close()
            raise
        self._site = Site(access, self._live, uploads, self._server.port)
        self._server.start()
        shown = socket.gethostname() if host in _ANYWHERE else host
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{self._server.port}/"
        self._needs_token = access.needs_token
        if not is_loopback(host):
            _LOG.warning(
                "%s: pictures and the token are sent unencrypted; on a shared network use a proxy "
                "with TLS, or listen on loopback and use ssh -L",
                self.url,
            )

    def __str__(self) -> str:
        return self.url + (f" (requires the token of ${WEB_TOKEN})" if self._needs_token else "")

    def _answer(self, request: Request, connection: Connection) -> Reply:
        return self._site.answer(request, connection)

    def write(self, record: Record) -> None:
        """Passes one record to the live view.

        Raises:
            WriteError: the sink is closed.
        """
        if self._closed:
            raise WriteError("this sink is closed")
        self._live.note(record)

    def see(self, frame: Frame, record: FrameRecord) -> None:
        """Keeps a copy of the frame for viewers."""
        self._live.see(frame, record)

    def close(self) -> None:
        """Informs viewers that the run has ended, and stops listening; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._live.close()
        self._server.stop()
        if self._uploads is not None:
            self._uploads.close()
