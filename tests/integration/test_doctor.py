"""``edgecls doctor`` with real model files and real brokers, and its text output."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edge_sdk.device.doctor import service
from edge_sdk.device.doctor.context import (
    SEVERITIES,
    Context,
    DoctorOptions,
    Finding,
    Loaded,
    this_machine,
)
from edge_sdk.machine.board import System
from edge_sdk.sinks.address import MQTT_PASSWORD, MQTT_USERNAME
from tests.integration.host import edgecls
from tests.integration.receivers import (
    MOSQUITTO,
    Broker,
    DripServer,
    Subscriber,
    drops,
    free_port,
)


def _loads(_: str) -> Loaded:
    """At once: the child processes are tried elsewhere."""
    return Loaded("9.9")


def _model(path: Path, root: Path = Path("/nothing")) -> Finding:
    here = this_machine(DoctorOptions(models=(path,)))
    context = replace(here, system=System(root, lambda _: None), load=_loads)
    (finding,) = service.models(context)
    return finding


def test_a_good_artifact(int8_artifact: Path) -> None:
    finding = _model(int8_artifact)
    assert (finding.severity, finding.fix) == ("ok", None)
    assert "self-test" in finding.why


def test_a_truncated_artifact(int8_artifact: Path, tmp_path: Path) -> None:
    cut = tmp_path / "a cut.tflite"
    cut.write_bytes(int8_artifact.read_bytes()[:-500])
    finding = _model(cut)
    assert finding.severity == "error"
    assert finding.fix == f"sha256sum {shlex.quote(str(cut))}"


def test_an_artifact_with_other_weights(int8_artifact: Path, tmp_path: Path) -> None:
    data = bytearray(int8_artifact.read_bytes())
    data[len(data) // 3] ^= 0xFF
    other = tmp_path / "other.tflite"
    other.write_bytes(bytes(data))
    finding = _model(other)
    assert finding.severity == "error"
    assert finding.fix == f"sha256sum {shlex.quote(str(other))}"


def test_a_foreign_model_that_does_not_say_everything(public_data: Path) -> None:
    finding = _model(public_data / "models" / "mlperf_tiny_resnet8_int8.tflite")
    assert finding.severity == "warning"
    assert "give --labels FILE with 10 lines" in finding.what
    assert (finding.fix or "").startswith("edgecls inspect ")


def test_a_foreign_model_that_does(public_data: Path) -> None:
    finding = _model(public_data / "models" / "mobilenet_v1_0.25_128_quant.tflite")
    assert finding.severity == "ok"
    assert "no self-test" in finding.why


def test_an_edge_tpu_file_without_a_coral(public_data: Path) -> None:
    finding = _model(public_data / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    assert finding.severity == "error"
    assert "there is none here" in finding.what
    assert finding.fix == "lsusb | grep -E '1a6e:089a|18d1:9302'"


def test_an_edge_tpu_file_whose_coral_does_not_answer(public_data: Path, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "apex_0").touch()
    finding = _model(
        public_data / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite", tmp_path
    )
    assert finding.severity == "error"
    assert "libedgetpu" in finding.what
    assert "dmesg" in (finding.fix or "")


@pytest.mark.parametrize("command", ["classify", "run", "validate", "inspect"])
@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128", "mobilenet_v2_1.0_224"])
def test_every_command_says_what_an_edge_tpu_file_is(
    command: str, name: str, public_data: Path, digit_pictures: Path
) -> None:
    model = public_data / "models" / f"{name}_quant_edgetpu.tflite"  # one without labels, too
    words: dict[str, list[object]] = {
        "classify": [digit_pictures],
        "run": ["--source", digit_pictures],
        "validate": ["--reference", model, "--data", digit_pictures],
        "inspect": [],
    }
    result = edgecls(command, model, *words[command])
    assert result.exit_code == (0 if command == "inspect" else 5)
    assert "compiled for the Coral Edge TPU" in result.stderr


# Brokers.


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (MQTT_USERNAME, MQTT_PASSWORD, "EDGECLS_MQTT", "EDGECLS_MODEL"):
        monkeypatch.delenv(name, raising=False)


def _context(url: str) -> Context:
    return replace(
        this_machine(DoctorOptions(mqtt=url)), distribution=lambda _: "2.1.0", load=_loads
    )


def test_a_broker_that_drips_is_given_up_after_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "_TIMEOUT_S", 0.5)
    # The whole answer takes four times 0.3 s, each piece less than the limit.
    with DripServer(drops(b"\x20\x02\x00\x00"), 0.3) as server:
        finding = _broker(f"mqtt://127.0.0.1:{server.port}")
    assert finding.severity == "error"
    assert "no connection (timed out)" in finding.what


def _broker(url: str) -> Finding:
    (finding,) = service.reachable(_context(url))
    return finding


@pytest.fixture(params=["mosquitto", "amqtt"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    pytest.importorskip("paho", reason="the extra [mqtt] is not installed")
    if request.param == "mosquitto" and MOSQUITTO is None:
        pytest.skip("Mosquitto is not installed")
    brokers: list[Broker] = []

    def start(**options: object) -> Broker:
        brokers.append(Broker(str(request.param), tmp_path, **options))  # type: ignore[arg-type]
        brokers[-1].start()
        return brokers[-1]

    yield start
    for each in brokers:
        each.stop()


def test_a_broker_that_answers_hears_nothing_of_us(make: Callable[..., Broker]) -> None:
    real = make()
    listening = Subscriber(real)
    assert _broker(f"mqtt://127.0.0.1:{real.port}").severity == "ok"
    listening.close()
    assert listening.messages == []


def test_a_broker_that_wants_a_password(
    make: Callable[..., Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"mqtt://127.0.0.1:{make(password='secret').port}"
    refused = _broker(url)
    assert refused.severity == "error"
    assert "refuses the connection" in refused.what
    assert f"export {MQTT_USERNAME}" in (refused.fix or "")
    monkeypatch.setenv(MQTT_USERNAME, "camera")
    monkeypatch.setenv(MQTT_PASSWORD, "secret")
    assert _broker(url).severity == "ok"


def test_a_broker_with_a_certificate_of_its_own(
    make: Callable[..., Broker], tmp_path: Path
) -> None:
    trustme = pytest.importorskip("trustme", reason="the extra [host] is not installed")
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    server.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    url = f"mqtts://127.0.0.1:{make(certificate=tmp_path / 'server.pem').port}"
    untrusted = _broker(url)
    assert untrusted.severity == "error"
    assert "no encrypted connection" in untrusted.what
    assert "?ca=" in untrusted.why
    assert "openssl s_client" in (untrusted.fix or "")
    assert _broker(f"{url}?ca={tmp_path / 'ca.pem'}").severity == "ok"


def test_a_port_that_nobody_listens_at() -> None:
    port = free_port()
    finding = _broker(f"mqtt://127.0.0.1:{port}")
    assert finding.severity == "error"
    assert "no connection (Connection refused)" in finding.what
    assert finding.fix == f"nc -vz 127.0.0.1 {port}"


def test_a_name_that_nobody_has() -> None:
    finding = _broker("mqtt://broker.invalid")
    assert finding.severity == "error"
    assert finding.fix == "getent hosts broker.invalid"


def test_an_address_that_is_none_shows_no_password() -> None:
    finding = _broker("mqtt://me:secret@broker.local")
    assert finding.severity == "error"
    assert "secret" not in str(finding)


@contextmanager
def _answering(answer: bytes) -> Iterator[int]:
    """A server that takes what comes first, gives one answer and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "reported"),
    [
        (b"", "closes the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "its answer is not MQTT"),
        (b"\x20\x02\x00\x05", "refuses the connection (not authorized)"),
        (b"\x20\x02\x00\x99", "refuses the connection (code 153)"),
    ],
)
def test_something_else_at_that_port(answer: bytes, reported: str) -> None:
    with _answering(answer) as port:
        finding = _broker(f"mqtt://127.0.0.1:{port}")
    assert finding.severity == "error"
    assert reported in finding.what


