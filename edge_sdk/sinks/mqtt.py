"""Records to an MQTT broker, through paho-mqtt (extra ``[mqtt]``) and behind a spool.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import ssl
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.errors import (
    DeliveryError,
    IdentityInUseError,
    SinkNotInstalledError,
    SinkSpecError,
)
from edge_sdk.sinks.address import (
    MQTT_PASSWORD,
    MQTT_USERNAME,
    Address,
    Credentials,
    mqtt_credentials,
    options,
    parse_address,
    plain_path,
    version,
)
from edge_sdk.sinks.identity import (
    Claim,
    NameTakenError,
    default_spool,
    device_name,
    publisher_name,
    service_name,
)
from edge_sdk.sinks.sender import Delivery, Parcel
from edge_sdk.sinks.spool import DEFAULT_MAX_BYTES, Spool


def object_id(device: str) -> str:
    """``device`` in the characters that Home Assistant allows in an id: ``a-z A-Z 0-9 _ -``.

    A changed name gets a hash of the original, so that two names stay distinct.
    """
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", device)[:48]
    if plain == device:
        return plain
    return f"{plain}_{hashlib.sha256(device.encode('utf-8', 'replace')).hexdigest()[:6]}"


def topic_level(device: str) -> str:
    """``device`` as one level of a topic, without ``/``, ``+``, ``#`` or control characters."""
    return re.sub(r"[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]", "_", device).lstrip("$") or "edgecls"


def discovery(device: str, base: str) -> dict[str, str]:
    """The retained messages of Home Assistant's MQTT discovery, as ``{topic: JSON}``.

    Args:
        device: its name.
        base: of its topics: ``base/frame``, ``base/health`` and ``base/status``.
    """
    name = object_id(device)
    about = {
        "identifiers": [f"edgecls_{name}"],
        "name": device.encode("utf-8", "replace").decode(),
        "manufacturer": "edgecls",
        "model": "image classifier",
        "sw_version": version(),
    }
    sensors: dict[str, dict[str, Any]] = {
        "label": {
            "name": "Label",
            "icon": "mdi:image-search",
            # A state has at most 255 characters; attributes would be stored for every frame.
            "value_template": "{{ (value_json.label or 'unknown') | string | truncate(250) }}",
        },
        "score": {
            "name": "Score",
            "icon": "mdi:percent-outline",
            "unit_of_measurement": "%",
            "state_class": "measurement",
            "value_template": "{{ (value_json.score * 100) | round(1) }}",
        },
        "inference": {
            "name": "Inference",
            "device_class": "duration",
            "unit_of_measurement": "ms",
            "entity_category": "diagnostic",
            "enabled_by_default": False,
            "value_template": "{{ value_json.latency_ms.inference | round(1) }}",
        },
    }
    return {
        f"homeassistant/sensor/edgecls_{name}/{key}/config": json.dumps(
            {
                **sensor,
                "unique_id": f"edgecls_{name}_{key}",
                "state_topic": f"{base}/frame",
                "availability_topic": f"{base}/status",
                "device": about,
                "origin": {"name": "edgecls", "sw_version": version()},
            },
            ensure_ascii=False,
        )
        for key, sensor in sensors.items()
    }


try:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion
except ImportError:
    paho = None  # type: ignore[assignment]

_LOG = logging.getLogger("edgecls.mqtt")
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_EXAMPLE = "mqtt://broker.local or mqtts://broker.local:8883/kitchen?ca=ca.pem"
_OPTIONS = ("ca", "cert", "key", "credentials", "discovery")
# As many as a broker's own default (Mosquitto: max_inflight_messages 20).
_WINDOW = 20
_CONNECT_S = 5.0
_ACKNOWLEDGE_S = 10.0
_STATUS_S = 0.5
_KEEPALIVE_S = 30
# Health words of a camera without frames, and with frames again (supervision.md). Without "offline",
# Home Assistant would show the last answer as current.
_BLIND, _SEES = ("lost", "stalled"), "reopened"


