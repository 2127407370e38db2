"""Checks of a service: its unit, its model files, its broker.

The broker check has its own MQTT handshake: the sink would announce the device, and publish "offline"
for a running one on disconnecting.
"""

from __future__ import annotations

import errno
import shlex
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.device.doctor.context import Context, Finding
from edge_sdk.device.doctor.coral import has_coral
from edge_sdk.device.doctor.installation import LITERT, broken, left_out
from edge_sdk.device.unit_install import CommandResult, Host
from edge_sdk.errors import (
    ArtifactNotFoundError,
    DelegateError,
    DeliveryError,
    EdgeClsError,
    EngineNotInstalledError,
    SelfTestError,
    ServiceError,
    SinkSpecError,
    UndescribedArtifactError,
    WriteError,
)
from edge_sdk.last_good import LastGood
from edge_sdk.retry import Deadline, connect, send
from edge_sdk.sinks.address import MQTT_PASSWORD, MQTT_USERNAME

if TYPE_CHECKING:
    from edge_sdk.sinks.mqtt import Broker

_MANY_RESTARTS = 3


def unit(context: Context) -> Iterator[Finding]:
    """Its state, where it is installed."""
    if broken(context):  # the reason why it does not run
        return
    from edge_sdk.device.unit_state import unit_state

    name = context.options.unit
    quoted = shlex.quote(name)
    try:
        state = unit_state(_host(context), name)
    except ServiceError:  # systemd is not running
        return
    if not state.installed:
        return
    because = f": {state.reason}" if state.reason else ""
    log = f"journalctl -u {quoted} -n 50 --no-pager"
    if state.state == "failed":
        yield Finding(
            "error",
            f"the service {name} has failed{because}",
            "nothing is classified; its log has the details",
            log,
        )
    elif not state.is_running and state.reason.startswith("systemd cannot read"):
        yield Finding(
            "error",
            f"the service {name} cannot start{because}",
            "nothing is classified until its file is fixed",
            f"systemd-analyze verify /etc/systemd/system/{quoted}.service",
        )
    elif state.restarts >= _MANY_RESTARTS:
        yield Finding(
            "warning",
            f"the service {name} was restarted {state.restarts} times{because}",
            "it fails repeatedly; its log has the cause",
            log,
        )
    elif state.state == "stopped":
        yield Finding(
            "warning",
            f"the service {name} is installed and stopped",
            "nothing is classified",
            f"sudo systemctl start {quoted}",
        )
    elif not state.at_boot:
        yield Finding(
            "warning",
            f"the service {name} runs, but is not enabled at boot",
            "after a power cut it does not start again",
            f"sudo systemctl enable {quoted}",
        )
    else:
        yield Finding("ok", f"the service {name} is {state.state}", "it restarts edgecls run")


def _host(context: Context) -> Host:
    def systemctl(words: Sequence[str]) -> CommandResult:
        printed = context.system.output(("systemctl", *words))
        return CommandResult(0 if printed is not None else 1, printed or "")

    return Host(context.system.root, systemctl)


_WHY = "nothing can be classified with it"
_COMPARE = "compare its SHA-256 with that of the original file"


def models(context: Context) -> Iterator[Finding]:
    """Opens every given model file, and runs its self-test."""
    for path in context.options.models:
        package = broken(context)
        yield left_out(str(path), package) if package else _opened(context, path)


def _opened(context: Context, path: Path) -> Finding:
    from edge_sdk.artifact import Artifact
    from edge_sdk.classifier import Classifier

    name = shlex.quote(str(path))
    try:
        artifact = Artifact.open(path)
        if artifact.needs_edgetpu and not has_coral(context):
            return Finding(
                "error",
                f"{path}: compiled for the Coral Edge TPU, and there is none here",
                f"{_WHY}: the processor cannot run it; plug a Coral in, or use the file that it was "
                "compiled from",
                "lsusb | grep -E '1a6e:089a|18d1:9302'",
            )
        backend = "edgetpu" if artifact.needs_edgetpu else "cpu"
        with Classifier.open(path, backend):
            pass
    except ArtifactNotFoundError as error:
        return Finding("error", str(error), _WHY, f"ls -l {shlex.quote(str(path.parent))}")
    except UndescribedArtifactError as error:
        return Finding(
            "warning",
            str(error),
            "it is a third-party model without a complete description; run takes the same options",
            f"edgecls inspect {name}",
        )
    except DelegateError as error:
        return Finding("error", str(error), _WHY, "sudo dmesg | grep -iE 'usb|apex' | tail")
    except EngineNotInstalledError as error:
        package = "'edgecls[onnx]'" if artifact.kind == "onnx" else LITERT
        return Finding("error", str(error), _WHY, context.pip(f"install {package}"))
    except SelfTestError as error:
        return Finding(
            "error",
            str(error),
            f"its answers would be wrong; {_COMPARE}{_kept(path)}",
            f"sha256sum {name}",
        )
    except EdgeClsError as error:
        return Finding(
            "error",
            str(error),
            f"{_WHY}; {_COMPARE}{_kept(path)}",
            f"sha256sum {name}",
        )
    if artifact.manifest is None:
        return Finding("ok", f"{path} opens", "a third-party model has no self-test")
    return Finding("ok", f"{path} opens", "it passes its self-test")


def _kept(path: Path) -> str:
    """The copy that ``run`` would start with, if this user can read it."""
    try:
        copy = LastGood.of(path).find()
    except WriteError:
        return ""
    if copy is None:
        return ""
    return f"; edgecls run starts with the last good copy, {copy}"


