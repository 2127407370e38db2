"""Workers: processes that are started, given orders, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# A worker that hangs must not hang the whole measurement.
_LONGEST_S = 120.0
_GRACE_S = 5.0
_LAST_WORDS = 1500


class WorkerError(Exception):
    """A worker ended, or did not start; the message has its last words."""


class Surroundings:
    """Environment variables of all workers: nothing of the caller's Python, bytecode kept.

    Args:
        folder: where the workers' caches go.
    """

    def __init__(self, folder: Path) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.variables = {
            **kept,
            "XDG_CACHE_HOME": str(folder),
            "MPLCONFIGDIR": str(folder),  # MediaPipe imports matplotlib
        }


class Worker:
    """A worker process that stays and answers orders.

    Args:
        name: for messages.
        command: that starts it.
        surroundings: its environment variables.

    Raises:
        WorkerError: it cannot be started.
    """

    def __init__(self, name: str, command: Sequence[str], surroundings: Surroundings) -> None:
        self._name = name
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the worker
        try:
            self._process = _start(name, command, surroundings, self._said, subprocess.PIPE)
        except WorkerError:
            self._said.close()
            raise

    def ask(self, **order: Any) -> Any:
        """The answer to one order.

        Raises:
            WorkerError: it has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._lost() from None
        line = _line(self._process)
        if not line:
            raise self._lost()
        return json.loads(line)

    def _lost(self) -> WorkerError:
        return _ended(self._name, self._process, self._said)

    def close(self) -> None:
        """Ends the worker."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError), self._process:
            pass  # closes the pipes, what could not be written to one that is dead included
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def start_once(
    name: str, command: Sequence[str], surroundings: Surroundings
) -> tuple[float, list[list[Any]], float]:
    """A fresh process that classifies one frame.

    Returns:
        milliseconds from before its start to its answer, the answer, and its peak memory in MB.

    Raises:
        WorkerError: it failed.
    """
    with tempfile.TemporaryFile("w+") as said:
        began_ns = time.perf_counter_ns()
        process = _start(name, command, surroundings, said, subprocess.DEVNULL)
        with process:
            answer = _line(process)
            elapsed_ms = (time.perf_counter_ns() - began_ns) / 1e6
            memory = _line(process) if answer else ""
            if not memory:
                raise _ended(name, process, said)
        return elapsed_ms, json.loads(answer), float(json.loads(memory)["peak_rss_mb"])


def _start(
    name: str, command: Sequence[str], surroundings: Surroundings, said: Any, stdin: int
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=surroundings.variables,
        )
    except OSError as error:
        raise WorkerError(
            f"{name}: {command[0]} cannot be started ({error}); make it with "
            "benchmarks/peers/make_environments DIR"
        ) from error


def _line(process: subprocess.Popen[str]) -> str:
    """The next line; empty where the worker has ended, or hangs."""
    assert process.stdout is not None
    # A second line that came with the first is in the stream's buffer: the worker's end wakes this.
    ready, _, _ = select.select([process.stdout], [], [], _LONGEST_S)
    return process.stdout.readline() if ready else ""


def _ended(name: str, process: subprocess.Popen[str], said: Any) -> WorkerError:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    process.kill()
    code = process.wait()
    said.seek(0)
    return WorkerError(f"{name} ended with {code}; it said:\n{said.read()[-_LAST_WORDS:]}")
