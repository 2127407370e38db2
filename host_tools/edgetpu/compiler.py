"""Google's Edge TPU compiler: finds it, runs it within a time limit, and checks its output.

The output is that of ``edgetpu_compiler -s``, version 16.0: a line with the version, a few lines of
sizes, then a table of operator, count and status.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.artifact.tflite import EDGETPU_OPERATOR, summarize
from edge_sdk.errors import ArtifactError, ConversionError, EngineNotInstalledError, WriteError
from edge_sdk.systems import require_linux
from edge_sdk.types import TensorSpec
from host_tools.progress import working

_MAPPED = "Mapped to Edge TPU"
_ROW = re.compile(r"^(\S+)\s+(\d{1,9})\s{2,}(\S.*?)\s*$", re.MULTILINE)
_VERSION = re.compile(r"Edge TPU Compiler version (\S+)")
_SIZE = re.compile(
    r"^(On-chip|Off-chip) memory used for .*?:\s*([\d.]+)\s*([KMG]?i?B)", re.MULTILINE
)
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
# Statuses seen in public logs of the compiler, by how they begin.
_MEANINGS = {
    "Operation not supported": "the Edge TPU has no such operator: edgecls edgetpu check",
    "Operation version not supported": "the file is newer than the compiler of 2021",
    "Operation is working on an unsupported data type": "not 8 bits; the float softmax at the end of our "
    "artifacts is so on purpose",
    "More than one subgraph is not supported": "it follows an operator that is not mapped",
    "Operation is otherwise supported, but not mapped": "often a tensor too large; Google does not say",
    "Tensor has unsupported rank": "more than three dimensions, the batch aside",
    "Filter, bias, or other param is not constant": "weights are computed, not stored",
}


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A line of the compiler's table.

    Attributes:
        operator: as ``CONV_2D``.
        count: how many of it.
        status: in the compiler's words.
    """

    operator: str
    count: int
    status: str

    @property
    def mapped(self) -> bool:
        """They run on the Edge TPU."""
        return self.status == _MAPPED

    @property
    def meaning(self) -> str:
        """The meaning of the status; empty where the status is clear, or unknown."""
        return next((text for s, text in _MEANINGS.items() if self.status.startswith(s)), "")


