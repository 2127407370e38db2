"""Several models measured in turns, so that whatever the machine does hits them all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from edge_sdk.bench.timing import Lane
from edge_sdk.errors import EdgeClsError

# So many blocks of each model, so that there is something to compare from block to block.
BLOCKS = 40
BLOCKS_LEAST = 20
BLOCKS_MOST = 100
_BLOCK_S = (0.01, 0.25)
# Of the time for one model; a warm-up that takes longer is reported as not stable.
_WARM_SHARE = 0.25


def take_turns(
    lanes: Sequence[Lane],
    *,
    seconds: float,
    precision_percent: float,
    seed: int,
    between: Callable[[], object] = lambda: None,
    failed: Callable[[Lane, EdgeClsError], object],
) -> None:
    """Warms all lanes up, then times them block by block, in an order drawn anew for every turn.

    It ends when every median is known as well as asked for, after 20 turns at the earliest, or when
    the time is over (or after 100 turns, of models that take microseconds). All lanes get the same
    number of turns: one that is known well goes on, so that it can be compared with the others.

    Args:
        lanes: at least one; their timings are in them afterwards.
        seconds: of timing for each lane, warm-up aside.
        precision_percent: half the width of the 95 % interval of a median.
        seed: of the order.
        between: called between two blocks.
        failed: is told of a lane that raised an error; it gets no more turns.
    """
    block_s = min(max(seconds / BLOCKS, _BLOCK_S[0]), _BLOCK_S[1])
    active = []
    for lane in lanes:
        if _survives(lane, partial(lane.warm_up, seconds * _WARM_SHARE), failed):
            active.append(lane)
        between()
    chance = np.random.default_rng(seed)
    origin_ns = time.perf_counter_ns()
    turn = 0
    while active:
        for lane in [active[i] for i in chance.permutation(len(active))]:
            if not _survives(lane, partial(lane.block, turn, block_s, origin_ns), failed):
                active.remove(lane)
            between()
        turn += 1
        if turn == BLOCKS_MOST or any(lane.spent_s >= seconds for lane in active):
            return
        if turn >= BLOCKS_LEAST and all(
            lane.half_width_percent() <= precision_percent for lane in active
        ):
            return


def _survives(
    lane: Lane, work: Callable[[], object], failed: Callable[[Lane, EdgeClsError], object]
) -> bool:
    try:
        work()
    except EdgeClsError as error:
        failed(lane, error)
        return False
    return True
