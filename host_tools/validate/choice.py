"""Which pictures of a data set are validated on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edge_sdk.errors import ValidationError
from host_tools.data.decode import Decoded, Unreadable, decode_all
from host_tools.data.pictures import Picture, PictureFolder
from host_tools.data.split import SplitRule, decoded_split
from host_tools.progress import progress


def pictures_of(
    folder: PictureFolder,
    split: str | None,
    rule: SplitRule | None,
    max_pixels: int,
    say: Callable[[str], None],
) -> Iterator[Decoded | Unreadable]:
    """The decoded pictures of one split; without ready splits all are decoded to find them.

    Args:
        folder: the data set.
        split: ``train``, ``validation``, ``test`` or ``all``. None: test, where the folder or the
            model's recipe has such a split, else all.
        rule: how the model's pictures were split; None where it does not say.
        max_pixels: larger pictures are ``Unreadable``.
        say: told which split it is.

    Raises:
        ValidationError: nothing says which pictures the split has.
    """
    ready = folder.ready_splits
    chosen = split or ("test" if rule is not None or "test" in ready else "all")
    if chosen != "all" and rule is None and chosen not in ready:
        raise ValidationError(
            f"{folder.root}: has no {chosen} split of its own, and the model does not say how it "
            "was split for training; use --split all, or a folder with train and test in it"
        )
    say(f"validating on the {chosen} split of {folder.root}")
    return decoded_split(folder, chosen, rule, max_pixels, "validating")


def decoded(pictures: Sequence[Picture], max_pixels: int) -> Iterator[Decoded | Unreadable]:
    """Pictures one after another, with progress on a terminal."""
    return progress(decode_all(pictures, max_pixels), "validating", len(pictures))
