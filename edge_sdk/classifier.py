"""``Classifier``: an artifact and an engine, from a frame to a prediction."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact import Artifact
from edge_sdk.artifact.manifest import SelfTest
from edge_sdk.engines import backend_for, load_runtime, open_engine
from edge_sdk.engines.trial import try_first_in_background, try_in_child
from edge_sdk.errors import ConcurrentUseError, EngineError, SelfTestError
from edge_sdk.ports import Engine
from edge_sdk.types import Frame, Prediction, Timing
from edge_sdk.vision.preprocess import Crop, Preprocessor
from edge_sdk.vision.tensors import NO_TEMPERATURE, Encoder, Normalization, decode, temper

# Engines differ by a few counts in int8; a damaged model or a wrong engine differs by far more.
SELFTEST_TOLERANCE = 0.05


class Classifier:
    """Classifies frames. One thread at a time may use it; a second one gets ``ConcurrentUseError``.

    Use ``Classifier.open``. The constructor takes the parts, for tests and for custom engines.

    Args:
        artifact: the model file; must be fully described.
        engine: runs the model; closed with the classifier.

    Attributes:
        threshold, temperature: applied to the scores; the artifact's values, which may be changed.

    Raises:
        UndescribedArtifactError: labels or input range of a third-party model are unknown.
    """

    def __init__(self, artifact: Artifact, engine: Engine) -> None:
        artifact.require_described()
        assert artifact.normalization is not None  # by require_described
        self.artifact = artifact
        self.labels = artifact.labels
        self.threshold = artifact.manifest.threshold if artifact.manifest else 0.0
        self.temperature = artifact.manifest.temperature if artifact.manifest else NO_TEMPERATURE
        self._engine = engine
        self._preprocess = Preprocessor(artifact.preprocessing)
        self._encode = Encoder(artifact.input, artifact.normalization)
        self._busy = threading.Lock()

    @classmethod
    def open(
        cls,
        path: str | Path,
        backend: str = "cpu",
        *,
        threads: int = 1,
        labels: str | Path | Sequence[str] | None = None,
        normalize: str | Normalization | None = None,
        crop: Crop | None = None,
    ) -> Classifier:
        """Opens a model file and checks that it works on this machine.

        A file that has not passed on this machine before is first run once in a child process with
        limits on time and memory, whatever its manifest says: a damaged file can crash the
        interpreter. An edgecls artifact runs its golden self-test every time. A model compiled for
        the Edge TPU gets no trial: the device serves one process at a time.

        Args:
            path: a ``.tflite`` or ``.onnx`` file.
            backend: ``cpu``, ``litert``, ``tflite-runtime``, ``litert-noxnnpack``, ``onnx``,
                ``edgetpu[:usb:N|:pci:N]``; ``cpu`` is ONNX Runtime for an ``.onnx``.
            threads: CPU threads for one inference.
            labels, normalize, crop: for third-party models, see ``Artifact.open``.

        Raises:
            ArtifactError: see ``Artifact.open``.
            EngineError: the backend is unknown or not installed.
            SelfTestError: the model's answers differ from those at conversion.
        """
        try_first_in_background(Path(path), backend)
        artifact = Artifact.open(path, labels=labels, normalize=normalize, crop=crop)
        # Before the description is checked: labels are no use for a model that cannot run here.
        backend = backend_for(artifact, backend)
        artifact.require_described()
        if not artifact.needs_edgetpu:
            try_in_child(artifact.data, artifact.sha256, backend, load_runtime(backend), str(path))
        classifier = cls(artifact, open_engine(artifact.data, backend, threads=threads))
        if artifact.manifest is not None:
            try:
                classifier.check(artifact.manifest.selftest)
            except BaseException:
                classifier.close()
                raise
        return classifier

    def classify(self, frame: Frame | NDArray[np.uint8]) -> Prediction:
        """Classifies one frame, or an RGB array ``(H, W, 3)`` uint8.

        Raises:
            FrameError: the pixels are no valid picture.
            EngineError: the inference failed, or the output contains NaN.
            ConcurrentUseError: another thread is inside a call.
        """
        if not self._busy.acquire(blocking=False):
            raise ConcurrentUseError(
                "this classifier is in use by another thread; open one per thread, or use a lock"
            )
        try:
            started = time.perf_counter_ns()
            tensor = self._encode(self._preprocess(frame))
            prepared = time.perf_counter_ns()
            stored = self._engine.infer(tensor)
            inferred = time.perf_counter_ns()
            artifact = self.artifact
            scores = decode(stored, artifact.output.quantization, logits=artifact.logits)
            if len(scores) != len(self.labels):
                raise EngineError(
                    f"{artifact.path}: the model returned {len(scores)} scores, expected "
                    f"{len(self.labels)}, one per label; convert it again"
                )
            scores = temper(scores, self.temperature)
            if not np.isfinite(scores).all():
                raise EngineError(f"{artifact.path}: the model returned NaN; convert it again")
            done = time.perf_counter_ns()
        finally:
            self._busy.release()
        return Prediction(
            frame.index if isinstance(frame, Frame) else 0,
            scores,
            self.labels,
            Timing(
                (prepared - started) / 1e6, (inferred - prepared) / 1e6, (done - inferred) / 1e6
            ),
            self.threshold,
        )

    def check(self, selftest: SelfTest) -> None:
        """Runs a golden self-test: the same top-1, and each probability within 0.05.

        It tests the model alone: probabilities before the temperature.

        Raises:
            SelfTestError: the result differs: the file is damaged, or the engine is wrong.
        """
        artifact = self.artifact
        for pixels, expected in zip(selftest.pixels, selftest.scores, strict=True):
            stored = self._engine.infer(self._encode(np.ascontiguousarray(pixels)))
            scores = decode(stored, artifact.output.quantization, logits=artifact.logits)
            # Written so that NaN fails too.
            close = scores.shape == expected.shape and bool(
                (np.abs(scores - expected) <= SELFTEST_TOLERANCE).all()
            )
            if not close or scores.argmax() != expected.argmax():
                raise SelfTestError(
                    f"{artifact.path}: the golden self-test failed, its result differs from that at "
                    "conversion; the file is damaged, or this runtime computes it wrongly: copy the file "
                    "again"
                    + (", then try --backend litert-noxnnpack" if artifact.kind == "tflite" else "")
                )

    def close(self) -> None:
        """Closes the engine once a call in another thread has ended; a second call does nothing."""
        with self._busy:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