def test_a_broker_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        finding = _broker(f"mqtt://127.0.0.1:{server.getsockname()[1]}")
    assert "timed out" in finding.what


# The command.


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sdk.device.doctor.context.load_module", _loads)


@pytest.mark.usefixtures("quick")
def test_json_is_one_object(int8_artifact: Path) -> None:
    result = edgecls("doctor", int8_artifact, "--json")
    (line,) = result.stdout.splitlines()
    reported = json.loads(line)
    assert (reported["schema"], reported["type"]) == (1, "doctor")
    for finding in reported["findings"]:
        assert list(finding) == ["severity", "what", "why", "fix"]
        assert finding["severity"] in SEVERITIES
        assert finding["what"]
        assert finding["why"]
    ranks = [SEVERITIES.index(finding["severity"]) for finding in reported["findings"]]
    assert ranks == sorted(ranks)
    assert any(int8_artifact.name in finding["what"] for finding in reported["findings"])


@pytest.mark.usefixtures("quick")
def test_something_needed_that_is_missing_is_exit_5(tmp_path: Path) -> None:
    model = tmp_path / ("long_name_" * 15 + ".tflite")
    result = edgecls("doctor", model)
    assert result.exit_code == 5
    first, *rest = result.stdout.splitlines()
    assert first.startswith("error    ")
    assert f"         $ ls -l {shlex.quote(str(tmp_path))}" in rest  # whole, however long
    assert "1 error" in rest[-1]
    assert "\x1b" not in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.usefixtures("quick")
