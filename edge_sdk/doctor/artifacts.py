"""Model files: do they open, and answer as when they were made?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.device.doctor.context import Context
from edge_sdk.device.doctor.coral import has_coral
from edge_sdk.doctor.engines import LITERT
from edge_sdk.doctor.findings import Finding
from edge_sdk.doctor.packages import broken, left_out
from edge_sdk.errors import (
    ArtifactNotFoundError,
    DelegateError,
    EdgeClsError,
    EngineNotInstalledError,
    SelfTestError,
    UndescribedArtifactError,
    WriteError,
)
from edge_sdk.last_good import LastGood

_WHY = "nothing can be classified with it"
_COMPARE = "compare the sum with that of the file it was copied from"


def models(context: Context) -> Iterator[Finding]:
    """Opens every model file that was named, and runs its self-test."""
    for path in context.asked.models:
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
                f"{_WHY}: the processor cannot stand in for it; plug a Coral in, or use the file that "
                "it was compiled from",
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
            "it is somebody else's file, which does not say everything; the same options serve run",
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
        return Finding("ok", f"{path} opens", "it has no self-test: edgecls did not make it")
    return Finding("ok", f"{path} opens", "it answers its self-test as when it was made")


def _kept(path: Path) -> str:
    """What ``run`` would do about a bad model, as far as this user can see."""
    try:
        copy = LastGood.of(path).find()
    except WriteError:
        return ""
    if copy is None:
        return ""
    return f"; edgecls run starts with the last good copy, {copy}"
