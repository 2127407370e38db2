"""The HTTP server of a running loop, for the web page and the metrics: all resources are bounded.

Connections, threads, bytes of a head, seconds of every step and requests per second have a limit, so
that no client uses more than ``Limits`` allows. Why not another server: docs/adr/0006.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from edge_sdk.errors import SinkSpecError, WriteError
from edge_sdk.sinks.http_message import (
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    RefusedError,
    Reply,
    Request,
    json_reply,
    parse_head,
    write_head,
)

_LOG = logging.getLogger("edgecls.web")

_BACKLOG = 16
_PIECE_BYTES = 65_536
_POLL_S = 0.05
# A connection that is closed to make room has normally ended within this time.
_ROOM_S = 0.5
_END_S = 0.3
# Bytes that a refused request may still send before the connection is cut.
_DRAINED_BYTES = 1 << 25


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for all clients together.

    Attributes:
        connections: at a time, each with its own thread.
        per_second: average request rate. Connections are accepted at half that rate, so that one is
            not closed to make room before its first request is answered.
        burst: requests at once, after a pause.
        head_s: from the start of a connection, or the end of a reply, to the end of the next head.
        send_s: to send a whole reply.
        drain_s: for the rest of a refused request.
    """

    connections: int
    per_second: float
    burst: int
    head_s: float = 10.0
    send_s: float = 10.0
    drain_s: float = 3.0


class RequestRate:
    """Rate limiter, first come first served: ``per_second`` on average, ``burst`` at once.

    This is the generic cell rate algorithm (ITU-T I.371).

    Args:
        per_second: slots per second.
        burst: slots at once, after a pause.
        clock: monotonic seconds, for tests.
    """

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._step_s = 1 / per_second
        self._slack_s = (burst - 1) / per_second
        self._clock = clock
        self._next_s = -math.inf
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Reserves the next slot; returns the seconds until it."""
        with self._lock:
            now_s = self._clock()
            slot_s = max(self._next_s, now_s - self._slack_s)
            self._next_s = slot_s + self._step_s
            return max(0.0, slot_s - now_s)


class Connection:
    """A client's connection, passed to the request handler.

    Args:
        connected: its socket.
        clock: monotonic seconds.
    """

    def __init__(self, connected: socket.socket, clock: Callable[[], float]) -> None:
        self._socket = connected
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clock = clock
        self._received = b""  # and not yet parsed
        self._left = 0  # unread bytes of the body
        self._expects = False
        self._until_s = math.inf
        self.trusted = self.ended = False

    def trust(self) -> None:
        """Exempts it from being closed to make room for others."""
        self.trusted = True

    def body(self, request: Request, max_bytes: int, within_s: float) -> bytes:
        """The whole body of a request.

        Raises:
            RefusedError: 411 without a length, 413 for more than ``max_bytes``, 408 where it does
                not come within ``within_s``.
        """
        if request.length is None:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing.")
        if request.length > max_bytes:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"The body is larger than {max_bytes / 1e6:g} MB.",
            )
        self.limit(within_s)
        if self._expects and self._left > len(self._received):
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray(self._received[: self._left])
        self._received = self._received[self._left :]
        self._left -= len(body)
        while self._left:
            piece = self._socket.recv(min(_PIECE_BYTES, self._left))
            if not piece:
                raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time.")
            body += piece
            self._left -= len(piece)
        self.limit(None)
        return bytes(body)

    def limit(self, seconds: float | None) -> None:
        """Sets the time after which it is cut, in place of an earlier limit; None: no limit."""
        self._until_s = math.inf if seconds is None else self._clock() + seconds

    def expired(self, now_s: float) -> bool:
        """Whether its time limit has passed."""
        return now_s >= self._until_s and not self.ended

    def head(self) -> bytes | None:
        """The lines of the next request up to the empty one; None where no more comes.

        Raises:
            RefusedError: 431 for more than ``MAX_HEAD_BYTES``, 400 for a line that ends without CR.
        """
        seen, may_skip = 0, True
        while True:
            if may_skip and self._received.startswith(b"\r\n"):
                self._received, may_skip = (
                    self._received[2:],
                    False,
                )  # one empty line: RFC 9112, 2.2
            end = self._received.find(END_OF_HEAD, max(0, seen - len(END_OF_HEAD)))
            known = self._received if end < 0 else self._received[:end]
            if any(line[-1:] != b"\r" for line in known[max(0, seen - 1) :].split(b"\n")[:-1]):
                raise RefusedError(HTTPStatus.BAD_REQUEST, "A line ends without a CR.")
            if len(known) > MAX_HEAD_BYTES:
                raise RefusedError(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    f"The header fields are larger than {MAX_HEAD_BYTES} bytes.",
                )
            if end >= 0:
                self._received = self._received[end + len(END_OF_HEAD) :]
                return known
            seen = len(self._received)
            piece = self._socket.recv(MAX_HEAD_BYTES)
            if not piece:
                return None
            self._received += piece

    def begin(self, request: Request) -> None:
        """Starts a request: its body has not been read yet."""
        self._left = request.length or 0
        self._expects = request.headers.get("expect", "").lower() == "100-continue"

    @property
    def unread(self) -> bool:
        """Whether a part of the body has not been read: the next bytes are not a request."""
        return self._left > 0

    def send(self, data: bytes) -> None:
        """Sends all of it, within the time limit."""
        self._socket.sendall(data)

    def drain(self) -> None:
        """Closes the sending side and reads on, so that the reply is not lost (RFC 9112, 9.6)."""
        self._socket.shutdown(socket.SHUT_WR)
        drained = 0
        while drained < _DRAINED_BYTES and (piece := self._socket.recv(_PIECE_BYTES)):
            drained += len(piece)

    def hang_up(self) -> None:
        """Cuts it; its thread then ends."""
        self.ended = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the socket."""
        self.ended = True
        self._socket.close()


