"""What pip installs on which system: markers evaluated for other boards."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

_CONFIG = configparser.ConfigParser()
_CONFIG.read(Path(__file__).parents[2] / "setup.cfg", encoding="utf-8")

_MACHINES = {
    "Pi, 64-bit, Python 3.11": ("aarch64", "linux", "3.11"),
    "Pi, 64-bit, Python 3.13": ("aarch64", "linux", "3.13"),
    "Pi, 32-bit, Python 3.11": ("armv7l", "linux", "3.11"),
    "Pi Zero, Python 3.11": ("armv6l", "linux", "3.11"),
    "workstation": ("x86_64", "linux", "3.12"),
    "Mac": ("arm64", "darwin", "3.12"),
}


def _installed(extra: str | None, machine: str) -> set[str]:
    requirements = pytest.importorskip(
        "packaging.requirements", reason="the extra [host] is not installed"
    )
    architecture, system, python = _MACHINES[machine]
    environment = {
        "platform_machine": architecture,
        "sys_platform": system,
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    lines = _CONFIG["options"]["install_requires"]
    if extra is not None:
        lines = _CONFIG["options.extras_require"][extra]
    names = set()
    for line in lines.strip().splitlines():
        if line.strip().startswith("#"):
            continue
        requirement = requirements.Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            names.add(requirement.name)
    return names


def test_the_base_installation_is_slim() -> None:
    assert _installed(None, "workstation") == {
        "numpy",
        "opencv-python-headless",
        "click",
        "flatbuffers",
        "ai-edge-litert",
    }


@pytest.mark.parametrize("machine", _MACHINES)
def test_every_machine_gets_at_most_the_interpreter_that_has_a_wheel_for_it(machine: str) -> None:
    interpreters = _installed(None, machine) & {"ai-edge-litert", "tflite-runtime"}
    expected = {
        "Pi, 32-bit, Python 3.11": {"tflite-runtime"},
        "Pi Zero, Python 3.11": set(),  # no wheel exists
    }
    assert interpreters == expected.get(machine, {"ai-edge-litert"})


@pytest.mark.parametrize(
    ("machine", "tensorflow"),
    [
        ("workstation", "tensorflow-cpu"),
        ("Pi, 64-bit, Python 3.11", "tensorflow"),
        ("Mac", "tensorflow"),
    ],
)
def test_tensorflow_comes_in_the_build_that_the_machine_has(machine: str, tensorflow: str) -> None:
    assert {n for n in _installed("host", machine) if n.startswith("tensorflow")} == {tensorflow}


def test_a_32_bit_board_is_asked_for_nothing_it_cannot_have() -> None:
    for extra in ("pi", "coral", "onnx"):
        unavailable = {"ai-edge-litert", "onnxruntime", "tensorflow", "tensorflow-cpu"}
        assert not _installed(extra, "Pi, 32-bit, Python 3.11") & unavailable


def test_every_requirement_has_a_lower_and_an_upper_bound() -> None:
    sections = [_CONFIG["options"]["install_requires"], *_CONFIG["options.extras_require"].values()]
    for line in "\n".join(sections).strip().splitlines():
        name = line.split(";")[0].strip()
        if name and not name.startswith("#"):
            assert "<" in name, f"{name} has no upper bound"
