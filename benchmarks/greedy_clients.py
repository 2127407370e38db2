"""Does the loop keep its rate while eight abusive clients use the page, or the metrics?

    python -m benchmarks.greedy_clients [--seconds 4] [--turns 3] [--fps 30] [--clients 8] [--json]

``edgecls run`` with a fake camera, ``--web`` and ``--metrics``; for each kind of client the rate of
the loop is counted without them and with them, in turns, so that a busy machine disturbs both alike.
The clients run here, with the lowest priority, and each makes at most 200 attempts a second: 160
turns of at most 4 s, on loopback only. Exit code 1: a rate below 90 %, or more threads than the limits
allow. ``--fps max`` measures a loop that takes every frame it gets: there the clients' own processor
time counts as well, unless the machine has cores for them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

_GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
_PAUSE_S = 0.005
_TARGET = 0.90
Client = Callable[[int, str, threading.Event], None]


def _connected(port: int) -> socket.socket:
    time.sleep(_PAUSE_S)
    return socket.create_connection(("127.0.0.1", port), timeout=2)


def _head(path: str, *fields: str, method: str = "GET") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *fields)
    return "\r\n".join((*lines, "", "")).encode()


def _drip(port: int, text: bytes, step_s: float, over: threading.Event) -> None:
    with _connected(port) as connection:
        for i in range(len(text)):
            connection.sendall(text[i : i + 1])
            if over.wait(step_s):
                return


def idle(port: int, _: str, over: threading.Event) -> None:
    """Connects and sends nothing; connects again when the connection is closed."""
    with _connected(port) as connection:
        connection.settimeout(0.5)
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    return


def slow_head(port: int, path: str, over: threading.Event) -> None:
    """Sends a head a byte at a time (slowloris)."""
    _drip(port, _head(path, "X: " + "x" * 10_000), 0.1, over)


def endless_head(port: int, path: str, over: threading.Event) -> None:
    """Sends fields without end."""
    with _connected(port) as connection:
        connection.sendall(_head(path)[:-2])
        while not over.wait(_PAUSE_S):
            connection.sendall(b"X: " + b"x" * 1000 + b"\r\n")


def endless_body(port: int, _: str, over: threading.Event) -> None:
    """Posts a body of 10 GB."""
    origin = f"Origin: http://127.0.0.1:{port}"
    host = f"POST /try HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{origin}\r\n"
    with _connected(port) as connection:
        connection.sendall(f"{host}Content-Length: 10000000000\r\n\r\n".encode())
        while not over.wait(_PAUSE_S):
            connection.sendall(bytes(65536))


def slow_body(port: int, _: str, over: threading.Event) -> None:
    """Posts a picture a byte at a time."""
    origin = f"Origin: http://127.0.0.1:{port}"
    host = f"POST /try HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{origin}\r\n"
    _drip(port, f"{host}Content-Length: 10000\r\n\r\n".encode() + bytes(10_000), 0.01, over)


def body_with_get(port: int, path: str, _: threading.Event) -> None:
    """Puts a request into the body of a GET or a HEAD."""
    inner = _head("/smuggled")
    for method in ("GET", "HEAD"):
        with contextlib.suppress(OSError), _connected(port) as connection:
            length = f"Content-Length: {len(inner)}"
            connection.sendall(_head(path, length, method=method) + inner)
            while connection.recv(65536):
                pass


def chunked(port: int, path: str, over: threading.Event) -> None:
    """Posts chunks without end."""
    with _connected(port) as connection:
        connection.sendall(_head(path, "Transfer-Encoding: chunked", method="POST"))
        while not over.wait(_PAUSE_S):
            connection.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n")


def pipelined(port: int, path: str, over: threading.Event) -> None:
    """Sends fifty requests at once, and reads nothing."""
    with _connected(port) as connection:
        connection.sendall(_head(path) * 50)
        over.wait(2)


def half_closed(port: int, path: str, over: threading.Event) -> None:
    """Ends its own side behind the request, and reads nothing."""
    with _connected(port) as connection:
        connection.sendall(_head(path))
        connection.shutdown(socket.SHUT_WR)
        over.wait(0.5)


def flood(port: int, path: str, over: threading.Event) -> None:
    """Sends the next request upon each reply, over a persistent connection."""
    with _connected(port) as connection:
        while not over.is_set():
            connection.sendall(_head(path))
            if not connection.recv(1 << 20):
                return
            time.sleep(_PAUSE_S)


def come_and_go(port: int, path: str, _: threading.Event) -> None:
    """Connects, sends a request, and disconnects without reading."""
    with _connected(port) as connection:
        connection.sendall(_head(path))


def tabs(port: int, path: str, over: threading.Event) -> None:
    """A tab that shows the page and requests every picture."""
    viewer = f"/live?viewer={threading.get_ident()}" if path == "/" else path
    flood(port, viewer, over)


KINDS: tuple[Client, ...] = (
    *(idle, slow_head, endless_head, endless_body, slow_body, body_with_get, chunked),
    *(pipelined, half_closed, flood, come_and_go, tabs),
)


@contextlib.contextmanager
def clients(kind: Client, port: int, path: str, count: int) -> Iterator[None]:
    """Runs this many clients of a kind, again and again, until the block ends."""
    over = threading.Event()

    def greedy() -> None:
        while not over.wait(_PAUSE_S):
            with contextlib.suppress(OSError):  # refused, or cut
                kind(port, path, over)

    threads = [threading.Thread(target=greedy, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(5)


class _Loop:
    """``edgecls run``, its frames counted by a thread."""

    def __init__(self, fps: str) -> None:
        command = (
            *(sys.executable, "-c", "from host_tools.cli import main; main()", "run"),
            *(str(_GOLDEN / "digits_int8.tflite"), "--json", "--web", "0", "--metrics", "0"),
            *("--camera", f"fake:{_GOLDEN / 'digits'}?fps={fps}&size=640x480"),
        )
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EDGECLS_WEB")}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.frames = 0
        self._output = self._process.stdout
        threading.Thread(target=self._count, daemon=True).start()
        self.pid = self._process.pid
        line = next(text for text in self._process.stderr if text.startswith(b"web page: "))
        found = re.search(rb":(\d+)/", line)
        assert found is not None
        while self.frames < 10:
            time.sleep(0.05)
        ours = _listening(self.pid)
        self.ports = {"page": int(found[1]), "metrics": (ours - {int(found[1])}).pop()}

    def _count(self) -> None:
        for line in self._output:
            self.frames += b'"type": "frame"' in line

    def rates(self, seconds: float) -> tuple[float, float]:
        """Frames a second from now on, and the share of a core that they and the clients cost."""
        began_s, frames, cpu_s = time.monotonic(), self.frames, self.cpu_s()
        time.sleep(seconds)
        passed_s = time.monotonic() - began_s
        return (self.frames - frames) / passed_s, (self.cpu_s() - cpu_s) / passed_s

    def cpu_s(self) -> float:
        """Seconds of processor time so far, all threads together."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def usage(self) -> tuple[int, float]:
        """Threads, and MB of memory."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        return int(fields["Threads"]), int(fields["VmRSS"].split()[0]) / 1024

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _listening(pid: int) -> set[int]:
    """Ports at which a process listens, from /proc."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = (line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:])
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--fps", default="30")
    parser.add_argument("--clients", type=int, default=8, choices=range(1, 201), metavar="1..200")
    parser.add_argument("--kind", action="append", choices=[kind.__name__ for kind in KINDS])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    missed = False
    loop = _Loop(arguments.fps)
    os.nice(19)  # the clients alone
    threads_alone, _ = loop.usage()
    try:
        for target, path in (("page", "/"), ("metrics", "/metrics")):
            for kind in KINDS:
                if arguments.kind and kind.__name__ not in arguments.kind:
                    continue
                alone, beside, threads, memory = [], [], 0, 0.0
                for _ in range(arguments.turns):
                    alone.append(loop.rates(arguments.seconds))
                    with clients(kind, loop.ports[target], path, arguments.clients):
                        time.sleep(0.5)
                        beside.append(loop.rates(arguments.seconds))
                        now_threads, now_mb = loop.usage()
                        threads, memory = max(threads, now_threads), max(memory, now_mb)
                alone.append(loop.rates(arguments.seconds))
                # A turn with clients lies between two without.
                around = [(a[0] + b[0]) / 2 for a, b in pairwise(alone)]
                ratio = statistics.median(
                    here[0] / there for here, there in zip(beside, around, strict=True)
                )
                missed |= ratio < _TARGET or threads > threads_alone + 40
                row = {
                    "target": target,
                    "clients": kind.__name__,
                    "fps_alone": round(statistics.median(rate for rate, _ in alone), 1),
                    "fps_beside": round(statistics.median(rate for rate, _ in beside), 1),
                    "ratio": round(ratio, 3),
                    "cores_alone": round(statistics.median(cpu for _, cpu in alone), 3),
                    "cores_beside": round(statistics.median(cpu for _, cpu in beside), 3),
                    "threads": threads,
                    "rss_mb": round(memory, 1),
                }
                print(json.dumps(row) if arguments.json else row, flush=True)
    finally:
        loop.close()
    sys.exit(missed)


if __name__ == "__main__":
    main()
