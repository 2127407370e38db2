"""Records to a web server, one POST of JSON each, behind a spool."""

from __future__ import annotations

import contextlib
import email.utils
import functools
import http.client
import io
import logging
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_sdk.errors import DeliveryError, SinkSpecError
from edge_sdk.retry import Deadline, DeadlineReader, connect, send
from edge_sdk.sinks.address import WEBHOOK_TOKEN, Address, parse_address, version, webhook_token
from edge_sdk.sinks.identity import default_spool, device_name, service_name
from edge_sdk.sinks.sender import Delivery, Parcel
from edge_sdk.sinks.spool import DEFAULT_MAX_BYTES, Spool

_LOG = logging.getLogger("edgecls.webhook")
_PORTS = {"http": 80, "https": 443}
_EXAMPLE = "https://example.org/results"
_LONGEST_WAIT_S = 300.0
# Statuses that refuse this record for good: its form, size, type or content (RFC 9110, section 15.5).
# Any other refusal concerns the address, the token or the server's state: it can be fixed or passes,
# and the records of that time are still needed.
_FINAL = (400, 413, 415, 422)
# Only the status matters; a short body is read so that the connection can be reused.
_BODY_S, _BODY_BYTES = 1.0, 1 << 20
_NEEDS_TOKEN = (401, 403)
_NEEDS_ADDRESS = (404, 405, 410)


def open_webhook(
    url: str,
    *,
    device: str | None = None,
    service: str | None = None,
    spool_path: str | Path | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
    token_file: str | Path | None = None,
    ca_file: str | Path | None = None,
    timeout_s: float = 10.0,
) -> Spool:
    """The sink for ``--webhook URL``: records wait in a spool until the server answers 2xx.

    Each is a POST with the record's JSON and an ``Idempotency-Key``, the same when it is repeated.
    400, 413, 415 and 422 refuse the record for good: it is dropped and counted. After any other
    status, and if the server cannot be reached, it is sent again, with growing pauses (see ``Pauses``)
    or after ``Retry-After``, 300 s at most.

    Args:
        url: ``https://HOST[:PORT]/PATH``; its path and query are never printed.
        device: its name; None: ``$EDGECLS_DEVICE``, else the host's.
        service: distinguishes several runs on one device; None: see ``identity.service_name``.
        spool_path: None: ``identity.default_spool``.
        max_bytes: of the spool.
        token_file: holds the token sent as ``Authorization: Bearer``; None:
            ``$EDGECLS_WEBHOOK_TOKEN``, if set.
        ca_file: certificates to trust instead of the system's, PEM.
        timeout_s: for a whole request: connecting, sending, and the head of the response.

    Raises:
        SinkSpecError: the URL, the token or ``ca_file`` is wrong.
        SpoolInUseError, WriteError: see ``Spool``.
    """
    token = webhook_token(Path(token_file) if token_file is not None else None)
    sender = WebhookSender(url, token=token, ca_file=ca_file, timeout_s=timeout_s)
    service = service_name(service)
    path = Path(spool_path) if spool_path is not None else default_spool("webhook", url, service)
    return Spool(
        path,
        sender,
        max_bytes=max_bytes,
        name=str(sender.address),
        device=device_name(device),
        service=service,
    )


