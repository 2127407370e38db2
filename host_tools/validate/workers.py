"""One model in its own process, so that a crash affects no other.

A faulty engine may abort its process, or never return.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.classifier import Classifier
from edge_sdk.engines import runtime_version
from edge_sdk.errors import DelegateError, EdgeClsError, EngineNotInstalledError
from edge_sdk.types import Frame, Prediction
from edge_sdk.vision.tensors import NO_TEMPERATURE
from host_tools.predict import Opening, open_classifier

# For opening a model, and for each batch of pictures.
TIMEOUT_S = 120.0


class Trouble(NamedTuple):
    """Why a worker gives no scores.

    Attributes:
        status: ``missing``, not installed here or not plugged in; ``broken``, everything else.
        reason: in words.
    """

    status: Literal["missing", "broken"]
    reason: str


class Ready(NamedTuple):
    """The model is open; ``runtime`` is the package and version that runs it, where known."""

    runtime: str | None


class WorkerModel(Protocol):
    """The model that a worker runs; a ``Classifier`` is one."""

    def classify(self, frame: Frame) -> Prediction: ...

    def close(self) -> None: ...


Open = Callable[[Path, Opening], WorkerModel]


def open_quietly(path: Path, opening: Opening) -> Classifier:
    """``open_classifier`` without notes on a third-party model, which were logged before.

    Without the temperature of its manifest: runtimes are compared, not what was fitted afterwards.
    """
    classifier = open_classifier(path, opening, lambda _: None)
    classifier.temperature = NO_TEMPERATURE
    return classifier


class Worker:
    """A process with one open model. Started fresh, never forked: runtimes hold threads.

    Args:
        path: the model file.
        opening: with the backend.
        open_model: opens it, in the new process; a function of a module.
        timeout_s: for opening it, and for each batch.
    """

    def __init__(
        self,
        path: Path,
        opening: Opening,
        open_model: Open = open_quietly,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._timeout_s = timeout_s
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, path, opening, open_model), daemon=True
        )
        self._process.start()
        theirs.close()  # so that its end is the end of the pipe

    def opened(self) -> Ready | Trouble:
        """Waits for the model to be open. Once, before the first batch."""
        answer = self._receive("it was not open")
        return answer if isinstance(answer, (Ready, Trouble)) else _nonsense(answer)

    def ask(self, pixels: NDArray[np.uint8]) -> None:
        """Sends ``(N, H, W, C)`` uint8 pictures of the model's input size; see ``answer``."""
        with contextlib.suppress(OSError):  # it has died: ``answer`` reports it
            self._connection.send(pixels)

    def answer(self) -> NDArray[np.float32] | Trouble:
        """Waits for the ``(N, classes)`` float32 scores of the batch that was sent."""
        answer = self._receive("a batch of pictures was not answered")
        return answer if isinstance(answer, (np.ndarray, Trouble)) else _nonsense(answer)

    def close(self) -> None:
        """Ends the process at once, even during an inference."""
        self._connection.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def _receive(self, what: str) -> object:
        try:
            if not self._connection.poll(self._timeout_s):
                return Trouble("broken", f"{what} within {self._timeout_s:g} s")
            return self._connection.recv()
        except (EOFError, OSError):
            self._process.join(5)
            return Trouble("broken", _how_it_ended(self._process.exitcode))


def _serve(connection: Connection, path: Path, opening: Opening, open_model: Open) -> None:
    # Ctrl-C reaches every process of a terminal; the one that started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        model = open_model(path, opening)
    except (EngineNotInstalledError, DelegateError) as error:
        connection.send(Trouble("missing", str(error)))
        return
    except EdgeClsError as error:
        connection.send(Trouble("broken", str(error)))
        return
    connection.send(Ready(_runtime(opening.backend)))
    # The other end closes the pipe when it is done.
    with contextlib.closing(model), contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            pixels = connection.recv()
            try:
                answer = np.stack([model.classify(_frame(picture)).scores for picture in pixels])
            except EdgeClsError as error:
                connection.send(Trouble("broken", str(error)))
                return
            connection.send(answer)


def _frame(picture: NDArray[np.uint8]) -> Frame:
    # Preprocessing leaves pictures of the input's size and colours as they are.
    return Frame(picture[:, :, 0], "gray") if picture.shape[2] == 1 else Frame(picture, "rgb")


def _runtime(backend: str) -> str | None:
    try:
        return runtime_version(backend)
    except EdgeClsError:
        return None


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "its process stopped answering"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"it crashed its process ({name})"
    return f"its process ended by itself with exit code {code}"


def _nonsense(answer: object) -> Trouble:
    return Trouble("broken", f"its process answered with {type(answer).__name__}")
