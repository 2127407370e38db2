"""Real receivers for the sinks: MQTT brokers and a web server, on loopback."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """A port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], bool], seconds: float = 60.0, what: str = "it") -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.01)


@dataclass
class Broker:
    """Mosquitto, or amqtt in Python, that can be stopped and started again.

    Attributes:
        password: None lets everybody in, else the user is "camera".
        certificate: a PEM file of key and certificates; None: no TLS.
    """

    kind: str
    folder: Path
    password: str | None = None
    certificate: Path | None = None
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it listens."""
        command = self._mosquitto() if self.kind == "mosquitto" else self._amqtt()
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        until(self._listens, what="the broker's start")

    def stop(self) -> None:
        """As an administrator does; Mosquitto keeps what it has not delivered."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "broker.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def _mosquitto(self) -> list[str]:
        lines = [
            *(f"listener {self.port} 127.0.0.1", "persistence true", "max_queued_messages 0"),
            *(f"persistence_location {self.folder}/", "max_inflight_messages 0", "user root"),
        ]
        if self.password is None:
            lines.append("allow_anonymous true")
        else:
            assert MOSQUITTO is not None
            users = self.folder / "users"
            program = Path(MOSQUITTO).with_name("mosquitto_passwd")
            program = program if program.exists() else Path("/usr/bin/mosquitto_passwd")
            subprocess.run(
                [program, "-c", "-b", users, "camera", self.password], check=True, timeout=30
            )
            lines += ["allow_anonymous false", f"password_file {users}"]
        if self.certificate is not None:
            lines += [f"certfile {self.certificate}", f"keyfile {self.certificate}"]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        return [str(MOSQUITTO), "-c", str(self.folder / "mosquitto.conf")]

    def _amqtt(self) -> list[str]:
        listener: dict[str, Any] = {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}
        if self.certificate is not None:
            name = str(self.certificate)
            listener |= {"ssl": True, "certfile": name, "keyfile": name}
        if self.password is None:
            door = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        else:
            import pwdlib
            from pwdlib.hashers.argon2 import Argon2Hasher

            users = self.folder / "users"
            hashed = pwdlib.PasswordHash([Argon2Hasher()]).hash(self.password)
            users.write_text(f"camera:{hashed}\n")
            door = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(users)}}
        # YAML takes JSON.
        config = {"listeners": {"default": listener}, "plugins": door}
        (self.folder / "amqtt.yaml").write_text(json.dumps(config))
        module = "amqtt.scripts.broker_script"
        return [sys.executable, "-m", module, "-c", str(self.folder / "amqtt.yaml")]


class Subscriber:
    """Listens to everything at a broker, and comes back when it was away.

    Attributes:
        messages: topic, payload and whether it had been retained, in order.
    """

    def __init__(self, broker: Broker, *, will_stay: bool = False) -> None:
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages: list[tuple[str, bytes, bool]] = []
        self._ready = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"test-{free_port()}",
            clean_session=not will_stay,
        )
        self._client.reconnect_delay_set(1, 1)
        if broker.password is not None:
            self._client.username_pw_set("camera", broker.password)
        self._client.on_connect = lambda c, *_: c.subscribe("#", 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _c, _u, m: self.messages.append(
            (m.topic, m.payload, m.retain)
        )
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._ready.wait(20)

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        """The JSON objects of one kind."""
        return [json.loads(b) for t, b, _ in list(self.messages) if t.endswith(f"/{kind}")]

    def close(self) -> None:
        """Hangs up."""
        self._client.disconnect()
        self._client.loop_stop()


class WebServer:
    """Takes POSTs; ``answers`` (a status, or a function of the handler) are used up one by one.

    Attributes:
        requests: headers and JSON bodies, in order, whatever was answered.
    """

    def __init__(self, *answers: int | Callable[[Any], None], port: int = 0) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.connections = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(({**dict(self.headers), ":path": self.path}, body))
                answer = server.answers.pop(0) if server.answers else 204
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """In silence."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def encrypt(self, context: Any) -> None:
        """Speaks TLS; to be called before it starts."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def bodies(self) -> list[dict[str, Any]]:
        """What came, in order."""
        return [body for _, body in list(self.requests)]


class DripServer:
    """Takes connections, waits for a request, and answers with pieces, one after every ``step_s``.

    Attributes:
        connections: how many there were.
        port: where it listens.
    """

    def __init__(self, pieces: Sequence[bytes], step_s: float) -> None:
        self.connections = 0
        self._pieces, self._step_s = pieces, step_s
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.port = int(self._socket.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._socket.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._answer, args=(connection,)))
                self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(20)
            while connection.recv(65536):
                for piece in self._pieces:
                    if self._over.wait(self._step_s):
                        return
                    connection.sendall(piece)

    def __enter__(self) -> DripServer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)
        self._socket.close()


def drops(text: bytes) -> list[bytes]:
    """The bytes of a text, each alone."""
    return [text[i : i + 1] for i in range(len(text))]


# Writes records until it is killed. Its progress file lists the records the sink has taken.
_SENDING = """
import os, sys, time
from edge_sdk.types import ErrorRecord
opener, url, spool, progress, start, stop, pause = sys.argv[1:]
if opener == "mqtt":
    from edge_sdk.sinks.mqtt import open_mqtt as open_sink
else:
    from edge_sdk.sinks.webhook import open_webhook as open_sink
sink = open_sink(url, device="door", spool_path=spool)
log = os.open(progress, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for i in range(int(start), int(stop)):
    sink.write(ErrorRecord(str(i), "x"))
    os.write(log, b"%d\\n" % i)
    time.sleep(float(pause))
while sink.statistics.depth:
    time.sleep(0.01)
sink.close()
"""


class SendingProcess:
    """A process that writes numbered records, to be killed."""

    def __init__(
        self, opener: str, url: str, folder: Path, start: int, stop: int, pause_s: float
    ) -> None:
        self._progress = folder / "progress"
        spool = folder / "results.spool"
        arguments = [opener, url, str(spool), str(self._progress), str(start), str(stop)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SENDING, *arguments, str(pause_s)],
            cwd=Path(__file__).parents[2],
        )

    def written(self) -> list[int]:
        """The records it and those before it have handed to the sink for sure."""
        if not self._progress.exists():
            return []
        return [int(line) for line in self._progress.read_text().split("\n")[:-1]]

    def kill(self) -> int:
        """``kill -9``; the number of the first record that it surely did not write."""
        self.process.kill()
        self.process.wait()
        return max(self.written(), default=-2) + 2


@contextlib.contextmanager
def sending(process: SendingProcess) -> Iterator[SendingProcess]:
    """Ends the process, whatever a test finds."""
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()
