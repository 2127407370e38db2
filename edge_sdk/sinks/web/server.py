"""A small HTTP server that nobody can fill up: bounded connections, each with a deadline."""

from __future__ import annotations

import contextlib
import http.server
import logging
import socket
import socketserver
import sys
import threading
import time
from typing import Any

from edge_sdk.errors import SinkSpecError, WriteError

_LOG = logging.getLogger("edgecls.web")

# Eight viewers with a connection or two each, and some who come and go.
MAX_CONNECTIONS = 32
_POLL_S = 0.05
_END_S = 0.3


class BoundedServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """``ThreadingHTTPServer`` with at most ``MAX_CONNECTIONS`` threads.

    Where all are taken, the oldest connection that has not shown that it may be here makes room;
    where each has, the newcomer is turned away.

    Args:
        host, port: where to listen; port 0 takes a free one.
        handler: what answers a request; calls ``trust`` for a connection that may stay.

    Raises:
        WriteError: the port is taken, or the address is not of this machine.
        SinkSpecError: no such address.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(
        self, host: str, port: int, handler: type[http.server.BaseHTTPRequestHandler]
    ) -> None:
        self._open: dict[socket.socket, bool] = {}  # in the order they came; True: trusted
        self._guard = threading.Lock()
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self.address_family = found[0][0]
            super().__init__((host, port), handler)
        except (OverflowError, UnicodeError) as error:
            raise SinkSpecError(
                f"--web {host}:{port}: is no place to listen at; expected one as in 127.0.0.1:8080"
            ) from error
        except OSError as error:
            raise WriteError(
                f"--web {host}:{port}: cannot listen there ({error.strerror or error}); name an "
                "address of this machine and a free port, as in --web 127.0.0.1:8080"
            ) from error
        self._thread = threading.Thread(
            target=self.serve_forever, args=(_POLL_S,), name="edgecls-web", daemon=True
        )

    def server_bind(self) -> None:
        """As its base, without asking the network for the name of this machine."""
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def trust(self, connection: socket.socket) -> None:
        """This connection does not make room for others."""
        with self._guard:
            if connection in self._open:
                self._open[connection] = True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers in a thread, if there is one left."""
        with self._guard:
            if len(self._open) >= MAX_CONNECTIONS:
                oldest = next((c for c, trusted in self._open.items() if not trusted), None)
                if oldest is not None:
                    del self._open[oldest]
                    _hang_up(oldest)
            full = len(self._open) >= MAX_CONNECTIONS
            if not full:
                self._open[request] = False
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The connection is done with."""
        with self._guard:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        """A viewer that goes away is nothing; anything else is a bug, and the loop goes on."""
        error = sys.exception()
        if not isinstance(error, OSError | ValueError) or isinstance(error, UnicodeError):
            _LOG.exception("the web page failed to answer")

    def stop(self) -> None:
        """Stops listening and hangs up on everyone; returns within half a second."""
        self.shutdown()
        self.server_close()
        end_s = time.monotonic() + _END_S
        while self._open and time.monotonic() < end_s:  # they have been told, and say good-bye
            time.sleep(0.01)
        with self._guard:
            for connection in self._open:
                _hang_up(connection)
        self._thread.join(_END_S)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
