"""Files from the network: within limits, with progress, whole or not at all."""

from __future__ import annotations

import contextlib
import http.client
import queue
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge_sdk.errors import DownloadError
from host_tools.extras import require
from host_tools.progress import Meter

# Until an answer begins: name look-up, every address of the name, redirects.
OPENING_S = 30.0
# Between two pieces of an answer.
SILENCE_S = 30.0
# A download slower than this per minute is given up.
_LEAST_BYTES, _WITHIN_S = 100_000, 60.0
_PIECE_BYTES = 1 << 16


class DownloadRate:
    """Whether an answer comes fast enough to wait for.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since, self._bytes = clock(), 0

    def is_too_slow(self, received_bytes: int) -> bool:
        """Whether the last minute has brought less than ``_LEAST_BYTES``; called for every piece."""
        self._bytes += received_bytes
        now = self._clock()
        if now - self._since < _WITHIN_S:
            return False
        slow = self._bytes < _LEAST_BYTES
        self._since, self._bytes = now, 0
        return slow


def fetch(url: str, target: str | Path) -> None:
    """Downloads a file; nothing half-downloaded remains.

    Args:
        url: ``http`` or ``https``.
        target: where to; an older file is replaced at the end.

    Raises:
        DownloadError: no answer within ``OPENING_S``, an error, silence for ``SILENCE_S``, too slow,
            or cut short.
        OSError: the file cannot be written.
    """
    path = Path(target)
    unfinished = path.with_name(f"{path.name}.unfinished")
    print(f"downloading {url}", file=sys.stderr)  # noqa: T201
    try:
        with contextlib.closing(_opened(url)) as answer, unfinished.open("wb") as file:
            announced = answer.headers.get("Content-Length", "")
            total = int(announced) if announced.isdecimal() else None
            meter, pace = Meter(f"downloading {path.name}", total, "B"), DownloadRate()
            with contextlib.closing(meter):
                while piece := _piece(url, answer):
                    file.write(piece)
                    meter.advance(len(piece))
                    if pace.is_too_slow(len(piece)):
                        raise DownloadError(
                            f"{url}: less than {_LEAST_BYTES // 1000} kB came in {_WITHIN_S:g} s, "
                            f"{meter.done:,} bytes in all; try again when the network is faster"
                        )
            if total is not None and meter.done != total:
                raise DownloadError(
                    f"{url}: the answer ended after {meter.done:,} of {total:,} bytes; try again"
                )
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def bounded_downloads() -> Iterator[None]:
    """Sends Keras' downloads through ``fetch``, and its messages to standard error.

    Keras' own ``get_file`` decides whether, where from and where to, and checks the hash. It has no
    timeout, so a network that drops packets blocks it at every address in turn.
    """
    file_utils = require("keras.src.utils.file_utils")
    theirs = file_utils.urlretrieve

    def retrieve(url: str, filename: str, *_: Any) -> None:
        fetch(url, filename)

    file_utils.urlretrieve = retrieve
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        file_utils.urlretrieve = theirs


def _opened(url: str) -> http.client.HTTPResponse:
    """The answer, when it begins.

    A time limit of a socket holds for each address of a name alone, and none holds for its look-up;
    so a thread opens the connection, and is abandoned where it takes too long.
    """
    found: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()
    given_up = threading.Event()

    def open_it() -> None:
        try:
            answer = urllib.request.urlopen(url, timeout=SILENCE_S)  # noqa: S310  of Keras' own list
        except (OSError, ValueError, http.client.HTTPException) as error:
            found.put(error)  # for the thread that waits
            return
        if given_up.is_set():
            answer.close()
        else:
            found.put(answer)

    threading.Thread(target=open_it, name="download", daemon=True).start()
    try:
        result = found.get(timeout=OPENING_S)
    except queue.Empty:
        given_up.set()
        raise DownloadError(
            f"{url}: no answer within {OPENING_S:g} s; is this machine connected to the internet, and "
            "does it need a proxy ($HTTPS_PROXY)?"
        ) from None
    if isinstance(result, Exception):
        raise DownloadError(f"{url}: {_reason(result)}; is this machine online?") from result
    return result


def _piece(url: str, answer: http.client.HTTPResponse) -> bytes:
    try:
        # At most one read from the network: read() would wait until the whole piece is there.
        return answer.read1(_PIECE_BYTES)
    except TimeoutError as error:
        raise DownloadError(
            f"{url}: nothing came for {SILENCE_S:g} s; try again when the network is better"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: {_reason(error)}; try again") from error


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"cannot be reached ({error.reason})"
    if isinstance(error, TimeoutError):
        return f"no answer within {SILENCE_S:g} s"
    return f"cannot be read ({error or type(error).__name__})"
