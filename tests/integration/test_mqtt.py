"""Results to real brokers: Mosquitto where it is installed, and amqtt."""

from __future__ import annotations

import gc
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("paho.mqtt", reason="the extra [mqtt] is not installed")

from edge_sdk.errors import DeliveryError, SinkSpecError
from edge_sdk.sinks import mqtt
from edge_sdk.sinks.mqtt import open_mqtt
from edge_sdk.sinks.spool import Spool
from edge_sdk.types import ErrorRecord, FrameRecord, HealthRecord, Ranked
from tests.integration.receivers import (
    MOSQUITTO,
    Broker,
    DripServer,
    SendingProcess,
    Subscriber,
    drops,
    free_port,
    sending,
    until,
)

_WINDOW = 20
_FRAME = FrameRecord(
    "T", 1, "cam", "größe", 0.75, (Ranked("größe", 0.75), Ranked("b", 0.25)), 1, 2, 3, 4, None, "m"
)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    brokers: list[Broker] = []

    def start(kind: str, **options: object) -> Broker:
        if kind == "mosquitto" and MOSQUITTO is None:
            pytest.skip("Mosquitto is not installed")
        broker = Broker(kind, tmp_path, **options)  # type: ignore[arg-type]
        brokers.append(broker)
        broker.start()
        return broker

    yield start
    for broker in brokers:
        broker.stop()


