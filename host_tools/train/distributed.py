"""Training on several accelerators of one or more machines: the processes and their shares.

Every process holds the whole network and takes its share of each batch; gradients and batch
normalisation are those of the whole batch. Keras' JAX backend and its ``DataParallel`` do the work: the
result is what one process would have trained, and its ``.keras`` file converts as usual.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import TrainingError
from host_tools.extras import require

# A process without a heartbeat for this long is taken for dead.
_HEARTBEAT_S = 20
_START_S = 300
# Texts of JAX's errors, of any type, when the connection to another process is lost.
_TRANSPORT = re.compile(r"Gloo|NCCL|UNAVAILABLE|coordination service|[Cc]onnection (reset|closed)")


@dataclass(frozen=True, slots=True)
class Team:
    """One process's place among those that train one network.

    Attributes:
        size: number of processes.
        rank: this one's number, from 0; process 0 writes the run directory.
        devices: accelerators of all processes together.
    """

    size: int = 1
    rank: int = 0
    devices: int = 1

    def share(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's pictures of a batch: every ``size``-th."""
        return batch[self.rank :: self.size]

    def whole(self, pictures: NDArray[np.int64]) -> NDArray[np.int64]:
        """As many pictures as the devices can share evenly; at most ``devices - 1`` are left out."""
        return pictures[: len(pictures) // self.devices * self.devices]

    def check_batch(self, batch_size: int) -> None:
        """Refuses a batch that the devices cannot share evenly.

        Raises:
            TrainingError: it is not a multiple of their number.
        """
        if batch_size % self.devices:
            raise TrainingError(
                f"training.batch_size is {batch_size}, which {self.devices} devices cannot share "
                f"evenly; set it to {-(-batch_size // self.devices) * self.devices}"
            )


ALONE = Team()


@dataclass(frozen=True, slots=True)
class Meeting:
    """The address at which the processes of a training meet.

    Attributes:
        coordinator: HOST:PORT of process 0, reachable from all.
        nodes: number of processes.
        rank: this one's number, from 0.
    """

    coordinator: str
    nodes: int
    rank: int


def use_jax() -> None:
    """Makes Keras run on JAX; must come before anything imports Keras.

    Raises:
        MissingExtraError: JAX is not installed.
        TrainingError: Keras runs on something else already.
    """
    backend = os.environ.get("KERAS_BACKEND", "jax")
    if backend != "jax" or ("keras" in sys.modules and _backend() != "jax"):
        raise TrainingError(
            "training on several devices runs on Keras' JAX backend, but KERAS_BACKEND is "
            f"{backend}; unset it"
        )
    require("jax")
    os.environ["KERAS_BACKEND"] = "jax"


def _backend() -> str:
    name: str = require("keras").backend.backend()
    return name


@contextlib.contextmanager
def joined(meeting: Meeting | None) -> Iterator[Team]:
    """A team, for as long as it trains together; ``use_jax`` must have been called.

    Args:
        meeting: of the processes; None: this one alone, with all its devices.

    Raises:
        TrainingError: the others did not join, or one of them died during the training.
    """
    jax = require("jax")
    if meeting is not None:
        try:
            jax.distributed.initialize(
                coordinator_address=meeting.coordinator,
                num_processes=meeting.nodes,
                process_id=meeting.rank,
                initialization_timeout=_START_S,
                heartbeat_timeout_seconds=_HEARTBEAT_S,
                shutdown_timeout_seconds=_HEARTBEAT_S,
            )
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"process {meeting.rank} of {meeting.nodes} could not join the others at "
                f"{meeting.coordinator} ({_first_line(error)}); start every process with the same "
                "address, which must be of the machine of process 0 and reachable from all"
            ) from error
    keras = require("keras")
    distribution = keras.distribution
    team = Team(jax.process_count(), jax.process_index(), jax.device_count())
    distribution.set_distribution(
        distribution.DataParallel(devices=distribution.list_devices(), auto_shard_dataset=False)
    )
    try:
        yield team
    except TrainingError:  # all have it
        _leave(meeting)
        raise
    except BaseException as error:
        if meeting is not None:
            _leave_alone(130 if isinstance(error, KeyboardInterrupt) else 1)
        if meeting is not None and _TRANSPORT.search(str(error)):
            raise TrainingError(
                f"process {team.rank} of {team.size} lost the others ({_first_line(error)}); the "
                "checkpoint is kept: start all of them again with --resume"
            ) from error
        raise
    _leave(meeting)


def _leave(meeting: Meeting | None) -> None:
    """Ends the distribution; the processes wait for each other."""
    require("keras").distribution.set_distribution(None)
    if meeting is not None:
        require("jax").distributed.shutdown()


def _leave_alone(code: int) -> None:
    """Makes this process end without waiting for the others, which may be dead.

    JAX would wait for them at interpreter exit and then abort. Exit functions run in reverse order
    of registration, so this one runs first.
    """

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(end)


def check_agreement(team: Team, what: str) -> None:
    """Checks that every process trains the same.

    Args:
        team: this process's.
        what: recipe, pictures and the state of the checkpoint; or weights.

    Raises:
        TrainingError: they differ.
    """
    if team.size == 1:
        return
    gather = require("jax.experimental.multihost_utils").process_allgather
    own = np.frombuffer(hashlib.sha256(what.encode()).digest(), np.uint8)
    digests = np.asarray(gather(own))
    others = [rank for rank in range(team.size) if not np.array_equal(digests[rank], digests[0])]
    if others:
        raise TrainingError(
            f"process {', '.join(map(str, others))} has another recipe, other pictures, another "
            "checkpoint or other weights than process 0; give every process the same command, the "
            "same pictures and, for --resume, a run directory that all of them can read"
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]
