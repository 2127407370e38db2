"""What runs models: LiteRT, tflite-runtime, ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge_sdk.device.doctor.context import Context
from edge_sdk.doctor.findings import Finding
from edge_sdk.doctor.loading import remedy

LITERT = "'ai-edge-litert>=2.1,<3'"
_OLDEST_LITERT, _TOO_NEW_LITERT = (2, 1), (3,)
_WHY = "it runs the models"


def litert(context: Context) -> Iterator[Finding]:
    """Whether LiteRT loads; where it is not installed, whether its predecessor is."""
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
    elif version is not None and not _OLDEST_LITERT <= _numbers(version) < _TOO_NEW_LITERT:
        yield Finding(
            "warning",
            f"ai-edge-litert {version}, expected 2.1 or later and below 3",
            "answers were compared with those versions; another one may refuse or compute otherwise",
            context.pip(f"install {LITERT}"),
        )
    else:
        yield Finding("ok", f"LiteRT {version or loaded.version} loads", _WHY)


def tflite_runtime(context: Context) -> Iterator[Finding]:
    """tflite-runtime, where it is installed: it knows numpy 1 only, and says so at the first model."""
    version = context.distribution("tflite-runtime")
    if version is None:
        return
    alone = context.distribution("ai-edge-litert") is None
    loaded = context.load("tflite_runtime.interpreter")
    numpy = context.distribution("numpy") or ""
    needed = "it runs the models" if alone else "--backend tflite-runtime needs it"
    fix = context.pip("install 'tflite-runtime>=2.14,<3' 'numpy<2' 'opencv-python-headless<4.12'")
    if numpy and _numbers(numpy) >= (2,):
        instead = "" if alone else "; LiteRT works with it, and is taken unless you name the other"
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
    """ONNX Runtime, where it is installed."""
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


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
