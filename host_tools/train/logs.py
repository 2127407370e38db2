"""What can be watched while training goes on: a CSV file and TensorBoard's events, in ``logs``."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_sdk.errors import WriteError
from edge_sdk.files import write_atomically
from host_tools.extras import muted, require

Row = dict[str, float]


class EpochLogs:
    """Writes each epoch's figures as they come.

    A resumed training writes its whole history anew, so that no epoch stands there twice.

    Args:
        folder: for both; earlier events in it are removed.
        history: the epochs that are done already.

    Raises:
        WriteError: the folder cannot be written.
    """

    def __init__(self, folder: Path, history: Sequence[Row]) -> None:
        self._folder = folder
        self._history: list[Row] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
        except OSError as error:
            raise WriteError(f"{folder}: cannot be written ({error.strerror or error})") from error
        self._tf: Any = require("tensorflow")
        with muted():
            self._events: Any = self._tf.summary.create_file_writer(str(folder))
        for row in history:
            self._enter(row)

    def add(self, row: Row) -> None:
        """Enters a finished epoch.

        Raises:
            WriteError: the disk is full.
        """
        self._enter(row)
        self._events.flush()
        write_atomically(self._folder / "history.csv", history_csv(self._history))

    def close(self) -> None:
        """Ends the events file."""
        self._events.close()

    def _enter(self, row: Row) -> None:
        self._history.append(row)
        # tf.summary.scalar needs TensorBoard installed; the protocol buffer it writes does not.
        proto = self._tf.compat.v1.Summary
        values = [
            proto.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name != "epoch"
        ]
        with self._events.as_default(step=int(row["epoch"])):
            summary = proto(value=values).SerializeToString()
            self._tf.summary.experimental.write_raw_pb(summary)


def history_csv(history: Sequence[Row]) -> str:
    """A line per epoch, under the names of the figures."""
    names = list(dict.fromkeys(name for row in history for name in row)) or ["epoch"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