class BoundedServer:
    """Answers HTTP requests, with one thread per connection.

    At the connection limit the oldest untrusted connection is closed; if all are trusted, the new
    connection is refused.

    Args:
        host, port: where to listen; port 0 takes a free one.
        answer: returns the reply to a request, or raises ``RefusedError``.
        limits: limits for all clients.
        option: name of the command-line option, for messages.
        headers: fields of every reply.
        clock: monotonic seconds, for tests.

    Attributes:
        host: the address it listens at.
        port: where it listens.

    Raises:
        WriteError: the port is taken, or the address is not of this machine.
        SinkSpecError: no such address.
    """

    def __init__(
        self,
        host: str,
        port: int,
        answer: Callable[[Request, Connection], Reply],
        limits: Limits,
        *,
        option: str,
        headers: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answer = answer
        self._limits = limits
        self._headers = headers or {}
        self._clock = clock
        self._requests = RequestRate(limits.per_second, limits.burst)
        self._arrivals = RequestRate(limits.per_second / 2, limits.burst)
        self._open: list[Connection] = []  # in the order they came
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._short_of_threads = False
        self._socket = _listen(host, port, option)
        self.host, self.port = self._socket.getsockname()[:2]
        self._option = option
        self._thread = threading.Thread(target=self._accept, name=f"edgecls{option}", daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._open)

    def expire(self) -> None:
        """Cuts the connections whose time limit has passed; called by the accepting thread."""
        now_s = self._clock()
        with self._changed:
            for connection in self._open:
                if connection.expired(now_s):
                    connection.hang_up()

    def stop(self) -> None:
        """Stops listening and cuts all connections; returns within half a second."""
        self._over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # the thread that accepts wakes up
        self._thread.join(_END_S)
        self._socket.close()
        with self._changed:  # handlers know that the run has ended, and send a last reply
            self._changed.wait_for(lambda: not self._open, _END_S)
            for connection in self._open:
                connection.hang_up()

    def _accept(self) -> None:
        while not self._over.is_set():
            self.expire()
            try:
                connected, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:  # out of descriptors, or the client has disconnected
                self._over.wait(_POLL_S)
                continue
            self._admit(Connection(connected, self._clock))
            self._over.wait(self._arrivals.reserve())

    def _admit(self, connection: Connection) -> None:
        """Serves the connection in a thread, within the limit."""
        connection.limit(self._limits.head_s)
        with self._changed:
            if not self._has_room():
                untrusted = [one for one in self._open if not one.trusted]
                oldest = next((one for one in untrusted if not one.ended), None)
                if oldest is not None:
                    oldest.hang_up()
                if untrusted:
                    self._changed.wait_for(self._has_room, _ROOM_S)
            if not self._has_room():
                connection.close()
                return
            self._open.append(connection)
        thread = threading.Thread(
            target=self._serve, args=(connection,), name=f"edgecls{self._option}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            self._leave(connection)
            if not self._short_of_threads:
                self._short_of_threads = True
                _LOG.warning("%s: cannot start a thread to answer (%s)", self._option, error)

    def _has_room(self) -> bool:
        return len(self._open) < self._limits.connections

    def _leave(self, connection: Connection) -> None:
        connection.close()
        with self._changed:
            self._open.remove(connection)
            self._changed.notify_all()

    def _serve(self, connection: Connection) -> None:
        try:
            while self._exchange(connection):
                pass
        except OSError:  # the client has disconnected, or was cut
            pass
        except Exception:  # noqa: BLE001  a bug: it is logged, and the loop continues
            _LOG.exception("%s: a request could not be answered", self._option)
        finally:
            self._leave(connection)

    def _exchange(self, connection: Connection) -> bool:
        """Answers one request; returns whether the connection stays open."""
        request = None
        try:
            head = connection.head()
            if head is None:
                return False
            connection.limit(None)
            self._over.wait(self._requests.reserve())
            request = parse_head(head)
            connection.begin(request)
            reply, keeps = self._answer(request, connection), request.keeps
        except RefusedError as error:
            reply, keeps = json_reply(error.status, {"error": str(error)}, error.headers), False
        keeps = keeps and not connection.unread and not self._over.is_set()
        body = b"" if request is not None and request.method == "HEAD" else reply.body
        connection.limit(self._limits.send_s)
        connection.send(write_head(reply, self._headers, keeps=keeps) + body)
        if keeps:
            connection.limit(self._limits.head_s)
        else:
            connection.limit(self._limits.drain_s)
            connection.drain()
        return keeps


def _listen(host: str, port: int, option: str) -> socket.socket:
    place = f"{option} {host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.socket(found[0][0], socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(found[0][4])
            listening.listen(_BACKLOG)
            listening.settimeout(_POLL_S)
        except BaseException:
            listening.close()
            raise
    except (OverflowError, UnicodeError) as error:
        raise SinkSpecError(
            f"{place}: is not an address to listen on; expected one as in 127.0.0.1:8080"
        ) from error
    except OSError as error:
        raise WriteError(
            f"{place}: cannot listen there ({error.strerror or error}); name an address of this "
            f"machine and a free port, as in {option} 127.0.0.1:8080"
        ) from error
    return listening
