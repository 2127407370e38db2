"""What people type to name a receiver, and where their passwords may stand."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SinkNotInstalledError, SinkSpecError
from edge_sdk.sinks.address import (
    Credentials,
    host_and_port,
    is_loopback,
    mqtt_credentials,
    parse_address,
    webhook_token,
)
from edge_sdk.sinks.mqtt import discovery, object_id, parse_broker, topic_level
from edge_sdk.sinks.web.access import Access


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGECLS_MQTT_USERNAME", "EDGECLS_MQTT_PASSWORD", "EDGECLS_WEBHOOK_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "address", "topic", "encrypted", "announce"),
    [
        ("mqtt://broker", "mqtt://broker:1883", "edgecls/door", False, True),
        ("MQTT://Broker.Local/", "mqtt://broker.local:1883", "edgecls/door", False, True),
        ("mqtts://broker", "mqtts://broker:8883", "edgecls/door", True, True),
        ("mqtts://[::1]:99/a/b%20c", "mqtts://[::1]:99", "a/b c", True, True),
        ("mqtt://broker:1/a%40b", "mqtt://broker:1", "a@b", False, True),
        ("mqtt://broker/a@b", "mqtt://broker:1883", "a@b", False, True),
        ("mqtt://1.2.3.4?discovery=off", "mqtt://1.2.3.4:1883", "edgecls/door", False, False),
    ],
)
def test_urls_of_brokers(
    url: str, address: str, topic: str, encrypted: bool, announce: bool
) -> None:
    broker = parse_broker(url, "door")
    assert (str(broker.address), broker.topic) == (address, topic)
    assert (broker.tls is not None, broker.announce) == (encrypted, announce)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mqtt://me:s3cret@broker", "EDGECLS_MQTT_USERNAME and EDGECLS_MQTT_PASSWORD"),
        ("mqtt://s3cret@broker", r"\?credentials=FILE"),
        ("mqtt://me:s3cret@broker:x", "cannot be read"),
        (
            "mqtt://me:12/s3cret@broker",
            "if there is a password in the address, set EDGECLS_MQTT_USER",
        ),
        ("mqtt://me:12?s3cret@broker", "if there is a password"),
        ("mqtt://me:12#s3cret@broker", "if there is a password"),
        ("mqtt://me:s3cret/12@broker", "if there is a password in it: set EDGECLS_MQTT_USERNAME"),
        ("mqtt://broker:1883/a@b", "write it as %40"),
        ("mqtt://:s3cret@", "list of processes"),
        ("broker:1883", "begins with broker"),
        ("tcp://broker", "expected mqtt:// or mqtts://"),
        ("mqtt:///topic", "without a host"),
        ("mqtt://broker?tls=yes", "'tls' is unknown; expected ca, cert"),
        ("mqtt://broker?discovery=off&discovery=on", "given twice"),
        ("mqtt://broker?discovery=maybe", "expected on or off"),
        ("mqtt://broker?ca=ca.pem", "write mqtts://"),
        ("mqtts://broker?ca=/nonexistent", "ca=/nonexistent"),
        ("mqtts://broker?cert=a.pem", "only one of cert and key"),
        ("mqtt://broker/a/+/b", "wildcard"),
        ("mqtt://broker/%23", "wildcard"),
        ("mqtt://broker/$SYS", "begins with"),
        ("mqtt://broker?credentials=/nonexistent", "cannot be read"),
    ],
)
def test_urls_that_will_not_do(url: str, message: str) -> None:
    with pytest.raises(SinkSpecError, match=message) as caught:
        parse_broker(url, "door")
    assert "s3cret" not in str(caught.value)


@given(st.text(max_size=40))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for url in (text, f"mqtt://{text}"):
        with contextlib.suppress(SinkSpecError):
            assert parse_address(url, {"mqtt": 1883}, example="x", instead="y").host
    with contextlib.suppress(SinkSpecError):
        _, port = host_and_port(text, example="x")
        assert 0 <= port <= 65535


@pytest.mark.parametrize(
    ("text", "place"),
    [("9464", ("127.0.0.1", 9464)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:0", ("::1", 0))],
)
def test_places_to_listen_at(text: str, place: tuple[str, int]) -> None:
    assert host_and_port(text, example="x") == place


def _secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_credentials_of_the_environment_and_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mqtt_credentials(None) is None
    assert webhook_token(None) is None
    monkeypatch.setenv("EDGECLS_MQTT_PASSWORD", "p")
    with pytest.raises(SinkSpecError, match="EDGECLS_MQTT_USERNAME is not"):
        mqtt_credentials(None)
    monkeypatch.setenv("EDGECLS_MQTT_USERNAME", "me")
    assert mqtt_credentials(None) == Credentials("me", "p")
    file = _secret(tmp_path / "a", "you\n p w \n")
    assert mqtt_credentials(file) == Credentials("you", "p w")
    assert mqtt_credentials(_secret(file, "you")) == Credentials("you", None)
    assert webhook_token(_secret(file, "t0ken\n")) == "t0ken"
    assert "s3cret" not in repr(Credentials("me", "s3cret"))


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [("me\nyou", 0o644, "chmod 600"), ("", 0o600, "is empty")],
)
def test_files_of_credentials_that_will_not_do(
    text: str, mode: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SinkSpecError, match=message):
        mqtt_credentials(_secret(tmp_path / "a", text, mode))


def test_a_password_in_the_clear_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EDGECLS_MQTT_USERNAME", "me")
    monkeypatch.setenv("EDGECLS_MQTT_PASSWORD", "s3cret")
    caplog.set_level(logging.WARNING)
    parse_broker("mqtt://127.0.0.1", "door")
    parse_broker("mqtts://broker", "door")
    assert caplog.text == ""
    parse_broker("mqtt://broker", "door")
    assert "mqtts:// encrypts it" in caplog.text
    assert "s3cret" not in caplog.text
    caplog.clear()
    parse_broker("mqtt://127.example.org", "door")
    assert "mqtts:// encrypts it" in caplog.text


_THIS_MACHINE = ("localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.3.2.1", "::1")
_OTHERS = ("127.example.org", "127.0.0.1.example.org", "localhost.example.org", "128.0.0.1")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in (*_THIS_MACHINE, "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1")),
        *((host, False) for host in (*_OTHERS, "::ffff:1.2.3.4", "::", "0.0.0.0", "pi.local", "")),
    ],
)
def test_what_is_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected


@pytest.mark.parametrize("host", [*_THIS_MACHINE, *_OTHERS])
def test_every_part_has_the_same_idea_of_this_machine(host: str) -> None:
    def asks_for_a_token() -> bool:
        try:
            return Access(host, None).needs_token
        except SinkSpecError:
            return True

    url = f"http://[{host}]/" if ":" in host else f"http://{host}/"
    address = parse_address(url, {"http": 80}, example="", instead="")
    assert address.is_loopback == is_loopback(host) != asks_for_a_token()


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
def test_every_name_of_a_device_has_an_id_and_a_topic_of_its_own(one: str, other: str) -> None:
    plain = object_id(one)
    assert plain.isascii()
    assert plain.replace("_", "").replace("-", "").isalnum() or set(plain) <= set("_-")
    assert (object_id(other) == plain) == (one == other)
    level = topic_level(one)
    assert level
    assert not set(level) & set("/+#\0")
    level.encode()


def test_discovery_takes_any_name() -> None:
    for topic, text in discovery("m\udcfcn/+#", "base").items():
        assert "m_n___" in topic
        text.encode()


# In a process of its own, since the package is installed here.
_WITHOUT = """
import sys
sys.modules["paho"] = sys.modules["prometheus_client"] = None
from edge_sdk.errors import SinkNotInstalledError
try:
    if sys.argv[1] == "mqtt":
        from edge_sdk.sinks.mqtt import open_mqtt
        open_mqtt("mqtt://broker", spool_path=sys.argv[2])
    else:
        from edge_sdk.sinks.metrics import open_metrics
        open_metrics("0")
except SinkNotInstalledError as error:
    print(error)
"""


@pytest.mark.parametrize("extra", ["mqtt", "metrics"])
def test_a_missing_package_is_named_with_its_extra(extra: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _WITHOUT, extra, str(tmp_path / "s")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert f"pip install 'edgecls[{extra}]'" in result.stdout
    assert not (tmp_path / "s").exists()
    assert issubclass(SinkNotInstalledError, ImportError)
