"""The web page, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_sdk import Classifier, Frame, FrameSink, LiveStatistics, Ranked
from edge_sdk.errors import EngineError, SinkSpecError, WriteError
from edge_sdk.loop.decisions import Decisions
from edge_sdk.sinks.web.access import Access
from edge_sdk.sinks.web.live import MAX_FPS, MAX_VIEWERS, Live, encode
from edge_sdk.sinks.web.requests import MAX_CONNECTIONS
from edge_sdk.sinks.web.sink import WebPage, open_web
from edge_sdk.sinks.web.uploads import BURST, MAX_BYTES, Uploads
from edge_sdk.types import EventRecord, FrameRecord, HealthRecord
from tests.integration.host import edgecls
from tests.integration.run_process import start, until, whole_lines

_TOKEN = "a-token-of-more-than-16"


def _record(frame: int = 1, label: str | None = "cat", region: str | None = None) -> FrameRecord:
    top = (Ranked(label or "x", 0.9), Ranked("dog", 0.1))
    return FrameRecord(
        "2026-01-01T00:00:00.000+00:00", frame, "cam", label, 0.9, top, 1, 2, 40, 4, 50.0,
        "/secret/place/m.tflite", region,
    )  # fmt: skip


def _frame(level: int = 128, index: int = 1) -> Frame:
    return Frame(np.full((48, 64, 3), level, np.uint8), index=index)


@dataclass
class _Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]

    @property
    def state(self) -> dict[str, Any]:
        assert self.status == 200, self.body
        length = int.from_bytes(self.body[:4], "big")
        return json.loads(self.body[4 : 4 + length])  # type: ignore[no-any-return]

    @property
    def picture(self) -> Any:
        length = int.from_bytes(self.body[:4], "big")
        return cv2.imdecode(np.frombuffer(self.body[4 + length :], np.uint8), cv2.IMREAD_COLOR)


def _ask(page: WebPage, path: str, body: bytes | None = None, **headers: str) -> _Answer:
    port = int(page.url.rstrip("/").rsplit(":", 1)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    sent = {"Origin": f"http://127.0.0.1:{port}"} if body is not None else {}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request("GET" if body is None else "POST", path, body, sent)
        reply = connection.getresponse()
        return _Answer(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGECLS_WEB_TOKEN", "EDGECLS_WEB_TOKEN_FILE", "EDGECLS_WEB_NAMES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def statistics() -> LiveStatistics:
    return LiveStatistics()


@pytest.fixture
def page(int8_artifact: Path, statistics: LiveStatistics) -> Iterator[WebPage]:
    sha256 = Classifier.open(int8_artifact).artifact.sha256
    uploads = Uploads(lambda: Classifier.open(int8_artifact), lambda: sha256, top_k=3)
    page = open_web("0", statistics, uploads=uploads)
    yield page
    page.close()


@pytest.fixture
def guarded(statistics: LiveStatistics) -> Iterator[WebPage]:
    page = WebPage("0.0.0.0", 0, statistics, Access("0.0.0.0", _TOKEN))
    yield page
    page.close()


def _loop(page: WebPage, label: str | None = "cat", count: int = 10_000) -> Callable[[], None]:
    """Feeds a page as ``run`` does, 50 times a second; what is returned ends it."""
    over = threading.Event()

    def work() -> None:
        for i in range(count):
            page.write(_record(i, label))
            page.see(_frame(i % 256, i), _record(i, label))
            if over.wait(0.02):
                return

    thread = threading.Thread(target=work)
    thread.start()

    def end() -> None:
        over.set()
        thread.join()

    return end


# The live view


def test_a_viewer_gets_the_newest_picture_with_its_own_answer(page: WebPage) -> None:
    assert isinstance(page, FrameSink)
    end = _loop(page)
    try:
        after, seen = 0, []
        while len(seen) < 5:
            answer = _ask(page, f"/live?viewer=a&after={after}")
            state = answer.state
            if state["fresh"]:
                # Each picture is as bright as its number; JPEG keeps a plain one within a level.
                assert abs(int(answer.picture.mean()) - state["answer"]["frame"] % 256) <= 2
                seen.append(state["answer"]["frame"])
                after = state["picture"]
    finally:
        end()
    assert seen == sorted(set(seen))
    assert state["answer"]["topk"][0] == {"label": "cat", "score": 0.9}
    assert state["idle_s"] < 1
    assert not state["ended"]


def test_paths_of_this_machine_stay_here(page: WebPage) -> None:
    page.see(_frame(), replace(_record(), source="/secret/pictures/a.jpg"))
    page.write(EventRecord("T", "/secret/pictures/a.jpg", "appeared", "/m/cat", 0.9, 0))
    page.write(HealthRecord("T", "fake:/secret/b", "model refused", "/secret/m.tflite: is damaged"))
    answer = _ask(page, "/live")
    assert answer.state["answer"]["model"] == "m.tflite"
    assert answer.state["answer"]["source"] == "a.jpg"
    health, event = answer.state["happened"]
    assert (health["source"], health["detail"]) == ("fake:b", "m.tflite: is damaged")
    assert (event["source"], event["label"]) == ("a.jpg", "/m/cat")
    assert b"/secret" not in answer.body


def test_statistics_health_and_events_are_told(page: WebPage, statistics: LiveStatistics) -> None:
    statistics.begin()
    statistics.step(dropped=7)
    for _ in range(3):
        statistics.answer(_record())
        statistics.frame()
    page.write(HealthRecord("T", "cam", "frozen", "the picture stands still"))
    for i in range(50):
        page.write(EventRecord("T", "cam", "appeared", f"cat {i}", 0.9, 0))
    state = _ask(page, "/live").state
    assert (state["statistics"]["frames"], state["statistics"]["dropped"]) == (3, 7)
    assert state["statistics"]["latency_ms"]["p50"] == 46
    reported = state["happened"]
    assert reported[0]["label"] == "cat 49"
    assert reported[-1]["what"] == "frozen"  # events push no trouble out
    assert len(reported) < 20


def test_without_news_a_viewer_is_told_so_after_a_second(page: WebPage) -> None:
    page.write(_record())
    page.see(_frame(), _record())
    first = _ask(page, "/live").state
    began = time.monotonic()
    second = _ask(page, f"/live?after={first['picture']}")
    assert 0.8 < time.monotonic() - began < 5
    assert not second.state["fresh"]
    assert second.state["idle_s"] > 0.8
    assert second.body.endswith(b"}")


def test_regions_are_channels_of_their_own(page: WebPage) -> None:
    for i, region in enumerate(("left", "right")):
        page.see(_frame(200 * i), _record(i, region, region))
    state = _ask(page, "/live?region=right").state
    assert state["regions"] == ["left", "right"]
    answer = _ask(page, "/live?region=right&after=0")
    assert answer.state["answer"]["region"] == "right"
    assert answer.picture.mean() > 150
    assert _ask(page, "/live?region=none").state["answer"]["region"] == "left"


@pytest.mark.parametrize("after", ["", "-1", "1e9", "²", "9" * 40, "<b>"])
def test_numbers_that_are_none_ask_for_the_newest(page: WebPage, after: str) -> None:
    page.see(_frame(), _record())
    answer = _ask(page, "/live?after=" + after.replace("²", "%C2%B2"))
    assert answer.state["fresh"]


def test_nothing_is_encoded_while_nobody_looks(
    page: WebPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []

    def counted(frame: Frame) -> bytes:
        encoded.append(frame.index)
        return encode(frame)

    monkeypatch.setattr("edge_sdk.sinks.web.live.encode", counted)
    end = _loop(page)
    try:
        time.sleep(0.5)
        assert encoded == []
        began, after = time.monotonic(), 0
        while time.monotonic() - began < 1:
            after = _ask(page, f"/live?after={after}").state["picture"]
        assert 3 <= len(encoded) <= MAX_FPS * (time.monotonic() - began) + 2
    finally:
        end()


def test_viewers_share_what_is_encoded_and_a_slow_one_holds_up_nobody(page: WebPage) -> None:
    port = int(page.url.rstrip("/").rsplit(":", 1)[1])
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    for connection in slow:  # ask for much, and read nothing
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    longest_ms = 0.0
    for i in range(50):
        began = time.perf_counter()
        page.write(_record(i))
        page.see(Frame(noise, index=i), _record(i))
        longest_ms = max(longest_ms, 1000 * (time.perf_counter() - began))
        time.sleep(0.02)
    assert longest_ms < 200  # encoding and sending took far longer than that in all
    assert _ask(page, "/live?viewer=b").state["picture"] > 0
    began = time.monotonic()
    page.close()
    assert time.monotonic() - began < 1.5
    for connection in slow:
        connection.close()


def test_one_viewer_too_many_is_told_and_comes_in_when_one_has_gone() -> None:
    now = [0.0]
    live = Live(LiveStatistics(), {}, clock=lambda: now[0])
    assert all(live.admit(f"{i}") for i in range(MAX_VIEWERS))
    assert live.admit("0")
    assert not live.admit("late")
    now[0] = 2.0
    assert live.admit("1")
    now[0] = 4.0
    assert live.admit("late")
    live.close()


@pytest.mark.parametrize(
    ("format_", "shape"),
    [("rgb", (90, 120, 3)), ("bgr", (90, 120, 3)), ("rgba", (90, 120, 4)), ("gray", (90, 120)),
     ("i420", (135, 120)), ("rgb", (2000, 30, 3)), ("rgb", (1, 1, 3))],
)  # fmt: skip
def test_every_format_is_encoded_within_its_size(format_: Any, shape: tuple[int, ...]) -> None:
    jpeg = encode(Frame(np.full(shape, 128, np.uint8), format_))
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert max(decoded.shape) <= 960
    if shape[0] in (90, 135):
        assert decoded.shape == (90, 120, 3)


def test_colours_stay_what_they_are() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 0] = 255
    for format_, channel in (("rgb", 2), ("bgr", 0)):  # OpenCV gives blue first
        jpeg = encode(Frame(pixels, format_))  # type: ignore[arg-type]
        shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert shown[..., channel].mean() > 240


def test_a_bug_in_drawing_costs_one_picture_and_not_the_page(
    page: WebPage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    page._live.wait("", 0, 0.0)

    def broken(_: Frame) -> bytes:
        raise KeyError("bug")

    with monkeypatch.context() as patch:
        patch.setattr("edge_sdk.sinks.web.live.encode", broken)
        page.see(_frame(), _record())
        page._live.wait("", 0, 0.3)
    end = time.monotonic() + 20
    while not page._live.wait("", 0, 0.2).jpeg and time.monotonic() < end:
        page.see(_frame(), _record())
    assert page._live.wait("", 0, 0.2).jpeg
    assert "could not be encoded" in caplog.text


def test_a_frame_that_is_no_picture_is_passed_over(page: WebPage) -> None:
    page.see(Frame(np.zeros((0, 0, 3), np.uint8)), _record())
    assert not _ask(page, "/live").state["fresh"]
    time.sleep(1)
    page.see(_frame(), _record())
    assert _ask(page, "/live").state["fresh"]


# Pictures to try


def test_a_picture_is_answered(page: WebPage, digit_pictures: Path) -> None:
    picture = next((digit_pictures / "7").glob("*.png"))
    answer = _ask(page, "/try", picture.read_bytes())
    assert answer.status == 200
    assert answer.json["label"] == "7"
    assert len(answer.json["topk"]) == 3
    assert answer.json["model"] == "digits_int8.tflite"
    assert (answer.json["width"], answer.json["height"]) == cv2.imread(str(picture)).shape[1::-1]


def _bomb() -> bytes:
    done, data = cv2.imencode(".png", np.zeros((6000, 6000), np.uint8))
    assert done
    return data.tobytes()


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (b"", 422, "cannot be used"),
        (b"not a picture at all", 422, "not a picture"),
        (b"\x89PNG\r\n\x1a\n", 422, "cannot be used"),
        (b"\xff\xd8\xff" + b"\0" * 100, 422, "cannot be used"),
        (_bomb(), 422, "more than the limit of 25 megapixels"),
        (bytes(MAX_BYTES + 1), 413, "The body is larger than 20 MB"),
    ],
    ids=["empty", "text", "head", "damaged", "bomb", "large"],
)
def test_what_is_no_picture_is_refused_in_words(
    page: WebPage, data: bytes, status: int, said: str
) -> None:
    answer = _ask(page, "/try", data)
    assert answer.status == status
    assert said in answer.json["error"]


def test_a_picture_without_a_length_or_with_a_wrong_one_is_refused(page: WebPage) -> None:
    port = int(page.url.rstrip("/").rsplit(":", 1)[1])
    head = f"POST /try HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
    for lines, status in (
        ("Transfer-Encoding: chunked\r\n", b"411"),
        ("", b"411"),
        ("Content-Length: -5\r\n", b"400"),
        (f"Content-Length: {'9' * 30}\r\n", b"413"),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(f"{head}{lines}\r\n".encode())
            assert connection.recv(4096).split()[1] == status


def test_too_many_pictures_at_once_have_to_wait(page: WebPage, digit_pictures: Path) -> None:
    data = next((digit_pictures / "7").glob("*.png")).read_bytes()
    statuses = [_ask(page, "/try", data).status for _ in range(3 * BURST)]
    assert set(statuses) == {200, 429}
    time.sleep(1)
    assert _ask(page, "/try", data).status == 200


def test_answers_keep_to_threshold_and_lists_as_the_loop_does(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    data = next((digit_pictures / "7").glob("*.png")).read_bytes()
    uploads = Uploads(
        lambda: Classifier.open(int8_artifact),
        str,
        threshold=1.0,
        decisions=Decisions(deny=("7",)),
    )
    answer = uploads.classify(data).content
    assert answer["label"] is None
    assert "7" not in [ranked["label"] for ranked in answer["topk"]]
    uploads.close()
    assert uploads.classify(data).status == 503


def test_a_model_that_the_loop_has_replaced_is_replaced_here_too(
    int8_artifact: Path, float16_artifact: Path, digit_pictures: Path
) -> None:
    data = next((digit_pictures / "7").glob("*.png")).read_bytes()
    models = {m: Classifier.open(m).artifact.sha256 for m in (int8_artifact, float16_artifact)}
    current, opened = [int8_artifact], []

    def open_model() -> Classifier:
        if not current[0].exists():
            raise EngineError("gone")
        opened.append(current[0])
        return Classifier.open(current[0])

    uploads = Uploads(open_model, lambda: models.get(current[0], "other"))
    for model in (int8_artifact, int8_artifact, float16_artifact):
        current[0] = model
        assert uploads.classify(data).content["model"] == model.name
    assert opened == [int8_artifact, float16_artifact]
    current[0] = Path("/no/such/file")
    assert uploads.classify(data).content["model"] == float16_artifact.name
    uploads.close()


def test_a_model_that_cannot_be_opened_twice_says_so(digit_pictures: Path) -> None:
    def open_model() -> Classifier:
        raise EngineError("the accelerator is taken")

    data = next((digit_pictures / "7").glob("*.png")).read_bytes()
    reply = Uploads(open_model, str).classify(data)
    assert (reply.status, "the accelerator is taken" in reply.content["error"]) == (500, True)


# Who may look


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.7", "pi.local", "127.example.org", ""]
)
def test_off_loopback_a_token_is_needed(host: str) -> None:
    with pytest.raises(SinkSpecError, match=r"export EDGECLS_WEB_TOKEN="):
        Access(host, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost", "LOCALHOST"])
def test_on_loopback_none_is(host: str) -> None:
    assert Access(host, None).admits(None, 1)


def test_a_short_token_is_refused() -> None:
    with pytest.raises(SinkSpecError, match="expected 16 or more"):
        Access("127.0.0.1", "secret")


def test_without_the_token_there_is_a_page_and_nothing_on_it(guarded: WebPage) -> None:
    guarded.see(_frame(), _record())
    for path in ("/", "/page.js", "/page.css", "/icon.svg"):
        assert _ask(guarded, path).status == 200
    for cookie in ("", "edgecls_1=x", f"edgecls_0={_TOKEN}", ";;;=", "edgecls=\x01"):
        for path, body in (("/live", None), ("/try", b"x")):
            answer = _ask(guarded, path, body, Cookie=cookie)
            assert answer.status == (400 if "\x01" in cookie else 401)
            assert b"cat" not in answer.body


@pytest.mark.parametrize("token", ["", "x", _TOKEN[:-1], _TOKEN + "x", "\udcff\0", "ü" * 20])
def test_a_wrong_token_is_refused(guarded: WebPage, token: str) -> None:
    answer = _ask(guarded, "/token", token.encode("utf-8", "surrogateescape"))
    assert answer.status == 401
    assert answer.headers["Set-Cookie"] is None


def test_the_token_gives_a_cookie_that_scripts_and_other_sites_cannot_use(
    guarded: WebPage,
) -> None:
    guarded.see(_frame(), _record())
    answer = _ask(guarded, "/token", _TOKEN.encode())
    assert answer.status == 200
    cookie, *flags = answer.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(flags)
    assert _TOKEN not in cookie
    assert "Secure" not in flags
    behind_tls = {"Host": "localhost", "Origin": "https://localhost"}
    assert (
        "; Secure" in _ask(guarded, "/token", _TOKEN.encode(), **behind_tls).headers["Set-Cookie"]
    )
    assert _ask(guarded, "/live", Cookie=f"other=1; {cookie}").state["answer"]["label"] == "cat"
    assert _ask(guarded, "/live", Cookie=cookie[:-1] + "g").status == 401


def test_a_token_on_loopback_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(_TOKEN + "\n", "utf-8")
    file.chmod(0o600)
    monkeypatch.setenv("EDGECLS_WEB_TOKEN_FILE", str(file))
    page = open_web("0", LiveStatistics())
    try:
        assert _ask(page, "/live").status == 401
        assert _ask(page, "/token", _TOKEN.encode()).status == 200
        assert _TOKEN not in str(page)
    finally:
        page.close()
    file.chmod(0o644)
    with pytest.raises(SinkSpecError, match="chmod 600"):
        open_web("0", LiveStatistics())


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:1", 200), ("localhost", 200), ("[::1]:80", 200), ("192.168.1.7", 200),
     ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example:80", 421),
     ("", 421), ("[", 421), ("a b", 421)],
)  # fmt: skip
def test_a_name_that_is_somebody_elses_is_refused(page: WebPage, host: str, status: int) -> None:
    for path in ("/", "/live"):
        assert _ask(page, path, Host=host).status == status


def test_other_names_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECLS_WEB_NAMES", "cam.example.org, other")
    page = open_web("0", LiveStatistics())
    try:
        assert _ask(page, "/live", Host="Cam.example.org").status == 200
        assert _ask(page, "/live", Host="www.example.org").status == 421
    finally:
        page.close()


@pytest.mark.parametrize(
    "origin", ["null", "", "http://evil.example", "http://127.0.0.1", "file://", "http://[", "//x"]
)
def test_a_post_from_elsewhere_is_refused(page: WebPage, origin: str) -> None:
    for path in ("/try", "/token"):
        assert _ask(page, path, b"x", Origin=origin).status == 403


def test_another_sites_page_gets_nothing(page: WebPage) -> None:
    page.see(_frame(), _record())
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        assert _ask(page, "/live", Sec_Fetch_Site=site).status == status


def test_headers_of_every_answer(page: WebPage) -> None:
    page.see(_frame(), _record())
    for path in ("/", "/page.js", "/live", "/missing", "/../access.py", "/%2e%2e/access.py"):
        answer = _ask(page, path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "Python" not in answer.headers["Server"]
    assert _ask(page, "/../access.py").status == 404
    html = _ask(page, "/").body.decode()
    assert "http://" not in html + _ask(page, "/page.js").body.decode()
    assert "https://" not in html
    assert " style=" not in html
    assert " onclick" not in html


def test_other_verbs_and_nonsense_are_refused(page: WebPage) -> None:
    port = int(page.url.rstrip("/").rsplit(":", 1)[1])
    for text in (b"PUT / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n",
                 b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(text)
            assert b"Traceback" not in connection.recv(65536)
    assert _ask(page, "/").status == 200


# The server


def test_a_get_with_a_body_gets_one_reply(page: WebPage) -> None:
    port = int(page.url.rstrip("/").rsplit(":", 1)[1])
    inner = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        head = f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(inner)}\r\n\r\n"
        connection.sendall(head.encode() + inner)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            received = file.read()
    assert received.count(b"HTTP/1.1 ") == 1


def test_connections_that_say_nothing_make_room(page: WebPage) -> None:
    port = int(page.url.rstrip("/").rsplit(":", 1)[1])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(MAX_CONNECTIONS + 10)]
    try:
        until(lambda: _ask(page, "/").status == 200, 10)
        until(lambda: threading.active_count() < MAX_CONNECTIONS + 20, 10)
    finally:
        for connection in idle:
            connection.close()


def test_a_port_that_is_taken_is_named(page: WebPage, statistics: LiveStatistics) -> None:
    place = page.url.removeprefix("http://").rstrip("/")
    threads = threading.active_count()
    with pytest.raises(WriteError, match=f"--web {place}: cannot listen"):
        open_web(place, statistics)
    assert threading.active_count() == threads


@pytest.mark.parametrize("place", ["", "localhost", ":80", "a:b", "1.2.3.4:99999", "-1"])
def test_places_that_are_none(place: str) -> None:
    with pytest.raises(SinkSpecError, match="expected HOST:PORT"):
        open_web(place, LiveStatistics())


def test_another_machines_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECLS_WEB_TOKEN", _TOKEN)
    for place in ("192.0.2.1:8080", "no.such.host.invalid:8080"):
        with pytest.raises(WriteError, match="cannot listen there"):
            open_web(place, LiveStatistics())


def test_beyond_loopback_the_open_wire_is_named(
    guarded: WebPage, caplog: pytest.LogCaptureFixture
) -> None:
    assert _TOKEN not in str(guarded)
    with caplog.at_level(logging.WARNING):
        WebPage("0.0.0.0", 0, LiveStatistics(), Access("0.0.0.0", _TOKEN)).close()
    assert "unencrypted" in caplog.text


def test_closing_tells_who_waits_and_leaves_nothing(statistics: LiveStatistics) -> None:
    threads, files = threading.active_count(), _descriptors()
    page = open_web("0", statistics)
    page.see(_frame(), _record())
    number = _ask(page, "/live").state["picture"]
    answers: list[_Answer] = []
    waiting = threading.Thread(target=lambda: answers.append(_ask(page, f"/live?after={number}")))
    waiting.start()
    time.sleep(0.2)
    began = time.monotonic()
    page.close()
    page.close()
    assert time.monotonic() - began < 1.0
    waiting.join(5)
    assert answers[0].state["ended"]
    with pytest.raises(WriteError, match="closed"):
        page.write(_record())
    with pytest.raises(OSError, match="refused"):
        _ask(page, "/")
    until(lambda: threading.active_count() == threads, 5)
    until(lambda: _descriptors() == files, 5)


# The command


def test_the_command_shows_its_page_and_ends_within_two_seconds(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    words = ("--camera", f"fake:{digit_pictures}?fps=20", "--json", "--web", "0")
    process = start("run", int8_artifact, *words)
    assert process.stderr is not None
    assert process.stdout is not None
    try:
        line = next(line for line in process.stderr if line.startswith("web page: "))
        url = line.split()[2]
        page = type("Page", (), {"url": url})
        process.stdout.readline()
        until(lambda: _ask(page, "/live?viewer=a").state["fresh"])  # type: ignore[arg-type]
        state = _ask(page, "/live?viewer=a").state  # type: ignore[arg-type]
        assert state["answer"]["label"] in set("0123456789")
        picture = next((digit_pictures / "3").glob("*.png")).read_bytes()
        assert _ask(page, "/try", picture).json["label"] == "3"  # type: ignore[arg-type]
        port = int(url.rstrip("/").rsplit(":", 1)[1])
        hanging = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        for connection in hanging[1:]:  # one says nothing, the others never read what they get
            connection.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    finally:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 4  # two are promised; the rest is for a busy machine
    for connection in hanging:
        connection.close()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "is abandoned" not in errors
    whole_lines(output)


def test_the_command_refuses_an_open_page(int8_artifact: Path, digit_pictures: Path) -> None:
    words = ("--source", digit_pictures, "--web", "0.0.0.0:0")
    result = edgecls("run", int8_artifact, *words)
    assert result.exit_code != 0
    assert "export EDGECLS_WEB_TOKEN=" in result.stderr
    assert result.stdout == ""
