"""Downloads: bounded however the network fails, whole or not at all, with progress for the user."""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import DatasetError, DownloadError, RecipeError
from host_tools import download
from host_tools.download import DownloadRate, fetch

pytest.importorskip("tensorflow", reason="the extra [host] is not installed")

_CONTENT = bytes(range(256)) * 1000


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine's proxy would answer is another matter."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")


@contextlib.contextmanager
def _listening(backlog: int) -> Iterator[tuple[socket.socket, str]]:
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        yield server, f"http://127.0.0.1:{server.getsockname()[1]}/file.h5"


@pytest.fixture
def silent() -> Iterator[str]:
    """Accepts a connection and never answers."""
    with _listening(8) as (_, url):
        yield url  # the kernel accepts for it


@pytest.fixture
def full() -> Iterator[str]:
    """Listens, but the queue of waiting connections is full: a new one is not even refused."""
    with _listening(0) as (server, url), contextlib.ExitStack() as held:
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield url


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Any], None]], str]]:
    """Starts a server whose answers a function writes."""
    with contextlib.ExitStack() as servers:

        def start(answer: Callable[[Any], None]) -> str:
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    with contextlib.suppress(OSError):
                        answer(self)

                def log_message(self, *_: object) -> None:
                    pass

            server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
            server.daemon_threads = True
            servers.callback(server.server_close)
            servers.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            return f"http://127.0.0.1:{server.server_address[1]}/"

        yield start


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(download, "OPENING_S", 0.5)
    monkeypatch.setattr(download, "SILENCE_S", 5.0)


def _whole(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(_CONTENT)))
    handler.end_headers()
    handler.wfile.write(_CONTENT)


def test_a_file_arrives_whole_and_what_is_done_is_said(
    serve: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve(_whole) + "weights.h5"
    fetch(url, tmp_path / "weights.h5")
    assert (tmp_path / "weights.h5").read_bytes() == _CONTENT
    assert list(tmp_path.iterdir()) == [tmp_path / "weights.h5"]
    said = capsys.readouterr()
    assert said.err == f"downloading {url}\n"
    assert said.out == ""


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("network", ["silent", "full"])
def test_a_network_that_swallows_everything_is_given_up(
    network: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue(network)
    with pytest.raises(DownloadError, match=r"file\.h5: no answer within 0\.5 s; is this machine"):
        fetch(url, tmp_path / "file.h5")
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_falls_silent_is_given_up(
    serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SILENCE_S", 0.5)
    ended = threading.Event()

    def half(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(_CONTENT)))
        handler.end_headers()
        handler.wfile.write(_CONTENT[:1000])
        ended.wait(30)

    (tmp_path / "file.h5").write_bytes(b"older")
    with pytest.raises(DownloadError, match=r"nothing came for 0\.5 s"):
        fetch(serve(half) + "file.h5", tmp_path / "file.h5")
    ended.set()
    assert [path.name for path in tmp_path.iterdir()] == ["file.h5"]
    assert (tmp_path / "file.h5").read_bytes() == b"older"


def test_an_answer_that_is_cut_short_is_no_file(serve: Callable[..., str], tmp_path: Path) -> None:
    def short(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(_CONTENT)))
        handler.end_headers()
        handler.wfile.write(_CONTENT[:1000])

    with pytest.raises(DownloadError, match=r"ended after 1,000 of 256,000 bytes"):
        fetch(serve(short) + "file.h5", tmp_path / "file.h5")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_server_is_passed_on(serve: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the server answers 404"):
        fetch(serve(lambda handler: handler.send_error(404)), tmp_path / "file.h5")


def test_a_port_where_nothing_listens(tmp_path: Path) -> None:
    with _listening(1) as (_, url):
        pass
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch(url, tmp_path / "file.h5")


def test_a_trickle_is_too_slow_and_a_slow_line_is_not() -> None:
    now = [0.0]

    def minutes(piece: int, every_s: float, until_s: float) -> list[float]:
        """When a pace would have been given up."""
        pace, given_up = DownloadRate(lambda: now[0]), []
        began = now[0]
        while now[0] - began < until_s:
            now[0] += every_s
            if pace.is_too_slow(piece):
                given_up.append(now[0] - began)
        return given_up

    assert minutes(1, 20.0, 200.0) == [60.0, 120.0, 180.0]
    assert minutes(1_000, 1.0, 600.0)[0] == 60.0  # 1 kB/s
    assert minutes(2_000, 1.0, 600.0) == []  # 2 kB/s: 50 kB in 25 s
    # Fast at first, then a trickle.
    pace = DownloadRate(lambda: now[0])
    assert not pace.is_too_slow(10**9)
    now[0] += 61
    assert not pace.is_too_slow(1)
    now[0] += 61
    assert pace.is_too_slow(1)


def _base_paths(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    from host_tools.extras import require

    module = require("keras.src.applications.efficientnet")
    monkeypatch.setattr(module, "BASE_WEIGHTS_PATH", url)


@pytest.fixture
def own_keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keras' folder of downloads, empty."""
    from host_tools.extras import require

    home = tmp_path / "keras"
    monkeypatch.setattr(
        require("keras.src.utils.file_utils").config, "keras_home", lambda: str(home)
    )
    return home


@pytest.mark.usefixtures("soon", "own_keras_home")
@pytest.mark.parametrize("network", ["silent", "full"])
def test_imagenet_weights_behind_a_black_hole(
    network: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from host_tools.models import build_model
    from host_tools.recipe import recipe_from

    _base_paths(monkeypatch, request.getfixturevalue(network) + "/")
    model = {"architecture": "efficientnet-b0", "weights": "imagenet"}
    with pytest.raises(RecipeError) as caught:
        build_model(recipe_from({"name": "any", "model": model}, "test"), 3)
    message = str(caught.value)
    assert "efficientnetb0_notop.h5: no answer within 0.5 s" in message
    assert "set model.weights to its path" in message


@pytest.mark.usefixtures("soon", "own_keras_home")
def test_cifar10_behind_a_black_hole(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from host_tools.data.layouts import cifar10
    from host_tools.extras import require

    theirs = require("keras.src.datasets.cifar10")
    get_file = theirs.get_file

    def from_there(**arguments: Any) -> str:
        path: str = get_file(**{**arguments, "origin": silent})
        return path

    monkeypatch.setattr(theirs, "get_file", from_there)
    with pytest.raises(DatasetError, match=r"no answer within 0\.5 s.* give its path"):
        cifar10.download()
