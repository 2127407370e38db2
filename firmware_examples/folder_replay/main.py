"""Classifies a folder of pictures and prints every change of the answer."""

from __future__ import annotations

import sys

from edge_sdk import Classifier, EdgeClsError, FolderSource, FrameRecord, Record, run


class AnnounceChanges:
    """A sink: any object with ``write`` and ``close`` will do."""

    def __init__(self) -> None:
        self.last: str | None = None

    def write(self, record: Record) -> None:
        """Prints the answer if it differs from the previous one."""
        if isinstance(record, FrameRecord) and record.label != self.last:
            self.last = record.label
            print(f"{record.source}: {record.label or 'unknown'} ({record.score:.2f})")

    def close(self) -> None:
        """Does nothing: there are no resources to release."""


def main(model: str, folder: str) -> int:
    """Classifies all pictures of the folder; returns the exit code, 1 after an error."""
    try:
        with Classifier.open(model) as classifier:
            run(FolderSource(folder), classifier, [AnnounceChanges()], threshold=0.5)
    except EdgeClsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python main.py MODEL FOLDER")
    sys.exit(main(*sys.argv[1:]))
