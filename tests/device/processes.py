"""Commands that run to their end, or end with their parent process."""

from __future__ import annotations

import subprocess
from pathlib import Path

_running: set[subprocess.Popen[str]] = set()


class BoardError(Exception):
    """Something that the check looks for went wrong."""


def call(
    *command: str,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
    timeout_s: float = 900,
) -> subprocess.CompletedProcess[str]:
    """Runs a command without judging its exit status.

    Args:
        command: the program and its arguments.
        folder: where it runs; None: here.
        environment: all of its environment; None: this process's.
        timeout_s: when to give up.

    Raises:
        BoardError: it took longer.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        _running.add(process)
        try:
            said, complaints = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BoardError(f"{' '.join(command)} took more than {timeout_s:.0f} s") from error
        finally:
            process.kill()
            _running.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, said, complaints)


def must(
    *command: str, folder: Path | None = None, environment: dict[str, str] | None = None
) -> str:
    """Standard output of a command that has to succeed in time.

    Raises:
        BoardError: it failed; with the end of what it said.
    """
    done = call(*command, folder=folder, environment=environment)
    if done.returncode:
        raise BoardError(failure(done))
    return done.stdout


def failure(done: subprocess.CompletedProcess[str]) -> str:
    """A failed command, its exit status and the end of what it said."""
    said = f"{done.stdout[-6000:]}{done.stderr[-3000:]}"
    return f"{' '.join(done.args)} exited {done.returncode}:\n{said}"


def stop_all() -> None:
    """Kills what other threads wait for; a namespace's processes die with their `unshare`."""
    for process in tuple(_running):
        process.kill()
