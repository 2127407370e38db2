"""A tiny real data set and a tiny trained run, shared by the tests of the host's tools."""

from __future__ import annotations

import shutil
from pathlib import Path

from click.testing import CliRunner, Result

# Two epochs over a few hundred digits: enough to be far better than chance, done in seconds.
QUICK = tuple(
    word
    for setting in (
        "training.epochs=3",
        "training.batch_size=8",
        "training.schedule=constant",
        "model.width=0.25",
        "gates.max_drop=50",
    )
    for word in ("--set", setting)
)


def edgecls(*words: object) -> Result:
    """Runs the command in this process; exceptions of ours have become exit codes by then."""
    from host_tools.cli import main

    result = CliRunner().invoke(main, [str(word) for word in words])
    unexpected = result.exception
    if unexpected is not None and not isinstance(unexpected, SystemExit):
        raise unexpected
    return result


def some_digits(pictures: Path, out: Path, classes: tuple[int, ...], each: int) -> Path:
    """A folder with the first ``each`` pictures of some digits."""
    for digit in classes:
        (out / str(digit)).mkdir(parents=True)
        for picture in sorted((pictures / str(digit)).glob("*.png"))[:each]:
            shutil.copy(picture, out / str(digit))
    return out