class WebhookSender:
    """Posts one parcel at a time over a persistent connection; the ``Sender`` for HTTP.

    Args:
        url: see ``open_webhook``.
        token: see ``open_webhook``.
        ca_file: see ``open_webhook``.
        timeout_s: see ``open_webhook``.
        clock: monotonic seconds, for tests.

    Attributes:
        address: of the server.

    Raises:
        SinkSpecError: the URL or ``ca_file`` is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca_file: str | Path | None = None,
        timeout_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = parse_address(
            url, _PORTS, example=_EXAMPLE, instead=f"put a token into {WEBHOOK_TOKEN}"
        )
        self._target = _target(self.address)
        if token and self.address.scheme == "http" and not self.address.is_loopback:
            _LOG.warning("%s: the token is sent unencrypted; https:// encrypts it", self.address)
        self._timeout_s, self._clock = timeout_s, clock
        self._connection = self._prepare(ca_file)
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"edgecls/{version()}",
        }
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def _prepare(self, ca_file: str | Path | None) -> _Connection:
        address = self.address
        if address.scheme == "http":
            return _Connection(address, None)
        try:
            context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        except OSError as error:
            raise SinkSpecError(
                f"{ca_file}: cannot be used as CA certificates ({error.strerror or error}); "
                "expected a PEM file that this user may read"
            ) from error
        return _Connection(address, context)

    @property
    def window(self) -> int:
        """One: a crash repeats at most the record in flight."""
        return 1

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        """Posts parcels until one of them must be retried later.

        Raises:
            DeliveryError: the first one must be.
        """
        arrived: list[int] = []
        refused: list[int] = []
        for parcel in parcels:
            try:
                taken = self._post(parcel)
            except DeliveryError:
                if not arrived and not refused:
                    raise
                break
            (arrived if taken else refused).append(parcel.seq)
        return Delivery(tuple(arrived), tuple(refused))

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _post(self, parcel: Parcel) -> bool:
        """Whether the server accepted the parcel; False: it refused it for good."""
        self._connection.deadline = Deadline.after(self._timeout_s, self._clock)
        kept = self._connection.is_kept()
        try:
            response = self._exchange(parcel)
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            # A server may close an idle connection; the parcel's key makes a second attempt harmless.
            # A timeout is not retried.
            if not kept or isinstance(error, TimeoutError):
                raise self._unreachable(error) from error
            try:
                response = self._exchange(parcel)
            except (http.client.HTTPException, OSError) as again:
                self._connection.close()
                raise self._unreachable(again) from again
        status = response.status
        if 200 <= status < 300:
            return True
        if status in _FINAL:
            return False
        advice = ""
        if status in _NEEDS_TOKEN:
            advice = f"; check the token in {WEBHOOK_TOKEN}"
        elif status in _NEEDS_ADDRESS:
            advice = "; check the address"
        elif 300 <= status < 400:
            advice = "; it redirects, use the address it redirects to"
        wait_s = _retry_after(response.headers.get("Retry-After"))
        raise DeliveryError(f"{self.address}: the server answers {status}{advice}", wait_s)

    def _exchange(self, parcel: Parcel) -> http.client.HTTPResponse:
        key = parcel.key.encode("ascii", "backslashreplace").decode()
        headers = {**self._headers, "Idempotency-Key": key}
        self._connection.request("POST", self._target, parcel.body, headers)
        response = self._connection.getresponse()
        self._connection.deadline = self._connection.deadline.sooner(_BODY_S)
        with contextlib.suppress(http.client.HTTPException, OSError):
            response.read(_BODY_BYTES)
        # An endless or slow body, or an interim response (102, 103) that http.client returns as final:
        # the bytes that follow must not be read as the response to the next record.
        if not response.isclosed() or response.status < 200:
            self._connection.close()
        return response

    def _unreachable(self, error: Exception) -> DeliveryError:
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted: {error.verify_message}"
        else:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return DeliveryError(f"{self.address}: no answer ({reason})")


class _Connection(http.client.HTTPConnection):
    """A persistent connection with a deadline for each request.

    Args:
        address: of the server.
        context: None: without TLS.

    Attributes:
        deadline: of the current request.
    """

    def __init__(self, address: Address, context: ssl.SSLContext | None) -> None:
        super().__init__(address.host, address.port)
        self.default_port = _PORTS[address.scheme]
        self.deadline = Deadline(0.0)
        self._context = context
        self.response_class = functools.partial(_Response, lambda: self.deadline)  # type: ignore[assignment]

    def is_kept(self) -> bool:
        """Whether there is an open connection that can be reused.

        A connection with unread input is closed: either the server has closed it, or it has sent a
        response without a request, which would acknowledge the next record.
        """
        if self.sock is not None:
            with selectors.DefaultSelector() as selector:
                selector.register(self.sock, selectors.EVENT_READ)
                has_input = selector.select(0)
            if has_input:
                self.close()
        return self.sock is not None

    def connect(self) -> None:
        """Called by ``request`` if there is no connection.

        Raises:
            OSError: no connection in time, or the certificate is not trusted.
        """
        connection = connect(self.host, self.port, self.deadline)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                # For the whole handshake: OpenSSL's calls share one timeout.
                connection.settimeout(self.deadline.left_s())
                connection = self._context.wrap_socket(connection, server_hostname=self.host)
        except BaseException:
            connection.close()
            raise
        self.sock = connection

    def send(self, data: Any) -> None:
        """Called by ``request``.

        Raises:
            OSError: see ``connect``, and ``deadline.send``.
        """
        if self.sock is None:
            self.connect()
        send(self.sock, data, self.deadline)


class _Response(http.client.HTTPResponse):
    def __init__(
        self, deadline: Callable[[], Deadline], connection: socket.socket, **options: Any
    ) -> None:
        super().__init__(connection, **options)
        self.fp.close()
        self.fp = io.BufferedReader(DeadlineReader(connection, deadline))


def _target(address: Address) -> str:
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    if not target.isascii() or not target.isprintable() or " " in target:
        raise SinkSpecError(
            f"{address}: the path has spaces or non-ASCII characters; expected them percent-encoded, as "
            "in %20"
        )
    return target


def _retry_after(text: str | None) -> float:
    """Seconds from a header that gives seconds or a date; 0 where it gives neither."""
    if text is None:
        return 0.0
    if text.strip().isdecimal():
        return min(float(text), _LONGEST_WAIT_S)
    try:
        wait = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        return 0.0
    return min(max(wait, 0.0), _LONGEST_WAIT_S)
