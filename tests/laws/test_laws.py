"""The laws that import-linter cannot check, read from the syntax of every module.

Each check is a function from source code to violations; each is shown to catch a module that breaks
its law, and then asked about the whole repository.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.other_systems import MODULES, NAMES

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("edge_sdk", "host_tools")

# Law 2: a third-party library is imported in one place (a prefix of the paths that may import it).
_DOORS: dict[str, tuple[str, ...]] = {
    "click": ("edge_sdk/cli/", "host_tools/cli/"),
    "ai_edge_litert": (
        "edge_sdk/engines/litert.py",
        "edge_sdk/engines/operators.py",
        "host_tools/tflite.py",
    ),
    "tflite_runtime": ("edge_sdk/engines/litert.py",),
    "paho": ("edge_sdk/sinks/mqtt.py",),
    "prometheus_client": ("edge_sdk/sinks/metrics.py",),
    "onnxruntime": ("edge_sdk/engines/onnx.py", "host_tools/quantize/onnx.py"),
    "onnx": ("host_tools/quantize/onnx.py",),
    "tf2onnx": ("host_tools/quantize/onnx.py",),
    "picamera2": ("edge_sdk/sources/picamera.py",),
    "flatbuffers": (
        "edge_sdk/artifact/tflite.py",
        "host_tools/tflite.py",
        "host_tools/tflite.py",
    ),
    "tensorflow": (
        "host_tools/explain/grad_cam.py",
        "host_tools/quantize/",
        "host_tools/package.py",
        "host_tools/repair/fine_tune.py",
        "host_tools/train/objective.py",
        "host_tools/train/fit.py",
    ),
    "keras": (
        "host_tools/download.py",
        "host_tools/data/layouts/cifar10.py",
        "host_tools/models/",
        "host_tools/train/",
        "host_tools/quantize/",
        "host_tools/explain/grad_cam.py",
        "host_tools/third_party/keras.py",
        "host_tools/repair/fine_tune.py",
    ),
    "litert_quantizer": ("host_tools/quantize/int8.py",),
    "sklearn": ("host_tools/data/digits.py", "host_tools/evaluate/"),
    "matplotlib": ("host_tools/explain/heat.py", "host_tools/report/"),
    "scipy": ("host_tools/explain/heat.py", "host_tools/scores/"),
    "shap": ("host_tools/explain/shapley.py", "host_tools/explain/methods.py"),
    "jinja2": ("host_tools/pages/",),
    "tqdm": ("host_tools/progress.py",),
    "filelock": ("host_tools/data/cache.py", "host_tools/run_directory.py"),
}
# Law 3: who may crop, resize or convert colours. The other two draw pictures of their own.
_PIXEL_CALLS = ("cv2.resize", "cv2.cvtColor", "cv2.warpAffine", "cv2.remap")
_PIXEL_DOORS = (
    "edge_sdk/vision/preprocess.py",
    "host_tools/data/augment.py",
    "host_tools/data/digits.py",
    "host_tools/package.py",
)
# Law 8: what a command module may import before its callback runs.
_LIGHT = (
    *(
        "__future__",
        "click",
        "collections.abc",
        "contextlib",
        "errno",
        "functools",
        "io",
        "logging",
        "pathlib",
        "signal",
        "sys",
        "threading",
    ),
    *("typing", "warnings"),
)
_LIGHT_OURS = ("edge_sdk", "edge_sdk.errors", "edge_sdk.terminal", "edge_sdk.cli", "host_tools.cli")
# Two printers that command callbacks import, not command modules.
_NOT_COMMANDS = ("edge_sdk/cli/output.py", "host_tools/cli/output.py")
_VAGUE_NAMES = ("utils", "helpers", "common", "manager", "handler", "misc")
# Law 5: what a training updates as it goes is the one value that is not frozen.
_MUTABLE = ("TrainingProgress",)
# What takes Linux, and refuses any other system by name before it begins; and the one that asks.
_ON_LINUX = (
    "edge_sdk/systems.py",
    "edge_sdk/device/",
    "edge_sdk/sources/capture_process.py",
    "edge_sdk/sources/shared_frames.py",
    "edge_sdk/sources/supervised.py",
    "edge_sdk/sources/webcam.py",
    "host_tools/edgetpu/compiler.py",
)
# Beside systems.py: what a library is called.
_ASKS_WHERE = ("edge_sdk/engines/edgetpu.py",)
# Names that are used only where the module has found that they, or /proc, are there.
_ASKED_FOR = {
    "edge_sdk/vision/jpeg.py": ("register_at_fork",),  # with the GNU C library
    "edge_sdk/machine/load.py": ("sysconf",),
    "edge_sdk/sinks/identity.py": ("AF_UNIX", "SO_PEERCRED", "clock_gettime_ns"),
    "edge_sdk/sources/capture.py": ("clock_gettime_ns", "CLOCK_BOOTTIME"),
    "edge_sdk/loop/service.py": ("AF_UNIX",),
}
# One module is one idea that a person names in a word; past this it is two.
_MAX_LINES = 600


def _foreign_doors(path: str, source: str) -> Iterator[str]:
    for name in _imported(ast.parse(source)):
        doors = _DOORS.get(name.split(".")[0])
        if doors is not None and not path.startswith(doors):
            yield f"{path} imports {name}, which lives behind {doors}"


def _one_preprocessing(path: str, source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        if ast.unparse(node) in _PIXEL_CALLS and path not in _PIXEL_DOORS:
            yield f"{path}:{node.lineno} calls {ast.unparse(node)}"
        if node.attr == "Lambda":
            yield f"{path}:{node.lineno} uses a Lambda layer"


def _frozen_values(path: str, source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name not in _MUTABLE:
            for decorator in node.decorator_list:
                text = ast.unparse(decorator)
                if text.startswith("dataclass") and "frozen=True" not in text:
                    yield f"{path}:{node.lineno} {node.name} is a dataclass that is not frozen"


def _light_commands(path: str, source: str) -> Iterator[str]:
    if "/cli/" not in path or path in _NOT_COMMANDS:
        return
    for statement in ast.parse(source).body:
        if not isinstance(statement, (ast.Import, ast.ImportFrom)):
            continue  # functions import when they are called
        for name in _imported(statement):
            ours = name in _LIGHT_OURS or name.startswith(("edge_sdk.cli.", "host_tools.cli."))
            if name not in _LIGHT and not ours:
                yield f"{path} imports {name} before its callback runs"


def _telling_names(path: str, source: str) -> Iterator[str]:
    if Path(path).stem in _VAGUE_NAMES:
        yield f"{path}: the name says nothing"
    if source.count("\n") > _MAX_LINES:
        yield f"{path} has {source.count(chr(10))} lines: which two things is it?"


def _imported(tree: ast.AST) -> Iterator[str]:
    """Modules imported by statement, or by name through importlib or require()."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "require",
            "import_module",
            "__import__",
        ):
            yield from (str(a.value) for a in node.args if isinstance(a, ast.Constant))


