"""MediaPipe Tasks opens our artifacts as they are. It runs in an environment of its own, whose Python
EDGECLS_MEDIAPIPE_PYTHON names, since it brings another build of OpenCV; ``.ci/mediapipe`` makes one.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from edge_sdk import Classifier, read_image

_SCRIPT = """
import json, sys
import mediapipe as mp
from mediapipe.tasks import python as tasks
model, *pictures = sys.argv[1:]
options = tasks.vision.ImageClassifierOptions(
    base_options=tasks.BaseOptions(model_asset_path=model), max_results=1
)
with tasks.vision.ImageClassifier.create_from_options(options) as classifier:
    for picture in pictures:
        result = classifier.classify(mp.Image.create_from_file(picture))
        best = result.classifications[0].categories[0]
        print(json.dumps({"label": best.category_name, "score": best.score}))
"""


@pytest.mark.parametrize("format_", ["int8", "float16"])
def test_mediapipe_gives_our_labels_for_real_pictures(
    format_: str, digit_pictures: Path, request: pytest.FixtureRequest
) -> None:
    python = os.environ.get("EDGECLS_MEDIAPIPE_PYTHON")
    if python is None:
        pytest.skip("MediaPipe has no environment here")
    artifact: Path = request.getfixturevalue(f"{format_}_artifact")
    pictures = sorted(digit_pictures.rglob("*.png"))
    with Classifier.open(artifact) as classifier:
        ours = [classifier.classify(read_image(picture)).top(1)[0] for picture in pictures]
    output = subprocess.run(
        [python, "-c", _SCRIPT, str(artifact), *map(str, pictures)],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    ).stdout
    theirs = [json.loads(line) for line in output.splitlines()]
    assert [answer["label"] for answer in theirs] == [answer.label for answer in ours]
    assert [answer["label"] for answer in theirs] == [picture.parent.name for picture in pictures]
    assert [answer["score"] for answer in theirs] == pytest.approx(
        [answer.score for answer in ours], abs=0.02
    )