def test_the_variables_of_run_serve_the_doctor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGECLS_MODEL", str(tmp_path / "absent.tflite"))
    monkeypatch.setenv("EDGECLS_MQTT", "http://no-broker")
    reported = json.loads(edgecls("doctor", "--json").stdout)
    errors = [f["what"] for f in reported["findings"] if f["severity"] == "error"]
    assert any("absent.tflite" in what for what in errors)
    assert any("http" in what or "paho-mqtt" in what for what in errors)


@pytest.mark.usefixtures("quick")
def test_what_is_fine_is_counted_and_told_on_demand() -> None:
    short, long = edgecls("doctor").stdout, edgecls("doctor", "--all").stdout
    assert "checks passed (edgecls doctor --all lists them)" in short
    assert "\nok       " not in f"\n{short}"
    assert "\nok       numpy" in f"\n{long}"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("folder", ["/proc/self/edgecls"])  # closed even to root
def test_results_that_have_no_place(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", folder)
    reported = json.loads(edgecls("doctor", "--json").stdout)
    assert any(
        "/proc/self" in f["what"] and f["severity"] == "warning" for f in reported["findings"]
    )


@pytest.mark.parametrize("package", ["numpy", "cv2", "flatbuffers"])
def test_it_starts_where_a_package_is_broken(
    package: str, tmp_path: Path, int8_artifact: Path
) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    # As a wheel for another processor: importing it ends the process.
    (folder / f"{package}.py").write_text("import os; os.kill(os.getpid(), 4)", "utf-8")
    words = ("doctor", str(int8_artifact), "--mqtt", "mqtt://127.0.0.1:1", "--json")
    done = subprocess.run(
        [sys.executable, "-c", "from host_tools.cli import main; main()", *words],
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])},
    )
    assert done.returncode == 5, done.stderr
    findings = json.loads(done.stdout)["findings"]
    errors = [f["what"] for f in findings if f["severity"] == "error"]
    name = "OpenCV" if package == "cv2" else package
    assert f"{name} does not load: it crashes with SIGILL" in errors
    left_out = [f for f in findings if f["what"].endswith(": not checked")]
    assert len(left_out) == 2
    assert all(package in f["why"] for f in left_out)


def test_this_machine_runs_models() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from host_tools.cli import main; main()", "doctor", "--json"],
        capture_output=True,
        check=False,
        timeout=120,
    )
    reported = json.loads(done.stdout)
    assert not [f for f in reported["findings"] if "failed" in f["what"]]
    needed = ("numpy", "OpenCV", "interpreter", "LiteRT")
    bad = [f for f in reported["findings"] if f["severity"] == "error"]
    assert not [f for f in bad if f["what"].startswith(needed)]
