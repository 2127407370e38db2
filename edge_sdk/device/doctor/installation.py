"""Checks of the Python installation: wheels for this machine, required packages, engines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge_sdk.device.doctor.context import Context, Finding, remedy
from edge_sdk.machine.board import board_name, container, core_count, emulator, operating_system

# As in setup.cfg; on Python older than 3.11 this program does not start.
_NEWEST = (3, 13)
# Required by the wheels of numpy and OpenCV (manylinux_2_28); LiteRT's need 2.27.
_GLIBC = (2, 28)
_ARM_64 = ("aarch64", "arm64")
_64_BIT_SYSTEM = "sudo apt install -y rpi-imager && rpi-imager"
_CONTAINER = "docker run --rm -it python:3.13-slim bash"


def board(context: Context) -> Iterator[Finding]:
    """The name of the machine."""
    system = context.system
    names = (
        board_name(system) or f"a board without a name ({context.python.machine})",
        f"{core_count(system)} {'core' if core_count(system) == 1 else 'cores'}",
        operating_system(system) or "an unnamed system",
    )
    inside = container(system)
    where = f", in a container ({inside})" if inside else ""
    yield Finding("ok", f"{', '.join(names)}{where}", "the machine that is checked")


def version(context: Context) -> Iterator[Finding]:
    """Python's version."""
    python = context.python
    text = ".".join(str(number) for number in python.version)
    if python.version[:2] > _NEWEST:
        yield Finding(
            "warning",
            f"Python {text}, newer than {_dotted(_NEWEST)}",
            "edgecls was not tested with it, and LiteRT or OpenCV may have no wheel for it",
            f"python{_dotted(_NEWEST)} -m venv ~/edgecls",
        )
    else:
        libc = " ".join(python.libc).strip() or "an unknown C library"
        yield Finding(
            "ok",
            f"Python {text}, {python.bits}-bit, on {python.machine} with {libc}",
            "there are wheels for 3.11, 3.12 and 3.13",
        )


def wheels(context: Context) -> Iterator[Finding]:
    """32-bit systems, musl, an old C library: systems with few or no wheels."""
    python = context.python
    name, number = python.libc
    if python.bits == 32:
        yield from _narrow(context)
    elif name == "musl":
        yield Finding(
            "error",
            "the system's C library is musl, as in Alpine Linux",
            "LiteRT has no wheels for it; use a system, or a container, of Debian or Ubuntu",
            _CONTAINER,
        )
    elif name == "glibc" and _numbers(number) < _GLIBC:
        yield Finding(
            "warning",
            f"glibc {number}, older than {_dotted(_GLIBC)}",
            "the wheels of numpy, OpenCV and LiteRT are built for Debian 10, Ubuntu 18.10 and later",
            _CONTAINER,
        )


def _narrow(context: Context) -> Iterator[Finding]:
    python = context.python
    kind = "a 32-bit Python on a 64-bit kernel" if python.machine in _ARM_64 else "a 32-bit system"
    if python.machine in (*_ARM_64, "armv7l", "armv8l") and python.version[:2] == (3, 11):
        pip_sees = (
            " pip takes it for 64-bit and finds no LiteRT." if python.machine in _ARM_64 else ""
        )
        yield Finding(
            "warning",
            f"{kind} ({python.machine})",
            "LiteRT has no 32-bit wheels: the last version that runs here is tflite-runtime 2.14 with "
            f"numpy 1, much slower in int8.{pip_sees} Better: the 64-bit system, which runs on "
            "Raspberry Pi 3, 4, 5 and Zero 2",
            context.pip(
                "install 'tflite-runtime>=2.14,<3' 'numpy<2' 'opencv-python-headless<4.12'"
            ),
        )
    else:
        yield Finding(
            "error",
            f"{kind} ({python.machine}), Python {_dotted(python.version[:2])}",
            "no TensorFlow Lite interpreter has a wheel for it; install the 64-bit Raspberry Pi OS "
            "(Raspberry Pi 3, 4, 5 and Zero 2 run it; older ones cannot)",
            _64_BIT_SYSTEM,
        )


def environment(context: Context) -> Iterator[Finding]:
    """A Python of the distribution, which forbids pip."""
    python = context.python
    marker = python.standard_library / "EXTERNALLY-MANAGED"
    if not python.is_environment and context.system.text(str(marker)) is not None:
        yield Finding(
            "note",
            "edgecls runs in the system's own Python, not in a virtual environment",
            "pip refuses to install there (externally-managed-environment), and a forced installation "
            "can break the system's programs",
            "python3 -m venv --system-site-packages ~/edgecls",
        )
    elif python.is_environment:
        yield Finding("ok", f"virtual environment {python.prefix}", "packages are installed in it")