@dataclass(frozen=True, slots=True)
class CompilerReport:
    """The compiler's report.

    Attributes:
        version: of the compiler, empty where the report lacks it.
        rows: its table.
        on_chip_bytes, off_chip_bytes: weights cached on the Edge TPU, and those fetched for every
            picture; None where the report lacks it.
    """

    version: str
    rows: tuple[ReportRow, ...]
    on_chip_bytes: int | None
    off_chip_bytes: int | None

    @property
    def mapped(self) -> int:
        """How many operators run on the Edge TPU."""
        return sum(row.count for row in self.rows if row.mapped)

    @property
    def total(self) -> int:
        """How many operators the model has."""
        return sum(row.count for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """For an artifact's provenance."""
        return {
            "compiler": self.version,
            "mapped": self.mapped,
            "total": self.total,
            "on_chip_bytes": self.on_chip_bytes,
            "off_chip_bytes": self.off_chip_bytes,
            "operators": [
                {"operator": row.operator, "n": row.count, "status": row.status}
                for row in self.rows
            ],
        }


def parse_report(text: str) -> CompilerReport:
    """Parses what the compiler printed and logged.

    The table is in both, or in the log alone; the first readable one is used.
    """
    version = _VERSION.search(text)
    header = re.compile(r"^Operator\s+Count\s+Status\s*$", re.MULTILINE)
    tables = [_ROW.findall(table) for table in header.split(text)[1:]]
    rows = tuple(
        ReportRow(operator, int(count), status)
        for operator, count, status in next((table for table in tables if table), [])
    )
    sizes = {where: round(float(n) * _UNITS[unit]) for where, n, unit in _sizes(text)}
    return CompilerReport(
        version.group(1) if version else "", rows, sizes.get("On-chip"), sizes.get("Off-chip")
    )


def _sizes(text: str) -> list[tuple[str, str, str]]:
    return [
        (where, number, unit)
        for where, number, unit in _SIZE.findall(text)
        if unit in _UNITS and re.fullmatch(r"\d+(\.\d+)?", number)
    ]


COMPILER_VARIABLE = "EDGETPU_COMPILER"
# The compiler gives up by itself after 180 s ("Started a compilation timeout timer of 180
# seconds."), and once more for each attempt; this limit ends what does not end by itself.
TIMEOUT_S = 600.0

_PROGRAM = "edgetpu_compiler"
# Google's own lines but for apt-key, which Debian no longer has:
# https://coral.ai/docs/edgetpu/compiler/#download
_INSTALL = (
    "curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo gpg --dearmor "
    "-o /usr/share/keyrings/coral-edgetpu.gpg && echo 'deb "
    "[signed-by=/usr/share/keyrings/coral-edgetpu.gpg] https://packages.cloud.google.com/apt "
    "coral-edgetpu-stable main' | sudo tee /etc/apt/sources.list.d/coral-edgetpu.list && "
    "sudo apt-get update && sudo apt-get install edgetpu-compiler"
)
_REPORT_LIMIT_BYTES = 1 << 20
# Beginnings of lines that give the cause of a failed compilation, the most specific first.
_CAUSES = ("Compilation failed:", "ERROR:", "Invalid model", "Model ", "Internal ")


def find_compiler() -> Path:
    """The compiler: ``$EDGETPU_COMPILER``, else ``edgetpu_compiler`` on the path.

    Raises:
        EngineNotInstalledError: there is none; the message says how to install it here, if at all.
    """
    named = os.environ.get(COMPILER_VARIABLE)
    found = shutil.which(named or _PROGRAM)
    if found is not None:
        return Path(found)
    if named:
        raise EngineNotInstalledError(
            f"${COMPILER_VARIABLE} is {named!r}, which is not a program; set it to the compiler, or "
            f"unset it to look for {_PROGRAM} on the path"
        )
    if sys.platform == "linux" and platform.machine() == "x86_64":
        raise EngineNotInstalledError(
            f"{_PROGRAM} is not installed; on Debian or Ubuntu: {_INSTALL}"
        )
    raise EngineNotInstalledError(
        f"{_PROGRAM} is not installed, and Google builds it for x86-64 Debian and Ubuntu only; this is "
        f"{sys.platform} on {platform.machine()}: compile on such a machine or in a container of it, and "
        "copy the file here"
    )


def compile_model(
    model: bytes, compiler: Path, *, timeout_s: float = TIMEOUT_S
) -> tuple[bytes, CompilerReport]:
    """Compiles a flatbuffer in a temporary folder.

    Args:
        model: an int8 ``.tflite`` flatbuffer without appended files.
        compiler: from ``find_compiler``.
        timeout_s: seconds it may take.

    Returns:
        The compiled flatbuffer, with the inputs and outputs of ``model``, and the compiler's report.

    Raises:
        ConversionError: it fails, hangs, reports nothing that can be read, maps no operator, or
            writes no model, or a model with other inputs and outputs.
        EngineNotInstalledError: it cannot be started.
        WriteError: the temporary folder is full.
        UnsupportedSystemError: this is not Linux.
    """
    require_linux(_PROGRAM, "Compile on such a machine or in a container of it, and copy the file")
    try:
        with tempfile.TemporaryDirectory(prefix="edgecls-edgetpu-") as name:
            folder = Path(name)
            (folder / "model.tflite").write_bytes(model)
            output = _run(compiler, folder, timeout_s)
            report = parse_report(_text(folder / "model_edgetpu.log") + "\n" + output)
            compiled = folder / "model_edgetpu.tflite"
            if not compiled.is_file():
                raise ConversionError(f"{compiler} wrote no model; {_cause(output)}")
            return _checked(compiled.read_bytes(), model, compiler, report), report
    except OSError as error:
        raise WriteError(
            f"the compiler's temporary folder cannot be used ({error}); free some space, or set TMPDIR"
        ) from error


def _run(compiler: Path, folder: Path, timeout_s: float) -> str:
    """Runs the compiler in a process group of its own, ended as one: it forks."""
    printed = folder / "printed.txt"
    words = [str(compiler), "-s", "-o", str(folder), str(folder / "model.tflite")]
    with printed.open("wb") as stream:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineNotInstalledError(
                f"{compiler} cannot be started ({error.strerror or error}); it is a program for x86-64 "
                f"Linux: install it again, or name another in ${COMPILER_VARIABLE}"
            ) from error
        try:
            with working("compiling"):
                code = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ConversionError(
                f"{compiler} did not finish within {timeout_s:g} s; give it longer with edgecls edgetpu "
                "compile ARTIFACT --timeout SECONDS, or compile a smaller network"
            ) from error
        finally:
            if process.returncode is None:  # a time limit, or Ctrl-C
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    output = _text(printed)
    if code < 0:
        raise ConversionError(f"{compiler} crashed (signal {-code}); {_cause(output)}")
    if code > 0:
        raise ConversionError(f"{compiler} failed with exit code {code}; {_cause(output)}")
    return output


def _text(path: Path) -> str:
    """The last part of what a program wrote, without control characters."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _REPORT_LIMIT_BYTES))
        text = stream.read().decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def _cause(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for beginning in _CAUSES:
        cause = next((line for line in lines if line.startswith(beginning)), None)
        if cause:
            return f"it reports: {cause[:300]}"
    return f"its last line: {lines[-1][:300]}" if lines else "it printed nothing"


def _checked(compiled: bytes, model: bytes, compiler: Path, report: CompilerReport) -> bytes:
    if not report.rows:
        raise ConversionError(
            f"{compiler} printed no table of operators, so the share on the CPU is unknown; is it "
            "Google's compiler, version 16.0?"
        )
    try:
        before, after = summarize(model, "the int8 model"), summarize(compiled, "its result")
    except ArtifactError as error:
        raise ConversionError(f"{compiler} wrote a model that cannot be read: {error}") from error
    if EDGETPU_OPERATOR not in after.operators:
        reasons = "; ".join(sorted({row.status for row in report.rows})) or "it gives no reason"
        raise ConversionError(
            f"{compiler} mapped none of {report.total} operators to the Edge TPU ({reasons}); edgecls "
            "edgetpu check lists what to change"
        )
    if _borders(before.inputs) != _borders(after.inputs) or _borders(before.outputs) != _borders(
        after.outputs
    ):
        raise ConversionError(
            f"{compiler} wrote a model with other inputs or outputs than the one it was given; is it "
            "Google's compiler, version 16.0?"
        )
    return compiled


def _borders(tensors: tuple[TensorSpec, ...]) -> list[tuple[object, ...]]:
    """The properties of inputs and outputs that must not change; tensors may be renamed."""
    return [(t.shape, t.dtype, t.quantization) for t in tensors]