@pytest.fixture(params=["mosquitto", "amqtt"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _delivered(sink: Spool) -> None:
    until(lambda: sink.statistics.depth == 0, 30, "the delivery")


def test_records_status_and_discovery(
    kind: str, make: Callable[..., Broker], tmp_path: Path
) -> None:
    broker = make(kind)
    subscriber = Subscriber(broker)
    sink = open_mqtt(f"mqtt://127.0.0.1:{broker.port}", device="Küche/1", spool_path=tmp_path / "s")
    sink.write(_FRAME)
    sink.write(HealthRecord("T", "cam", "black", "x"))
    _delivered(sink)
    until(lambda: bool(subscriber.bodies("health")), 20)
    (frame,) = subscriber.bodies("frame")
    assert frame | _FRAME.to_json() == frame
    assert (frame["device"], frame["boot_id"] != "", frame["seq"] > 0) == ("Küche/1", True, True)
    assert subscriber.bodies("health")[0]["what"] == "black"

    late = Subscriber(broker)  # as Home Assistant after a restart
    until(lambda: len(late.messages) >= 4, 20)
    kept = {topic: payload for topic, payload, retained in late.messages if retained}
    assert kept.pop("edgecls/Küche_1/status") == b"online"
    assert len(kept) == 3
    for topic, payload in kept.items():
        prefix, component, node, key, last = topic.split("/")
        assert (prefix, component, last) == ("homeassistant", "sensor", "config")
        assert node.removeprefix("edgecls_").replace("_", "").isalnum()
        assert node.isascii()
        config = json.loads(payload)
        assert config["state_topic"] == "edgecls/Küche_1/frame"
        assert config["availability_topic"] == "edgecls/Küche_1/status"
        assert config["unique_id"].endswith(f"_{key}")
        assert config["device"]["name"] == "Küche/1"
    sink.close()
    until(lambda: ("edgecls/Küche_1/status", b"offline", False) in late.messages, 20)
    subscriber.close()
    late.close()


def test_without_a_camera_the_status_is_offline(
    kind: str, make: Callable[..., Broker], tmp_path: Path
) -> None:
    broker = make(kind)
    subscriber = Subscriber(broker)
    url = f"mqtt://127.0.0.1:{broker.port}/yard"
    sink = open_mqtt(url, device="door", spool_path=tmp_path / "s")
    expected = [b"online"]
    steps = [("lost", b"offline"), ("black", b""), ("reopened", b"online"), ("stalled", b"offline")]
    for what, status in steps:
        sink.write(HealthRecord("T", "cam", what, "x"))
        _delivered(sink)
        expected += [status] if status else []
    sink.write(HealthRecord("T", "cam", "reopened", "x"))
    _delivered(sink)
    expected.append(b"online")
    until(lambda: [b for t, b, _ in subscriber.messages if t == "yard/status"] == expected, 20)
    sink.close()
    subscriber.close()


def test_a_killed_process_is_reported_by_its_last_will(
    kind: str, make: Callable[..., Broker], tmp_path: Path
) -> None:
    broker = make(kind)
    subscriber = Subscriber(broker)
    url = f"mqtt://127.0.0.1:{broker.port}/hall/camera?discovery=off"
    with sending(SendingProcess("mqtt", url, tmp_path, 0, 10_000, 0.05)) as sender:
        until(lambda: len(subscriber.bodies("error")) > 3, 30)
        sender.kill()
    until(lambda: ("hall/camera/status", b"offline", False) in subscriber.messages, 30)
    assert not any(topic.startswith("homeassistant") for topic, _, _ in subscriber.messages)
    subscriber.close()


def test_a_password_opens_the_door(
    kind: str, make: Callable[..., Broker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = make(kind, password="s3cret words")
    url = f"mqtt://127.0.0.1:{broker.port}"
    sink = open_mqtt(url, device="door", spool_path=tmp_path / "s")
    sink.write(_FRAME)
    until(lambda: "refuses" in sink.statistics.trouble, 20)
    if kind == "mosquitto":
        assert "check EDGECLS_MQTT_USERNAME" in sink.statistics.trouble
    sink.close()
    assert sink.statistics.depth == 1

    subscriber = Subscriber(broker)
    monkeypatch.setenv("EDGECLS_MQTT_USERNAME", "camera")
    monkeypatch.setenv("EDGECLS_MQTT_PASSWORD", "s3cret words")
    sink = open_mqtt(url, device="door", spool_path=tmp_path / "s")
    _delivered(sink)
    sink.close()
    monkeypatch.delenv("EDGECLS_MQTT_USERNAME")
    monkeypatch.delenv("EDGECLS_MQTT_PASSWORD")
    secrets = tmp_path / "credentials"
    secrets.write_text("camera\ns3cret words\n")
    secrets.chmod(0o600)
    sink = open_mqtt(f"{url}?credentials={secrets}", device="door", spool_path=tmp_path / "s")
    sink.write(_FRAME)
    _delivered(sink)
    sink.close()
    until(lambda: len(subscriber.bodies("frame")) == 2, 20)
    subscriber.close()


# paho-mqtt leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_tls_trusts_the_named_authority_and_nobody_else(
    kind: str, make: Callable[..., Broker], tmp_path: Path
) -> None:
    trustme = pytest.importorskip("trustme", reason="the extra [host] is not installed")
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "server.pem")
    )
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    broker = make(kind, certificate=tmp_path / "server.pem")
    url = f"mqtts://127.0.0.1:{broker.port}"
    sink = open_mqtt(url, device="door", spool_path=tmp_path / "s")
    sink.write(_FRAME)
    until(lambda: "not trusted" in sink.statistics.trouble, 20)
    assert "?ca=FILE" in sink.statistics.trouble
    sink.close()
    sink = open_mqtt(f"{url}?ca={tmp_path / 'ca.pem'}", device="door", spool_path=tmp_path / "s")
    _delivered(sink)
    sink.close()
    assert sink.statistics.delivered == 1
    with pytest.raises(SinkSpecError, match="cert="):
        open_mqtt(f"{url}?cert={tmp_path / 'ca.pem'}&key=/nonexistent", spool_path=tmp_path / "s")


def test_a_broker_that_is_not_there_yet(
    kind: str, make: Callable[..., Broker], tmp_path: Path
) -> None:
    port = free_port()
    began = time.monotonic()
    sink = open_mqtt(f"mqtt://127.0.0.1:{port}", device="door", spool_path=tmp_path / "s")
    for i in range(100):
        sink.write(ErrorRecord(str(i), "x"))
    assert time.monotonic() - began < 5
    until(lambda: "no connection" in sink.statistics.trouble, 10)
    make(kind, port=port)
    _delivered(sink)
    assert sink.statistics.delivered == 100
    sink.close()


def test_a_restarted_broker_hears_that_the_device_is_online(
    kind: str, make: Callable[..., Broker], tmp_path: Path
) -> None:
    broker = make(kind)
    sink = open_mqtt(f"mqtt://127.0.0.1:{broker.port}", device="door", spool_path=tmp_path / "s")
    sink.write(_FRAME)
    _delivered(sink)
    broker.stop()
    (tmp_path / "mosquitto.db").unlink(missing_ok=True)
    broker.start()
    subscriber = Subscriber(broker)  # though there is nothing to deliver
    until(lambda: any(m[:2] == ("edgecls/door/status", b"online") for m in subscriber.messages), 30)
    subscriber.close()
    sink.close()


def test_a_killed_sender_loses_nothing(
    kind: str, make: Callable[..., Broker], tmp_path: Path
) -> None:
    broker = make(kind)
    subscriber = Subscriber(broker)
    url = f"mqtt://127.0.0.1:{broker.port}"
    with sending(SendingProcess("mqtt", url, tmp_path, 0, 2000, 0.002)) as sender:
        until(lambda: len(subscriber.bodies("error")) > 300)
        start = sender.kill()
    with sending(SendingProcess("mqtt", url, tmp_path, start, 2000 + 1, 0)) as sender:
        assert sender.process.wait(60) == 0
        written = sender.written()
    until(lambda: {int(b["path"]) for b in subscriber.bodies("error")} >= set(written))
    _check(subscriber, written, interruptions=1)
    subscriber.close()


@pytest.mark.slow
def test_the_broker_away_for_ten_seconds_and_kill_9_in_the_middle(
    make: Callable[..., Broker], tmp_path: Path
) -> None:
    broker = make("mosquitto")
    subscriber = Subscriber(broker, will_stay=True)
    url = f"mqtt://127.0.0.1:{broker.port}"
    with sending(SendingProcess("mqtt", url, tmp_path, 0, 2000, 0.005)) as sender:
        until(lambda: len(subscriber.bodies("error")) > 200)
        broker.stop()  # in the middle of the traffic
        away = time.monotonic()
        until(lambda: len(sender.written()) > 700)
        start = sender.kill()
    with sending(SendingProcess("mqtt", url, tmp_path, start, 2000, 0.004)) as sender:
        time.sleep(max(0.0, 10 - (time.monotonic() - away)))
        before = len(subscriber.messages)
        broker.start()
        until(lambda: len(subscriber.messages) > before + 100)
        start = sender.kill()  # while it catches up
    with sending(SendingProcess("mqtt", url, tmp_path, start, max(start, 2001), 0)) as sender:
        assert sender.process.wait(60) == 0
        written = sender.written()
    assert len(written) >= 1998  # each kill leaves one whose delivery is unknown
    until(lambda: {int(b["path"]) for b in subscriber.bodies("error")} >= set(written))
    _check(subscriber, written, interruptions=3)
    subscriber.close()


def _check(subscriber: Subscriber, written: list[int], interruptions: int) -> None:
    bodies = subscriber.bodies("error")
    keys = Counter((body["device"], body["boot_id"], body["seq"]) for body in bodies)
    repeats = len(bodies) - len(keys)
    paths = {body["seq"]: int(body["path"]) for body in bodies}
    assert repeats <= _WINDOW * interruptions
    assert len(set(paths.values())) == len(paths)  # a repetition has the number it had before
    assert len(written) <= len(paths) <= len(written) + 3
    assert sorted(paths) == list(range(min(paths), max(paths) + 1))
    if os.environ.get("EDGECLS_TEST_VERBOSE"):
        print(f"{len(written)} written, {len(bodies)} arrived, {repeats} repeated")  # noqa: T201


# paho-mqtt leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
def test_a_broker_that_drips_is_given_up(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "_CONNECT_S", 0.5)
    # Of CONNACK, or of a TLS record, a piece comes within each limit for a read.
    answer = b"\x20\x02\x00\x00" if scheme == "mqtt" else b"\x16\x03\x03\x00\x50" + bytes(20)
    with DripServer(drops(answer), 0.3) as server:
        broker = mqtt.parse_broker(f"{scheme}://127.0.0.1:{server.port}", "door")
        sender = mqtt.MqttSender(broker, "door", "0123456789abcdef")
        with pytest.raises(DeliveryError, match=r"does not answer|timed out"):
            sender.deliver(())
        sender.close()
    gc.collect()