def emulation(context: Context) -> Iterator[Finding]:
    """Emulation of another processor."""
    name = emulator(context.system, context.python.machine)
    if name:
        yield Finding(
            "note",
            f"this machine is emulated ({name})",
            "answers are as on the real one; latencies are not",
        )


def _dotted(version_: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version_)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


# All four install into the same folder, cv2.
_OPENCVS = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_HEADLESS = "'opencv-python-headless>=4.11,<6'"
_OLDEST_OPENCV, _SAFE_OPENCV = (4, 11), (4, 12)
# Desktop libraries, which are often missing on a board.
_DESKTOP = re.compile(r"lib(GL|EGL|gthread|glib|SM|ICE|X\w+|xcb|Qt\w*)[-.\w]*\.so")
_FLATBUFFERS = "'flatbuffers>=23.5,<26'"


def numpy(context: Context) -> Iterator[Finding]:
    """Whether numpy loads."""
    loaded = context.load("numpy")
    why = "pictures and tensors are numpy arrays"
    if loaded.missing == "numpy":
        fix = context.pip("install 'numpy>=1.26,<3'")
        yield Finding("error", "numpy is not installed", why, fix)
    elif loaded.problem is not None:
        cause, fix = remedy(
            loaded.problem, context.pip("install --force-reinstall --no-cache-dir 'numpy>=1.26,<3'")
        )
        yield Finding("error", f"numpy does not load: {loaded.problem}", f"{why}; {cause}", fix)
    else:
        yield Finding("ok", f"numpy {loaded.version} loads", why)


def opencv(context: Context) -> Iterator[Finding]:
    """Whether OpenCV loads, is new enough, and is installed once."""
    loaded, why = context.load("cv2"), "it reads, resizes and captures pictures"
    installed = [name for name in _OPENCVS if context.distribution(name) is not None]
    reinstall = context.pip(f"install --force-reinstall {_HEADLESS}")
    if others := [name for name in installed if name != _OPENCVS[0]]:
        removed = context.pip(f"uninstall -y {' '.join(others)}")
        reinstall = f"{removed} && {reinstall}"
    if loaded.missing == "cv2":
        fix = context.pip(f"install {_HEADLESS}")
        yield Finding("error", "OpenCV is not installed", why, fix)
    elif loaded.problem is not None and _DESKTOP.search(loaded.problem):
        yield Finding(
            "error",
            f"OpenCV does not load: {loaded.problem}",
            f"{why}; this OpenCV package needs desktop libraries, the headless one does not",
            reinstall,
        )
    elif loaded.problem is not None:
        cause, fix = remedy(loaded.problem, reinstall)
        yield Finding("error", f"OpenCV does not load: {loaded.problem}", f"{why}; {cause}", fix)
    elif loaded.version is None:
        yield Finding(
            "error",
            "OpenCV is an empty folder",
            f"{why}; one of two OpenCV packages was removed, which deleted the files of both",
            reinstall,
        )
    elif _version_numbers(loaded.version) < _OLDEST_OPENCV:
        yield Finding(
            "error",
            f"OpenCV {loaded.version}, older than 4.11",
            f"{why}; 4.11 is the first that decodes to RGB",
            reinstall,
        )
    elif _version_numbers(loaded.version) < _SAFE_OPENCV:
        yield Finding(
            "warning",
            f"OpenCV {loaded.version}, older than 4.12",
            "a crafted JPEG can make it write out of bounds (CVE-2025-53644); 4.12 needs numpy 2, which "
            "tflite-runtime does not support: read trusted pictures only, or use LiteRT",
            context.pip("install --upgrade 'opencv-python-headless>=4.12,<6' 'numpy>=2,<3'"),
        )
    elif len(installed) > 1:
        yield Finding(
            "warning",
            f"several OpenCV packages at once: {', '.join(sorted(installed))}",
            "they overwrite each other's files in cv2, and removing one breaks the other",
            reinstall,
        )
    else:
        yield Finding("ok", f"OpenCV {loaded.version} loads", why)


