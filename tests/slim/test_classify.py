"""The golden artifacts on their ten real pictures: what the base installation is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk import Classifier, FolderSource, read_image, run
from edge_sdk.testing import MemorySink
from edge_sdk.types import FrameRecord

pytestmark = pytest.mark.computes


@pytest.mark.parametrize("format_", ["int8", "float16"])
def test_every_digit_is_named(
    format_: str, digit_pictures: Path, request: pytest.FixtureRequest
) -> None:
    with Classifier.open(request.getfixturevalue(f"{format_}_artifact")) as classifier:
        for picture in sorted(digit_pictures.rglob("*.png")):
            assert classifier.classify(read_image(picture)).label == picture.parent.name


def test_the_loop_runs_over_a_folder(int8_artifact: Path, digit_pictures: Path) -> None:
    sink = MemorySink()
    with Classifier.open(int8_artifact, threads=2) as classifier:
        statistics = run(FolderSource(digit_pictures), classifier, [sink])
    assert statistics.frames == len(sink.records) == 10
    labels = [record.label for record in sink.records if isinstance(record, FrameRecord)]
    assert labels == [str(digit) for digit in range(10)]