@dataclass(frozen=True, slots=True)
class Broker:
    """A validated broker URL with its credentials.

    Attributes:
        address: ``mqtts`` encrypts.
        topic: prefix of the device's topics.
        tls: None for ``mqtt://``.
        credentials: None: anonymous.
        announce: whether the device is announced to Home Assistant.
        topic_given: whether the URL names the topic.
    """

    address: Address
    topic: str
    tls: ssl.SSLContext | None
    credentials: Credentials | None
    announce: bool
    topic_given: bool = False


def open_mqtt(
    url: str,
    *,
    device: str | None = None,
    service: str | None = None,
    spool_path: str | Path | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Spool:
    """The sink for ``--mqtt URL``: records wait in a spool until the broker acknowledges them.

    Topics are ``TOPIC/frame``, ``TOPIC/event``, ``TOPIC/health``, each with the record's JSON, and
    ``TOPIC/status`` (retained) with ``online`` or ``offline``; TOPIC is the URL's path, by default
    ``edgecls/DEVICE``, or ``edgecls/DEVICE-SERVICE`` for one of several runs on a device. An
    unreachable broker is not an error; see ``Spool.statistics``.

    Args:
        url: ``mqtt://HOST[:1883][/TOPIC][?OPTION=VALUE&...]``, ``mqtts://`` for TLS. Options: ``ca``
            (a PEM file to trust instead of the system's), ``cert`` and ``key`` (of this client),
            ``credentials`` (a file: name, then password), ``discovery=off``. Without a file, name and
            password are ``$EDGECLS_MQTT_USERNAME`` and ``$EDGECLS_MQTT_PASSWORD``.
        device: its name; None: ``$EDGECLS_DEVICE``, else the host's.
        service: distinguishes several runs on one device; None: see ``identity.service_name``.
        spool_path: None: ``identity.default_spool``.
        max_bytes: of the spool.

    Raises:
        SinkSpecError: the URL, a file it names, or the credentials are wrong.
        IdentityInUseError: another run on this machine uses the topic, or the name in Home Assistant.
        SinkNotInstalledError: paho-mqtt is missing.
        SpoolInUseError, WriteError: see ``Spool``.
    """
    device, service = device_name(device), service_name(service)
    publisher = publisher_name(device, service)
    broker = parse_broker(url, publisher)
    path = Path(spool_path) if spool_path is not None else default_spool("mqtt", url, service)
    place = f"{uuid.getnode():x}:{path.absolute()}:{publisher}"
    client_id = hashlib.sha256(place.encode("utf-8", "replace")).hexdigest()
    claim = _claim(broker, publisher)
    try:
        sender = MqttSender(broker, publisher, client_id, claim)
        return Spool(
            path,
            sender,
            max_bytes=max_bytes,
            name=str(broker.address),
            device=device,
            service=service,
        )
    except BaseException:
        claim.close()
        raise


def _claim(broker: Broker, publisher: str) -> Claim:
    """Claims the topic, and the name in Home Assistant, for this process.

    Two runs with one topic would mix the answers of two cameras, and the first to end would publish
    "offline" for both.
    """
    names = [f"{broker.address}/{broker.topic}"]
    if broker.announce:
        names.append(f"{broker.address} homeassistant edgecls_{object_id(publisher)}")
    try:
        return Claim(names)
    except NameTakenError as error:
        what = f"the topic {broker.topic}" if error.name == names[0] else f"the name {publisher}"
        raise IdentityInUseError(
            f"{broker.address}: process {error.process or 'unknown'} of this machine already publishes "
            f"under {what}; expected one run for each. Type: --name NAME, or set EDGECLS_SERVICE=NAME"
            + (", and give another topic in the URL" if broker.topic_given else "")
        ) from error


def parse_broker(url: str, device: str) -> Broker:
    """Reads a broker's URL and the environment, see ``open_mqtt``.

    Raises:
        SinkSpecError: see ``open_mqtt``; no message contains a password.
    """
    address = parse_address(
        url,
        _PORTS,
        example=_EXAMPLE,
        instead=f"set {MQTT_USERNAME} and {MQTT_PASSWORD}, or add ?credentials=FILE",
    )
    given = options(address, _OPTIONS)
    given_topic = plain_path(address)
    topic = given_topic or f"edgecls/{topic_level(device)}"
    if any(letter in topic for letter in "+#\0") or topic.startswith("$"):
        raise SinkSpecError(
            f"{address}: the topic {topic!r} has a wildcard, or begins with $; expected one without, "
            "as in mqtt://broker.local/kitchen/camera"
        )
    announce = given.get("discovery", "on")
    if announce not in ("on", "off"):
        raise SinkSpecError(f"{address}: discovery={announce}; expected on or off")
    file = given.get("credentials")
    credentials = mqtt_credentials(Path(file) if file else None)
    tls = _tls(address, given)
    if credentials and credentials.password and tls is None and not address.is_loopback:
        _LOG.warning("%s: the password is sent unencrypted; mqtts:// encrypts it", address)
    return Broker(address, topic, tls, credentials, announce == "on", bool(given_topic))


def _tls(address: Address, given: dict[str, str]) -> ssl.SSLContext | None:
    files = [name for name in ("ca", "cert", "key") if given.get(name)]
    if address.scheme != "mqtts":
        if files:
            raise SinkSpecError(
                f"{address}: {', '.join(files)} given, but mqtt:// does not encrypt; write mqtts://"
            )
        return None
    if ("key" in files) != ("cert" in files):
        raise SinkSpecError(f"{address}: only one of cert and key given; expected both or none")
    try:
        context = ssl.create_default_context(cafile=given.get("ca") or None)
        if "cert" in files:
            context.load_cert_chain(given["cert"], given["key"], password=lambda: "")
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise SinkSpecError(
            f"{address}: {', '.join(f'{n}={given[n]}' for n in files)} cannot be used "
            f"({getattr(error, 'strerror', None) or error}); expected PEM files that this user may "
            "read, the key without a passphrase"
        ) from error
    return context


class MqttSender:
    """Publishes with QoS 1 and waits for the broker's acknowledgement; the ``Sender`` for MQTT.

    Each connection is a new client: paho-mqtt keeps unacknowledged messages in memory and would send
    them again beside the spool.

    Args:
        broker: the receiver.
        device: name of the device, with its service if there are several.
        client_id: the same at every start, so that the broker closes a connection left by a power cut
            before it accepts the new one, and publishes the old last will in time.
        claim: closed with the sender.

    Raises:
        SinkNotInstalledError: paho-mqtt is missing.
    """

    def __init__(
        self, broker: Broker, device: str, client_id: str, claim: Claim | None = None
    ) -> None:
        if paho is None:
            raise SinkNotInstalledError(
                "MQTT needs the package paho-mqtt, which is not installed; type: "
                "pip install 'edgecls[mqtt]'"
            )
        self._broker = broker
        self._claim = claim
        self._client_id = f"edgecls-{client_id[:15]}"  # 23 characters, which every broker accepts
        self._announcements = discovery(device, broker.topic) if broker.announce else {}
        self._status = f"{broker.topic}/status"
        self._client: Any = None
        self._changed = threading.Condition()
        self._answer: str | None = None  # the broker's reply to CONNECT; "": accepted
        self._lost = False
        self._seeing = True
        self._arrived: set[int] = set()

    @property
    def window(self) -> int:
        """How many parcels may be in flight."""
        return _WINDOW

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        """Publishes parcels; connects first if needed.

        Raises:
            DeliveryError: no connection, or no parcel was acknowledged in time.
        """
        if self._lost:
            self._leave()
        if self._client is None:
            self._connect()
        numbers = self._publish(
            [(f"{self._broker.topic}/{p.kind}", p.body, False) for p in parcels]
        )
        self._follow_camera(parcels)
        arrived = self._wait(numbers)
        if len(arrived) < len(parcels):
            self._leave()
            if not arrived:
                raise DeliveryError(
                    f"{self._broker.address}: the broker disconnected, or does not acknowledge"
                )
        done = [p.seq for p, n in zip(parcels, numbers, strict=True) if n in arrived]
        return Delivery(tuple(done))  # not of an iterator, see benchmarks/soak.py

    def _follow_camera(self, parcels: Sequence[Parcel]) -> None:
        """Publishes "offline" while the camera gives no frames."""
        seeing = self._seeing
        for parcel in parcels:
            if parcel.kind == "health":
                what = json.loads(parcel.body).get("what")
                self._seeing = what == _SEES or (self._seeing and what not in _BLIND)
        if self._seeing != seeing:
            self._wait(self._publish([(self._status, self._now(), True)]), seconds=_STATUS_S)

    def _now(self) -> bytes:
        return b"online" if self._seeing else b"offline"

    def close(self) -> None:
        """Publishes "offline", and disconnects."""
        if self._client is not None and not self._lost:
            self._wait(self._publish([(self._status, b"offline", True)]), seconds=_STATUS_S)
        self._leave()
        if self._claim is not None:
            self._claim.close()

    def _connect(self) -> None:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_S
        client.max_inflight_messages_set(_WINDOW + len(self._announcements) + 1)
        if self._broker.credentials is not None:
            client.username_pw_set(
                self._broker.credentials.username, self._broker.credentials.password
            )
        if self._broker.tls is not None:
            client.tls_set_context(self._broker.tls)
        client.will_set(self._status, b"offline", qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        self._answer, self._lost = None, False
        self._arrived.clear()
        address = self._broker.address
        try:
            client.connect(address.host, address.port, keepalive=_KEEPALIVE_S)
        except (OSError, ValueError) as error:  # ValueError: an invalid host name
            raise DeliveryError(f"{address}: no connection ({_reason(error)})") from error
        client.loop_start()
        self._client = client
        answer = self._wait_for_answer()
        if answer != "":
            self._leave()
            raise DeliveryError(f"{address}: {answer or 'the broker does not answer'}")
        retained = [(topic, text.encode(), True) for topic, text in self._announcements.items()]
        self._wait(self._publish([*retained, (self._status, self._now(), True)]))

    def _wait_for_answer(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._answer is not None or self._lost, _CONNECT_S)
            return self._answer

    def _publish(self, messages: list[tuple[str, bytes, bool]]) -> list[int]:
        return [
            self._client.publish(topic, body, qos=1, retain=retain).mid
            for topic, body, retain in messages
        ]

    def _wait(self, numbers: list[int], seconds: float = _ACKNOWLEDGE_S) -> set[int]:
        """Returns which of these messages the broker acknowledged in time."""
        wanted = set(numbers)
        with self._changed:
            self._changed.wait_for(lambda: self._lost or wanted <= self._arrived, seconds)
            arrived = wanted & self._arrived
            self._arrived -= wanted  # paho reuses message IDs after 65535
        return arrived

    def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.on_disconnect = None
            client.disconnect()
            client.loop_stop()
        self._lost = False

    # Called from paho's thread.

    def _on_connect(self, _c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        with self._changed:
            refusal = f"the broker refuses the connection ({reason})"
            if str(reason) in ("Not authorized", "Bad user name or password"):
                refusal += f"; check {MQTT_USERNAME} and {MQTT_PASSWORD}"
            self._answer = refusal if reason.is_failure else ""
            self._changed.notify_all()

    def _on_disconnect(self, _c: Any, _u: Any, _f: Any, _reason: Any, _p: Any) -> None:
        with self._changed:
            self._lost = True
            self._changed.notify_all()

    def _on_publish(self, _c: Any, _u: Any, number: int, _reason: Any, _p: Any) -> None:
        with self._changed:
            self._arrived.add(number)
            self._changed.notify_all()


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; name its CA with ?ca=FILE"
    return getattr(error, "strerror", None) or str(error)