def flatbuffers(context: Context) -> Iterator[Finding]:
    """Whether flatbuffers loads."""
    loaded, why = context.load("flatbuffers"), "it reads model files"
    if loaded.missing == "flatbuffers":
        fix = context.pip(f"install {_FLATBUFFERS}")
        yield Finding("error", "flatbuffers is not installed", why, fix)
    elif loaded.problem is not None:
        cause, fix = remedy(
            loaded.problem, context.pip(f"install --force-reinstall {_FLATBUFFERS}")
        )
        what = f"flatbuffers does not load: {loaded.problem}"
        yield Finding("error", what, f"{why}; {cause}", fix)


def broken(context: Context) -> str | None:
    """The first required package that does not load; importing it might crash the process."""
    for module in ("numpy", "cv2", "flatbuffers"):
        loaded = context.load(module)
        if loaded.problem is not None or loaded.version is None:
            return module
    return None


def left_out(what: str, package: str) -> Finding:
    """A check that was skipped because that package does not load."""
    why = f"that needs {package}, which does not load; fix that first"
    return Finding("note", f"{what}: not checked", why, None)


def _version_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


LITERT = "'ai-edge-litert>=2.1,<3'"
_OLDEST_LITERT, _TOO_NEW_LITERT = (2, 1), (3,)
_WHY = "it runs the models"


def litert(context: Context) -> Iterator[Finding]:
    """Whether LiteRT loads; if it is not installed, whether tflite-runtime is."""
    loaded = context.load("ai_edge_litert.interpreter")
    version = context.distribution("ai-edge-litert")
    if loaded.missing == "ai_edge_litert":
        if context.distribution("tflite-runtime") is None:
            yield Finding(
                "error",
                "no TensorFlow Lite interpreter is installed",
                "nothing can be classified without one",
                context.pip(f"install {LITERT}"),
            )
    elif loaded.problem is not None:
        again = context.pip(f"install --force-reinstall --no-cache-dir {LITERT}")
        if loaded.missing:
            again = context.pip(f"install --force-reinstall {loaded.missing} {LITERT}")
        cause, fix = remedy(loaded.problem, again)
        yield Finding("error", f"LiteRT does not load: {loaded.problem}", f"{_WHY}; {cause}", fix)
    elif version is not None and not _OLDEST_LITERT <= _release(version) < _TOO_NEW_LITERT:
        yield Finding(
            "warning",
            f"ai-edge-litert {version}, expected 2.1 or later and below 3",
            "edgecls was tested with those versions; others may fail or give different answers",
            context.pip(f"install {LITERT}"),
        )
    else:
        yield Finding("ok", f"LiteRT {version or loaded.version} loads", _WHY)


def tflite_runtime(context: Context) -> Iterator[Finding]:
    """tflite-runtime, if installed: it supports numpy 1 only, and fails with the first model."""
    version = context.distribution("tflite-runtime")
    if version is None:
        return
    alone = context.distribution("ai-edge-litert") is None
    loaded = context.load("tflite_runtime.interpreter")
    numpy = context.distribution("numpy") or ""
    needed = "it runs the models" if alone else "--backend tflite-runtime needs it"
    fix = context.pip("install 'tflite-runtime>=2.14,<3' 'numpy<2' 'opencv-python-headless<4.12'")
    if numpy and _release(numpy) >= (2,):
        instead = "" if alone else "; LiteRT supports numpy 2, and is the default"
        yield Finding(
            "error" if alone else "note",
            f"tflite-runtime {version} beside numpy {numpy}",
            f"{needed}, and was built for numpy 1: it imports, and fails with the first model{instead}",
            fix if alone else context.pip("uninstall -y tflite-runtime"),
        )
    elif loaded.problem is not None:
        cause, fix = remedy(loaded.problem, fix)
        what = f"tflite-runtime does not load: {loaded.problem}"
        yield Finding("error" if alone else "warning", what, f"{needed}; {cause}", fix)
    else:
        yield Finding("ok", f"tflite-runtime {version} loads", needed)


def onnxruntime(context: Context) -> Iterator[Finding]:
    """ONNX Runtime, if installed."""
    version = context.distribution("onnxruntime")
    if version is None:
        return
    loaded, why = context.load("onnxruntime"), "it runs .onnx models"
    if loaded.problem is not None:
        again = context.pip("install --force-reinstall 'onnxruntime>=1.20,<2'")
        cause, fix = remedy(loaded.problem, again)
        what = f"ONNX Runtime does not load: {loaded.problem}"
        yield Finding("warning", what, f"{why}; {cause}", fix)
    else:
        yield Finding("ok", f"ONNX Runtime {version} loads", why)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
