"""Flips: which way an answer changed, in which order they stand, and what is written of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.vision.preprocess import Preprocessing
from host_tools.data.pictures import Picture
from host_tools.validate.flips import WAYS, find_changed, to_json
from host_tools.validate.results import ArtifactResult, ScoreDifference, Validation

_LABELS = ("cat", "dog", "cow")


def _result(flipped: list[int], scores: list[list[float]]) -> ArtifactResult:
    return ArtifactResult(
        *("a_int8.tflite", "int8", 1, 1, 0.5, None, None, 0.0, (-1.0, 1.0), 1.0, 0.5),
        flips=len(flipped),
        score_difference=ScoreDifference(0.1, 0.2),
        preprocessing=Preprocessing(8, 8),
        per_class=(),
        verdict=None,
        images_needed=None,
        flipped=np.array(flipped, np.int64),
        flipped_scores=np.array(scores, np.float32).reshape(-1, 3),
    )


def _comparison(root: Path, result: ArtifactResult, names: list[str]) -> Validation:
    return Validation(
        reference_path="run/model.keras",
        accuracy=0.5,
        n=len(names),
        preprocessing=None,
        artifacts=(result,),
        labels=_LABELS,
        truth=np.zeros(len(names), np.int64),
        # The first two are right, the others wrong.
        reference_scores=np.array(
            [[0.6, 0.3, 0.1]] * 2 + [[0.2, 0.5, 0.3]] * (len(names) - 2), np.float32
        ),
        pictures=tuple(Picture(root / name, 0, None) for name in names),
        fingerprint="",
        unreadable=(),
    )


@pytest.fixture
def comparison(tmp_path: Path) -> Validation:
    result = _result(
        [0, 1, 2, 3],
        [[0.4, 0.5, 0.1], [0.05, 0.9, 0.05], [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]],
    )
    names = ["cat/a.png", "cat/b.png", "cat/c.png", "cat/d.png", "cat/e.png"]
    return _comparison(tmp_path, result, names)


def test_the_most_harmful_come_first(comparison: Validation, tmp_path: Path) -> None:
    (changed,) = find_changed(comparison, tmp_path)
    assert [(flip.path, flip.way) for flip in changed.flips] == [
        ("cat/b.png", "right_to_wrong"),  # wrong with 0.9
        ("cat/a.png", "right_to_wrong"),
        ("cat/d.png", "wrong_to_wrong"),
        ("cat/c.png", "wrong_to_right"),
    ]
    assert changed.counts == {"right_to_wrong": 2, "wrong_to_wrong": 1, "wrong_to_right": 1}
    assert tuple(changed.counts) == WAYS


def test_both_answers_are_given_with_margins(comparison: Validation, tmp_path: Path) -> None:
    flip = find_changed(comparison, tmp_path)[0].flips[0]
    assert flip.truth == "cat"
    assert [ranked.label for ranked in flip.reference.topk] == ["cat", "dog", "cow"]
    assert flip.reference.margin == pytest.approx(0.3)
    assert flip.artifact.topk[0].label == "dog"
    assert flip.artifact.margin == pytest.approx(0.85)
    assert flip.artifact.truth_score == pytest.approx(0.05)


def test_the_json_has_every_flip_and_no_path_of_this_machine(
    comparison: Validation, tmp_path: Path
) -> None:
    text = json.dumps(to_json(comparison, find_changed(comparison, tmp_path)))
    assert str(tmp_path) not in text
    found = json.loads(text)
    assert (found["schema"], found["type"], found["n"]) == (1, "flips", 5)
    artifact = found["artifacts"][0]
    assert artifact["right_to_wrong"] == 2
    assert artifact["flips"][0]["path"] == "cat/b.png"
    assert set(artifact["flips"][0]) == {"path", "truth", "way", "reference", "artifact"}


def test_no_flips_are_an_empty_list(tmp_path: Path) -> None:
    comparison = _comparison(tmp_path, _result([], []), ["cat/a.png", "cat/b.png"])
    (changed,) = find_changed(comparison, tmp_path)
    assert changed.flips == ()
    assert set(changed.counts.values()) == {0}


def test_a_picture_beside_the_data_folder_is_given_by_its_name_alone(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    result = _result([0], [[0.4, 0.5, 0.1]])
    comparison = _comparison(root, result, ["../elsewhere/a.png", "cat/b.png"])
    outside = Picture(tmp_path / "elsewhere" / "a.png", 0, None)
    object.__setattr__(comparison, "pictures", (outside, comparison.pictures[1]))
    assert find_changed(comparison, root)[0].flips[0].path == "a.png"
