"""Several runs on one device: each has topics, records and names of its own, or is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from edge_sdk.errors import IdentityInUseError, SinkSpecError
from edge_sdk.sinks import identity
from edge_sdk.sinks.identity import Claim, NameTakenError
from edge_sdk.sinks.mqtt import discovery, object_id

# The names are the machine's: another test session may be running on it.
_DEVICE = f"test-{uuid.uuid4().hex}"
_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="this is no Linux machine")


@pytest.fixture(autouse=True)
def _no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGECLS_SERVICE", "INVOCATION_ID", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def test_a_single_run_keeps_the_name_of_its_device() -> None:
    assert identity.service_name() is None
    assert identity.publisher_name("pi", None) == "pi"
    assert identity.publisher_name("pi", "gate") == "pi-gate"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/var/lib/edgecls", None),
        ("/var/lib/edgecls-gate", "gate"),
        ("/var/lib/private/gate:/var/lib/other", "gate"),
        ("/var/lib/my results", None),
        ("", None),
    ],
)
def test_a_service_is_called_after_its_unit(
    folder: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", folder)
    assert identity.service_name() is None  # a container's, not systemd's
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    assert identity.service_name() == name
    monkeypatch.setenv("EDGECLS_SERVICE", "door")
    assert identity.service_name() == "door"
    assert identity.service_name("given") == "given"


@pytest.mark.parametrize("name", ["a/b", "+", "ä", "x" * 49, " "])
def test_a_name_that_no_topic_can_hold_is_refused(name: str) -> None:
    with pytest.raises(SinkSpecError, match="--name gate"):
        identity.service_name(name)


def test_named_runs_of_one_user_have_spools_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    places = {identity.default_spool("mqtt", "mqtt://b", name) for name in (None, "a", "b")}
    assert len(places) == 3
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "gate"))  # what waits there is found again
    assert identity.default_spool("mqtt", "u", "gate") == identity.default_spool("mqtt", "u")


def test_home_assistant_keeps_two_services_apart() -> None:
    messages = [discovery(name, f"edgecls/{name}") for name in ("pi", "pi-gate", "pi-door")]
    topics = [topic for each in messages for topic in each]
    contents = [json.loads(text) for each in messages for text in each.values()]
    assert len(set(topics)) == 9
    assert len({content["unique_id"] for content in contents}) == 9
    assert len({content["availability_topic"] for content in contents}) == 3
    assert object_id("pi-gate") == "pi-gate"


@_LINUX
def test_a_name_is_held_by_one_process_and_free_when_it_is_killed() -> None:
    name = f"test {uuid.uuid4()}"
    holds = (
        "import sys, time\n"
        "from edge_sdk.sinks.identity import Claim\n"
        "held = Claim(sys.argv[1:]); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holds, name], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for _ in range(3):
                with pytest.raises(NameTakenError) as error:
                    Claim([f"{name} other", name])
                assert error.value.process == process.pid
            Claim([f"{name} other"]).close()  # what could not be had whole was given back
        finally:
            process.kill()
    again = Claim([name])
    again.close()
    again.close()
    Claim([name]).close()


@_LINUX
def test_a_second_run_without_a_name_is_refused_before_it_shares_a_topic(tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt", reason="the extra [mqtt] is not installed")
    from edge_sdk.sinks.mqtt import open_mqtt

    url = "mqtt://127.0.0.1:9"
    one = open_mqtt(url, device=_DEVICE, spool_path=tmp_path / "1")
    try:
        with pytest.raises(
            IdentityInUseError,
            match=r"already publishes under the topic edgecls/test-\w+;.*--name NAME",
        ):
            open_mqtt(url, device=_DEVICE, spool_path=tmp_path / "2")
        # Topics of their own, and one name in Home Assistant.
        with pytest.raises(IdentityInUseError, match="the name test-"):
            open_mqtt(f"{url}/yard", device=_DEVICE, spool_path=tmp_path / "2")
        open_mqtt(f"{url}/yard?discovery=off", device=_DEVICE, spool_path=tmp_path / "3").close()
        open_mqtt(url, device=_DEVICE, service="gate", spool_path=tmp_path / "4").close()
        open_mqtt(f"{url}9", device=_DEVICE, spool_path=tmp_path / "5").close()  # another broker
    finally:
        one.close()
        one._thread.join()
    open_mqtt(url, device=_DEVICE, spool_path=tmp_path / "2").close()
