"""Fixtures, and the rule that no test is skipped in silence."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

with contextlib.suppress(ImportError):  # MediaPipe's environment has none
    from hypothesis import settings

    # How long one example takes says how busy the machine is.
    settings.register_profile("edgecls", deadline=None)
    settings.load_profile("edgecls")

# A shell starts jobs in the background with Ctrl-C ignored, nohup those it starts with SIGHUP; and so
# would everything that tests start.
with contextlib.suppress(ValueError):  # not the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tests run on every core already (pytest -n); TensorFlow's threads would only wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

GOLDEN = Path(__file__).parent / "golden"
_ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.txt"
_PUBLIC_DATA = Path(
    os.environ.get("EDGECLS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Of `tests/arithmetic.py`."""
    text = "LiteRT computes with its own kernels, in this process"
    parser.addoption("--without-xnnpack", action="store_true", help=text)


@pytest.fixture(scope="session", autouse=True)
def _xnnpack(request: pytest.FixtureRequest) -> Iterator[None]:
    """With ``--without-xnnpack``, backend ``cpu`` is ``litert-noxnnpack``."""
    if not request.config.getoption("--without-xnnpack"):
        yield
        return
    from edge_sdk.engines.litert import LiteRTEngine

    usual = LiteRTEngine.__init__

    def without_xnnpack(engine: LiteRTEngine, model: bytes, **options: Any) -> None:
        usual(engine, model, **{**options, "xnnpack": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LiteRTEngine, "__init__", without_xnnpack)
        yield


@pytest.fixture(scope="session")
def _proved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the golden artifacts have had their trials, half a second each."""
    from edge_sdk import Classifier, EdgeClsError

    cache = tmp_path_factory.mktemp("proved")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        for path in GOLDEN.glob("*.*"):
            with contextlib.suppress(EdgeClsError):  # no model, or its runtime is not installed
                Classifier.open(path).close()
    return cache


@pytest.fixture(autouse=True)
def _own_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, _proved: Path
) -> None:
    """What is kept per user: tests must not read or leave such files."""
    cache = tmp_path_factory.mktemp("cache")
    shutil.copytree(_proved, cache, dirs_exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(scope="session")
def int8_artifact() -> Path:
    """A real int8 artifact of ours: ten digits, 32x32 RGB."""
    return GOLDEN / "digits_int8.tflite"


@pytest.fixture(scope="session")
def float16_artifact() -> Path:
    """The same model in float16."""
    return GOLDEN / "digits_float16.tflite"


@pytest.fixture(scope="session")
def onnx_artifact() -> Path:
    """Another model of the same pictures, as int8 ONNX."""
    return GOLDEN / "digits_onnx_int8.onnx"


@pytest.fixture(scope="session")
def digit_pictures() -> Path:
    """A folder per digit with one real picture each, none of which the model was trained on."""
    return GOLDEN / "digits"


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The folder of public models and pictures, see CONTRIBUTING.md; skips where it is absent."""
    if not _PUBLIC_DATA.is_dir():
        pytest.skip("public test data is absent; see CONTRIBUTING.md")
    return _PUBLIC_DATA


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Names the skips that `allowed_skips.txt` does not list."""
    for reason in _unexpected_skips(terminalreporter):
        terminalreporter.write_line(f"skipped without permission: {reason}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skip that allowed_skips.txt does not list fails the session."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(reporter, pytest.TerminalReporter) and _unexpected_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unexpected_skips(reporter: pytest.TerminalReporter) -> list[str]:
    lines = _ALLOWED_SKIPS.read_text("utf-8").splitlines()
    allowed = [line.split("#")[0].strip() for line in lines]
    found = []
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(entry and entry in reason for entry in allowed):
            found.append(f"{report.nodeid}: {reason}")
    return found
