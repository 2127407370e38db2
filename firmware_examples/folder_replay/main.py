"""Plays a folder of pictures through an artifact and announces every change of the answer."""

from __future__ import annotations

import sys

from edge_sdk import Classifier, EdgeClsError, FolderSource, FrameRecord, Record, run


class AnnounceChanges:
    """A sink: any object with ``write`` and ``close`` will do."""

    def __init__(self) -> None:
        self.last: str | None = None

    def write(self, record: Record) -> None:
        """Prints the answer where it differs from the one before."""
        if isinstance(record, FrameRecord) and record.label != self.last:
            self.last = record.label
            print(f"{record.source}: {record.label or 'unknown'} ({record.score:.2f})")

    def close(self) -> None:
        """Nothing to give back."""


def main(model: str, folder: str) -> int:
    """Runs until the folder is through; the exit code says whether it went well."""
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