def _systems_apart(path: str, source: str) -> Iterator[str]:
    if path.startswith(_ON_LINUX):
        return
    tree = ast.parse(source)
    for statement in tree.body:
        for name in _imported(statement) if isinstance(statement, ast.Import) else ():
            if any(name in modules for modules in MODULES.values()):
                yield f"{path} imports {name}, which another system lacks"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, name = node.value.id, node.attr
            lacking = [system for system, names in NAMES.items() if name in names.get(module, ())]
            if lacking and name not in _ASKED_FOR.get(path, ()):
                yield f"{path}:{node.lineno} uses {module}.{name}, which {lacking} lack"
            if f"{module}.{name}" == "sys.platform" and path not in _ASKS_WHERE:
                yield f"{path}:{node.lineno} asks for the system: edge_sdk/systems.py does"


def _encodings_named(path: str, source: str) -> Iterator[str]:
    """Text has the encoding of the machine's language where no other is named."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(
            k.arg in ("encoding", None) for k in node.keywords
        ):
            continue
        called = ast.unparse(node.func).split(".")[-1]
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        words = [ast.unparse(argument) for argument in node.args]
        if (
            (called == "read_text" and not words)
            or (called == "write_text" and len(words) < 2)
            or (given.get("text") == "True")
            or (called == "open" and _opens_text(node, given))
        ):
            yield f"{path}:{node.lineno} {ast.unparse(node)[:60]} names no encoding"


def _opens_text(node: ast.Call, given: dict[str, str]) -> bool:
    builtin = isinstance(node.func, ast.Name)
    modes = [
        argument.value
        for argument in node.args[builtin : builtin + 1]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    mode = given.get("mode", modes[0] if modes else "r" if builtin else "b")
    return re.fullmatch(r"[rwaxt+']+", mode) is not None


_Check = Callable[[str, str], Iterator[str]]
_CHECKS: tuple[_Check, ...] = (
    _foreign_doors,
    _one_preprocessing,
    _frozen_values,
    _light_commands,
    _telling_names,
    _systems_apart,
    _encodings_named,
)
_BREACHES: list[tuple[_Check, str, str]] = [
    (_foreign_doors, "edge_sdk/classifier.py", "import ai_edge_litert.interpreter"),
    (_foreign_doors, "edge_sdk/sources/webcam.py", "import picamera2"),
    (_foreign_doors, "edge_sdk/loop/run.py", "def f():\n    from click import echo"),
    (_foreign_doors, "host_tools/data/load.py", "tf = require('tensorflow')"),
    (_one_preprocessing, "host_tools/data/load.py", "import cv2\nx = cv2.resize(y, (1, 1))"),
    (_one_preprocessing, "host_tools/models/own.py", "x = layers.Lambda(lambda y: y)"),
    (_frozen_values, "edge_sdk/types.py", "@dataclass\nclass Frame:\n    x: int"),
    (_light_commands, "edge_sdk/cli/run.py", "from edge_sdk.classifier import Classifier"),
    (_light_commands, "host_tools/cli/train.py", "import numpy"),
    (_telling_names, "edge_sdk/utils.py", ""),
    (_telling_names, "edge_sdk/long.py", "\n" * 601),
    (_systems_apart, "edge_sdk/files.py", "import fcntl"),
    (_systems_apart, "edge_sdk/files.py", "import os\ndef f():\n    os.pread(0, 1, 0)"),
    (_systems_apart, "host_tools/workflow.py", "import signal\nx = signal.SIGALRM"),
    (_systems_apart, "host_tools/workflow.py", "import sys\nif sys.platform == 'win32': pass"),
    (_encodings_named, "edge_sdk/files.py", "open('x')"),
    (_encodings_named, "edge_sdk/files.py", "open('x', 'w')"),
    (_encodings_named, "edge_sdk/files.py", "path.open('a')"),
    (_encodings_named, "edge_sdk/files.py", "path.read_text()"),
    (_encodings_named, "edge_sdk/files.py", "path.write_text('x')"),
    (_encodings_named, "edge_sdk/files.py", "subprocess.run(['x'], text=True)"),
]


@pytest.mark.parametrize(
    ("check", "path", "source"), _BREACHES, ids=[f"{c.__name__}-{p}" for c, p, _ in _BREACHES]
)
def test_a_breach_is_caught(check: _Check, path: str, source: str) -> None:
    assert list(check(path, source))


@pytest.mark.parametrize("check", _CHECKS, ids=lambda check: check.__name__)
def test_the_repository_keeps_the_law(check: _Check) -> None:
    violations = [
        violation
        for package in _PACKAGES
        for file in sorted((_ROOT / package).rglob("*.py"))
        for violation in check(file.relative_to(_ROOT).as_posix(), file.read_text(encoding="utf-8"))
    ]
    assert violations == []


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("edge_sdk/loop/run.py", "import host_tools.recipe", "The host stands on"),
        ("edge_sdk/types.py", "import edge_sdk.artifact", "The layers of edge_sdk"),
        ("edge_sdk/new_file.py", "", "The layers of edge_sdk"),
        ("host_tools/recipe/__init__.py", "import host_tools.workflow", "The layers of host_tools"),
        ("edge_sdk/vision/images.py", "import keras", "No TensorFlow on the device"),
    ],
)
def test_import_linter_catches_a_breach_of_layers(
    module: str, line: str, contract: str, tmp_path: Path
) -> None:
    pytest.importorskip("importlinter", reason="the extra [host] is not installed")
    for package in _PACKAGES:
        shutil.copytree(_ROOT / package, tmp_path / package)
    shutil.copy(_ROOT / "setup.cfg", tmp_path)
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [lint, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode != 0
    assert contract in result.stdout + result.stderr
