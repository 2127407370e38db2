"""The contestants: a program, its environment and its model file for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.material import Material

_WORKERS = Path(__file__).parent / "workers"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One row of the table.

    Attributes:
        name: what a reader calls it.
        environment: a folder that ``make_environments`` made.
        worker: a program in ``workers/``.
        model: a name in ``Material.models``.
        crop: how the whole frame becomes the network's square; all contestants of one crop give the
            same answers.
        tensors: it is given the network's input instead of frames.
    """

    name: str
    environment: str
    worker: str
    model: str
    crop: str = "squash"
    tensors: bool = False

    def command(self, environments: Path, mode: str, material: Material) -> list[str]:
        """The words that start its worker; ``mode`` is ``once`` or ``serve``."""
        frames = material.tensors[self.crop] if self.tensors else material.frames
        return [
            str(environments / self.environment / "bin" / "python"),
            *(str(_WORKERS / self.worker), mode),
            *(str(material.models[self.model]), str(material.labels), *map(str, frames)),
        ]


RAW = Contestant("LiteRT, `invoke()` alone", "litert", "litert_invoke.py", "squash", tensors=True)
RAW_CENTER = Contestant(
    "LiteRT, `invoke()` alone, centre crop",
    *("litert", "litert_invoke.py", "center", "center"),
    tensors=True,
)
OURS_CENTER = Contestant(
    "**edgecls**, its default, the centre crop",
    *("edgecls", "edgecls_classify.py", "center", "center"),
)
OURS = Contestant("**edgecls**, `crop=squash`", "edgecls", "edgecls_classify.py", "squash")
MEDIAPIPE = Contestant(
    "MediaPipe Tasks ImageClassifier", "mediapipe", "mediapipe_tasks.py", "squash"
)
CONTESTANTS = (
    RAW,
    OURS_CENTER,
    OURS,
    Contestant(
        "LiteRT + OpenCV by hand, one linear resize",
        *("litert-opencv", "litert_opencv.py", "squash"),
    ),
    MEDIAPIPE,
    Contestant(
        "the classic `label_image.py` (LiteRT + Pillow)",
        *("label-image", "label_image.py", "squash"),
    ),
    Contestant("ONNX Runtime, int8 QDQ", "onnxruntime", "onnx_runtime.py", "onnx-int8"),
    Contestant("OpenCV DNN, float32", "opencv", "opencv_dnn.py", "onnx-float32"),
)
# Where a centre crop's answers are looked up; it is not timed.
REFERENCES = {"squash": RAW, "center": RAW_CENTER}
