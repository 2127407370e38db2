"""The workstation part without what macOS and Windows lack, see ``tests/other_systems.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from host_tools.tflite import pack_model, unpack_model
from tests.integration.run_process import COMMAND, ROOT
from tests.other_systems import MODULES, NAMES, SYSTEMS, site

_IMPORT_ALL = """
import importlib, json, pkgutil, sys
failed = {}
for package in ("edge_sdk", "host_tools"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        try:
            importlib.import_module(found.name)
        except BaseException as error:
            failed[found.name] = f"{type(error).__name__}: {error}"
print(json.dumps(failed))
"""

_FILES = """
import sys
from pathlib import Path
from edge_sdk.errors import SpoolInUseError, WriteError
from edge_sdk.files import write_atomically
from edge_sdk.sinks import identity
from edge_sdk.sinks.jsonl import LineFile

folder = Path(sys.argv[1])
for _ in range(2):
    write_atomically(folder / "twice", b"content")
file = LineFile(folder / "log.jsonl", max_bytes=20, keep=3)
for number in range(10):
    file.append(b'{"schema": %d}\\n' % number)
try:
    LineFile(folder / "log.jsonl")
    sys.exit("two writers")
except WriteError:
    file.close()
held, known = identity.lock(folder / "a.spool")
try:
    identity.lock(folder / "a.spool")
    sys.exit("two spools")
except SpoolInUseError as error:
    assert not known and str(__import__("os").getpid()) in str(error), error
identity.unlock(folder / "a.spool", held)
held, known = identity.lock(folder / "a.spool")
assert known
assert identity.first_number() > 0
held, _ = identity.lock(folder / "forgotten.spool")
identity.unlock(folder / "forgotten.spool", held, forget=True)
"""


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def environment(system: str, tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "site"
    folder.mkdir()
    return {**site(folder, system), "XDG_STATE_HOME": str(tmp_path / "state")}


def _python(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        encoding="utf-8",
        timeout=900,
        cwd=ROOT,
        env=environment,
        check=False,
    )


def _edgecls(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    done = _python(environment, *COMMAND[1:], *words)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_pretence_takes_the_names_away(environment: dict[str, str], system: str) -> None:
    """Without this, everything below could pass for nothing."""
    script = (
        "import json, types\n"
        "module = types.ModuleType('edge_sdk.pretended')\n"
        "lines = ['import ' + name for name in " + repr(sorted(NAMES[system])) + "]\n"
        "exec('\\n'.join(lines), module.__dict__)\n"
        f"names = { {m: sorted(n) for m, n in NAMES[system].items()}!r}\n"
        "there = [f'{m}.{n}' for m in names for n in names[m] if hasattr(getattr(module, m), n)]\n"
        f"for name in {sorted(MODULES[system])!r}:\n"
        "    try:\n"
        "        exec('import ' + name, module.__dict__)\n"
        "    except ModuleNotFoundError:\n"
        "        continue\n"
        "    there.append(name)\n"
        "print(json.dumps([there, module.sys.platform]))\n"
    )
    done = _python(environment, "-c", script)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], system]


def test_every_module_can_be_imported(environment: dict[str, str]) -> None:
    done = _python(environment, "-c", _IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}


def test_pictures_are_classified(
    environment: dict[str, str], int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    picture = next((digit_pictures / "7").glob("*.png"))
    done = _edgecls(environment, "classify", int8_artifact, picture, "--json")
    assert json.loads(done.stdout)["label"] == "7"
    # A third-party model is tried in a child process first, and that is remembered.
    model = unpack_model(int8_artifact.read_bytes())
    model.metadata = []
    third_party = tmp_path / "third_party.tflite"
    third_party.write_bytes(pack_model(model))
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{digit}\n" for digit in range(10)), "utf-8")
    words = ("--labels", labels, "--normalize", "raw", "--json")
    done = _edgecls(environment, "classify", third_party, picture, *words)
    assert (done.returncode, json.loads(done.stdout)["label"]) == (0, "7"), done.stderr


def test_the_loop_runs_over_pictures(
    environment: dict[str, str], int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    done = _edgecls(
        environment,
        *("run", int8_artifact, "--source", digit_pictures, "--json", "--log-file", log),
        *("--save-frames", tmp_path / "kept"),
    )
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if '"frame"' in line]) == 10
    kinds = [json.loads(line)["type"] for line in log.read_text("utf-8").splitlines()]
    assert kinds.count("frame") == 10


def test_files_rotate_and_are_locked(environment: dict[str, str], tmp_path: Path) -> None:
    done = _python(environment, "-c", _FILES, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log.jsonl").read_bytes() == b'{"schema": 9}\n'
    assert (tmp_path / "log.jsonl.2").read_bytes() == b'{"schema": 7}\n'
    assert not (tmp_path / "forgotten.spool-lock").exists()


def test_the_drop_is_validated_and_a_model_is_looked_at(
    environment: dict[str, str], int8_artifact: Path, float16_artifact: Path, digit_pictures: Path
) -> None:
    done = _edgecls(
        environment,
        *("validate", int8_artifact, "--reference", float16_artifact),
        *("--data", digit_pictures, "--split", "all", "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["artifacts"][0]["agreement"] == 1
    assert _edgecls(environment, "inspect", int8_artifact).returncode == 0


@pytest.mark.slow
def test_the_demo_trains_converts_validates_runs_and_reports(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = _edgecls(environment, "demo", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    for name in ("model.keras", "digits_int8.tflite", "report.html", "bench.html"):
        assert (tmp_path / "demo" / name).is_file()


def test_a_benchmark_is_made_of_what_the_machine_says(
    environment: dict[str, str], int8_artifact: Path
) -> None:
    done = _edgecls(environment, "bench", int8_artifact, "--seconds", "1", "--json")
    (benchmark,) = map(json.loads, done.stdout.splitlines())
    (model,) = benchmark["models"]
    assert model["latency_ms"]["p50"] > 0
    assert model["peak_rss_mb"] is None  # nothing says it there


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("run", "MODEL", "--camera", "fake:PICTURES"), id="camera"),
        pytest.param(("run", "MODEL", "--camera", "webcam"), id="webcam"),
        pytest.param(("service", "install", "MODEL", "--dry-run"), id="service install"),
        pytest.param(("service", "status"), id="service status"),
        pytest.param(("service", "remove"), id="service remove"),
        pytest.param(("doctor",), id="doctor"),
        pytest.param(("soak", "MODEL", "--minutes", "1"), id="soak"),
    ],
)
def test_what_takes_linux_is_refused_by_name(
    words: tuple[str, ...],
    environment: dict[str, str],
    system: str,
    int8_artifact: Path,
    digit_pictures: Path,
) -> None:
    given = {"MODEL": str(int8_artifact)}
    done = _edgecls(
        environment,
        *(given.get(word, word.replace("PICTURES", str(digit_pictures))) for word in words),
    )
    assert done.returncode == 5
    assert f"this is {'macOS' if system == 'darwin' else 'Windows'}; " in done.stderr
    assert " needs Linux. " in done.stderr
