"""The run directory: all files of one training, under fixed names.

Two processes that write the same names destroy each other's work, so a process locks a folder before
it writes to it: ``taken`` and ``take_default``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.errors import (
    ArtifactNotFoundError,
    ConversionError,
    FolderInUseError,
    WriteError,
)
from edge_sdk.files import read_text, write_atomically
from host_tools.extras import require
from host_tools.recipe import Recipe, load_recipe, recipe_toml

_LOCK = ".edgecls-lock"
_NUMBERS = re.compile(r"\[\n *[-+.\deE]+(,\n *[-+.\deE]+)*\n *\]")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A run directory, by its path."""

    path: Path

    @property
    def model(self) -> Path:
        """The trained Keras model, from RGB 0..255 to probabilities."""
        return self.path / "model.keras"

    @property
    def recipe_file(self) -> Path:
        """The recipe with every default and override filled in."""
        return self.path / "recipe.toml"

    @property
    def labels_file(self) -> Path:
        """One label per line, in the order of the outputs."""
        return self.path / "labels.txt"

    @property
    def history(self) -> Path:
        """A row per epoch."""
        return self.path / "history.csv"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint from which an interrupted training resumes."""
        return self.path / "checkpoint.npz"

    @property
    def logs(self) -> Path:
        """Logs during training: ``history.csv`` and TensorBoard's events."""
        return self.path / "logs"

    @property
    def last_good(self) -> Path:
        """The best weights of a training that ended in NaN."""
        return self.path / "last_good.keras"

    @property
    def report(self) -> Path:
        """The run's results, for programs."""
        return self.path / "report.json"

    @property
    def page(self) -> Path:
        """The same for people."""
        return self.path / "report.html"

    @property
    def contact_sheet(self) -> Path:
        """Training pictures as they are and as the network saw them."""
        return self.path / "plots" / "contact_sheet.jpg"

    @property
    def scores(self) -> Path:
        """The float model's scores on the test pictures, the reference of a validation on a device."""
        return self.path / "reference_scores.npz"

    def write_description(self, recipe: Recipe, labels: tuple[str, ...]) -> None:
        """Writes the recipe and the labels."""
        write_atomically(self.recipe_file, recipe_toml(recipe))
        write_atomically(self.labels_file, "\n".join(labels) + "\n")

    def write_report(self, report: dict[str, Any]) -> None:
        """Writes ``report.json``."""
        text = json.dumps(report, indent=1)
        # A list of numbers is one line: a matrix of 1,000 classes has a million of them.
        text = _NUMBERS.sub(lambda found: " ".join(found[0].split()), text)
        write_atomically(self.report, text + "\n")

    def read_report(self) -> dict[str, Any]:
        """Reads ``report.json``; empty where there is none.

        Raises:
            ConversionError: it is damaged.
        """
        if not self.report.exists():
            return {}
        try:
            loaded: dict[str, Any] = json.loads(read_text(self.report))
        except ValueError as error:
            raise ConversionError(f"{self.report}: damaged ({error}); train again") from error
        return loaded


@contextlib.contextmanager
def taken(folder: Path, option: str = "--out") -> Iterator[None]:
    """Locks a folder, made if absent, for this process; a process may lock its folder again.

    The lock ends with the process, however that ends; an empty folder is then removed.

    Args:
        folder: to be written to.
        option: what names another folder.

    Raises:
        FolderInUseError: another process holds it.
        WriteError: it cannot be made or written to.
    """
    filelock = require("filelock")
    path = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Read the process id first: an attempt to lock may empty the file.
        holder = path.read_text("ascii", "replace").strip() if path.exists() else ""
        lock = filelock.FileLock(path.absolute(), is_singleton=True)
        lock.acquire(timeout=0)
        while not path.exists():  # its holder removed the file between our opening and locking it
            lock.release()
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise FolderInUseError(
            f"{folder}: process {holder or 'unknown'} writes into this folder; expected a folder per "
            f"process. Wait for that process or stop it, or choose another folder with {option}"
        ) from error
    except OSError as error:
        raise WriteError(
            f"{folder}: cannot be written to ({error.strerror or error}); choose another folder with "
            f"{option}"
        ) from error
    try:
        with contextlib.suppress(OSError):  # for messages alone
            path.write_text(f"{os.getpid()}\n", "ascii")
        yield
    finally:
        with contextlib.suppress(OSError):
            if lock.lock_counter == 1:
                path.unlink()
                folder.rmdir()  # where nothing was written
        lock.release()


def default_folders(name: str, *, resume: bool) -> Iterator[Path]:
    """Those of runs/NAME, runs/NAME-2, ... that a training without a named folder may use.

    Args:
        name: of the recipe.
        resume: the last one that was used, alone.
    """
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        number += 1
        last = not (Path("runs") / f"{name}-{number}").exists()
        if not RunDirectory(folder).model.exists() or (resume and last):
            yield folder
            if resume:
                return


@contextlib.contextmanager
def take_default(name: str, *, resume: bool) -> Iterator[Path]:
    """Holds the first of ``default_folders`` that no other process holds, see ``taken``.

    Raises:
        FolderInUseError: another process holds the one to be resumed.
    """
    for folder in default_folders(name, resume=resume):
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(taken(folder))
            except FolderInUseError:
                if resume:
                    raise
                continue
            if RunDirectory(folder).model.exists() and not resume:
                continue  # finished between the two checks
            yield folder
            return


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A ``.keras`` file, with the recipe and labels of its run where it has one."""

    path: Path
    recipe: Recipe | None
    labels: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """The name of artifacts made from it."""
        return self.recipe.name if self.recipe else self.path.stem


def find_trained(path: str | Path) -> TrainedModel:
    """A run directory, its ``model.keras``, or any other ``.keras`` file.

    Raises:
        ArtifactNotFoundError: there is none.
    """
    path = Path(path)
    run = RunDirectory(path if path.is_dir() else path.parent)
    file = run.model if path.is_dir() else path
    if not file.is_file():
        what = "no model.keras in this folder" if path.is_dir() else "there is no such model file"
        raise ArtifactNotFoundError(f"{path}: {what}; edgecls train makes one")
    if file == run.model and run.recipe_file.exists() and run.labels_file.exists():
        text = read_text(run.labels_file)
        return TrainedModel(
            file, load_recipe(run.recipe_file), tuple(text.removesuffix("\n").split("\n"))
        )
    return TrainedModel(file, None, None)