_TIMEOUT_S = 5.0
_BROKER_WHY = "results are sent there; until then they are stored on the disk"
# MQTT 3.1.1, table 3.1.
_REFUSALS = {
    1: "it does not support MQTT 3.1.1",
    2: "it refuses the client ID",
    3: "it is not available",
    4: "bad user name or password",
    5: "not authorized",
}
_BAD_CREDENTIALS = (4, 5)
# Likely causes of connection errors.
_CAUSES: dict[int | None, str] = {
    errno.ECONNREFUSED: "; no program listens on that port for other machines, or a firewall refuses",
    errno.ETIMEDOUT: "; the machine is off or busy, the address is wrong, or a firewall blocks it",
    errno.EHOSTUNREACH: "; no machine has that address",
    errno.ENETUNREACH: "; this machine has no route to that network",
}


def reachable(context: Context) -> Iterator[Finding]:
    """Connects to the given broker, authenticates, and disconnects."""
    url = context.options.mqtt
    if url is None:
        return
    if context.distribution("paho-mqtt") is None:
        yield Finding(
            "error",
            "MQTT needs the package paho-mqtt, which is not installed",
            _BROKER_WHY,
            context.pip("install 'edgecls[mqtt]'"),
        )
        return
    if package := broken(context):
        yield left_out("the broker", package)
        return
    from edge_sdk.sinks.mqtt import parse_broker

    try:
        broker = parse_broker(url, "doctor")
    except SinkSpecError as error:
        yield Finding("error", str(error), _BROKER_WHY, "edgecls doctor --mqtt mqtt://broker.local")
        return
    host, port = broker.address.host, broker.address.port
    try:
        _handshake_with(broker)
    except socket.gaierror as error:
        reason, fix = error.strerror or "unknown", f"getent hosts {shlex.quote(host)}"
        yield Finding(
            "error", f"{broker.address}: the host name is unknown ({reason})", _BROKER_WHY, fix
        )
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", None) or error.reason or str(error)
        yield Finding(
            "error",
            f"{broker.address}: no encrypted connection ({reason})",
            f"{_BROKER_WHY}; a private CA must be given in the URL, as in "
            "mqtts://broker.local?ca=ca.pem, and the clock must be right",
            f"openssl s_client -connect {shlex.quote(host)}:{port} -showcerts </dev/null",
        )
    except _BadCredentialsError as error:
        yield Finding(
            "error",
            f"{broker.address}: {error}",
            f"{_BROKER_WHY}; name and password come from the environment or from ?credentials=FILE",
            f"export {MQTT_USERNAME}=NAME {MQTT_PASSWORD}=PASSWORD",
        )
    except DeliveryError as error:
        yield Finding(
            "error", f"{broker.address}: {error}", _BROKER_WHY, f"nc -vz {shlex.quote(host)} {port}"
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        yield Finding(
            "error",
            f"{broker.address}: no connection ({reason})",
            f"{_BROKER_WHY}{_CAUSES.get(_number(error), '')}",
            f"nc -vz {shlex.quote(host)} {port}",
        )
    else:
        yield Finding("ok", f"{broker.address} answers", _BROKER_WHY)


class _BadCredentialsError(DeliveryError):
    """The broker refuses the user name or password."""


def _number(error: OSError | ValueError) -> int | None:
    return errno.ETIMEDOUT if isinstance(error, TimeoutError) else getattr(error, "errno", None)


def _handshake_with(broker: Broker) -> None:
    """Raises DeliveryError: the broker refuses; OSError: it cannot be reached."""
    address, deadline = broker.address, Deadline.after(_TIMEOUT_S)
    with connect(address.host, address.port, deadline) as plain:
        if broker.tls is None:
            _handshake(plain, broker, deadline)
        else:
            plain.settimeout(deadline.left_s())
            with broker.tls.wrap_socket(plain, server_hostname=address.host) as encrypted:
                _handshake(encrypted, broker, deadline)


def _handshake(connection: socket.socket, broker: Broker, deadline: Deadline) -> None:
    send(connection, _connect_packet(broker), deadline)
    answer = b""
    while len(answer) < 4:
        connection.settimeout(deadline.left_s())
        piece = connection.recv(4 - len(answer))
        if not piece:
            raise DeliveryError("it closes the connection without an answer; is it an MQTT broker?")
        answer += piece
    if answer[:2] != b"\x20\x02":
        raise DeliveryError("its answer is not MQTT; is it an MQTT broker?")
    if answer[3]:
        refused = f"it refuses the connection ({_REFUSALS.get(answer[3], f'code {answer[3]}')})"
        raise (_BadCredentialsError if answer[3] in _BAD_CREDENTIALS else DeliveryError)(refused)
    send(connection, b"\xe0\x00", deadline)  # DISCONNECT


def _connect_packet(broker: Broker) -> bytes:
    """CONNECT of MQTT 3.1.1, section 3.1: clean session, client ID chosen by the broker, no will."""
    flags, payload = 0x02, [b""]
    if broker.credentials is not None:
        flags |= 0x80
        payload.append(broker.credentials.username.encode())
        if broker.credentials.password is not None:
            flags |= 0x40
            payload.append(broker.credentials.password.encode())
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x1e"
    body += b"".join(len(text).to_bytes(2, "big") + text for text in payload)
    length, rest = b"", len(body)
    while True:
        rest, digit = divmod(rest, 128)[0], rest % 128
        length += bytes([digit | 0x80 if rest else digit])
        if not rest:
            return b"\x10" + length + body
