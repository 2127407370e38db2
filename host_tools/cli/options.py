"""Options that several host commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from edge_sdk.cli.options import max_megapixels_option

F = TypeVar("F", bound=Callable[..., Any])


# Data sets that --data accepts by name before they are downloaded.
_KNOWN_BY_NAME = ("cifar10",)


def data_option(*, required: bool) -> Callable[[F], F]:
    """``--data``: labelled pictures."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        required=required,
        callback=_existing,
        help="Labelled pictures: a folder per class, or any layout of docs/datasets.md.",
    )


def layout_option(function: F) -> F:
    """``--layout``: how the data set is organized on disk."""
    return click.option(
        "--layout",
        metavar="NAME",
        default="auto",
        help="Data layout: folders, imagenet100, tiny-imagenet, cifar10 or csv  [default: detect].",
    )(function)


def prepared_data_options(*, required: bool) -> Callable[[F], F]:
    """``--data``, ``--layout`` and the cache of decoded pictures.

    The callback is given ``data``, a ``host_tools.data.load.DataPlace`` or None.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def with_place(
            data: Path | None,
            layout: str,
            cache: tuple[Path, ...],
            cache_limit: float,
            max_pixels: int,
            **others: Any,
        ) -> Any:
            from host_tools.data.cache import CachePlace
            from host_tools.data.load import DataPlace

            folder, *more = cache or (CachePlace.default().folder,)
            place = CachePlace(folder, round(cache_limit * 1e9), tuple(more))
            given = None if data is None else DataPlace(data, layout, max_pixels, place)
            return function(data=given, **others)

        options = (
            data_option(required=required),
            layout_option,
            _CACHE_OPTION,
            _CACHE_LIMIT_OPTION,
            max_megapixels_option,
        )
        decorated: Any = with_place
        for option in reversed(options):
            decorated = option(decorated)
        return cast("F", decorated)

    return decorate


_CACHE_OPTION = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    envvar="EDGECLS_CACHE",
    help="Folder for decoded pictures, kept between runs; may be given several times, to spread them "
    "over disks  [default: the user's cache folder].",
)
_CACHE_LIMIT_OPTION = click.option(
    "--cache-limit",
    metavar="GB",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    envvar="EDGECLS_CACHE_LIMIT",
    help="Disk space for all caches; the least recently used are deleted first.",
)


def _existing(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and not path.exists() and str(path) not in _KNOWN_BY_NAME:
        raise click.BadParameter(f"{path} does not exist.", context, parameter)
    return path


def split_option(choices: tuple[str, ...], default: str | None, what: str) -> Callable[[F], F]:
    """``--split``: which of the pictures."""
    return click.option(
        "--split",
        type=click.Choice(choices),
        default=default,
        show_default=default is not None,
        help=what,
    )


def set_option(function: F) -> F:
    """``--set KEY=VALUE``, given to the callback as ``overrides``."""
    return click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Change the recipe, as in --set training.epochs=20.",
    )(function)


def resume_option(function: F) -> F:
    """``--resume``."""
    return click.option("--resume", is_flag=True, help="Resume an interrupted training.")(function)


def corruptions_option(function: F) -> F:
    """``--corruptions``."""
    return click.option(
        "--corruptions",
        is_flag=True,
        help="Also measure accuracy on noisy, blurred, dark, compressed and pale pictures: a minute, "
        "or more for large networks.",
    )(function)


def team_options(function: F) -> F:
    """``--devices``, ``--nodes``, ``--node-rank`` and ``--coordinator``.

    The callback is given ``meeting``, a ``host_tools.train.distributed.Meeting`` or None, and
    ``together``: whether Keras must run on JAX.
    """

    @functools.wraps(function)
    def with_meeting(
        devices: str, nodes: int, node_rank: int | None, coordinator: str | None, **others: Any
    ) -> Any:
        meeting = None
        if nodes > 1:
            from host_tools.train.distributed import Meeting

            if coordinator is None or node_rank is None:
                raise click.UsageError(
                    f"--nodes {nodes} needs --coordinator HOST:PORT, the same for all nodes, and "
                    f"--node-rank 0 to {nodes - 1}, different for each"
                )
            if node_rank >= nodes:
                raise click.UsageError(
                    f"--node-rank {node_rank}: expected 0 to {nodes - 1} with --nodes {nodes}"
                )
            meeting = Meeting(coordinator, nodes, node_rank)
        elif coordinator is not None or node_rank is not None:
            raise click.UsageError("--coordinator and --node-rank need --nodes 2 or more")
        return function(meeting=meeting, together=meeting is not None or devices == "all", **others)

    decorated: Any = with_meeting
    for option in reversed(_TEAM_OPTIONS):
        decorated = option(decorated)
    return cast("F", decorated)


_TEAM_OPTIONS = (
    click.option(
        "--devices",
        type=click.Choice(["one", "all"]),
        default="one",
        show_default=True,
        help="all: split each batch over all accelerators of this machine (needs edgecls[jax]).",
    ),
    click.option(
        "--nodes",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        envvar="EDGECLS_NODES",
        help="Number of processes that train together, one per machine.",
    ),
    click.option(
        "--node-rank",
        type=click.IntRange(0),
        envvar="EDGECLS_NODE_RANK",
        help="Rank of this process, from 0; rank 0 writes the run directory.",
    ),
    click.option(
        "--coordinator",
        metavar="HOST:PORT",
        envvar="EDGECLS_COORDINATOR",
        help="Address where rank 0 waits for the others.",
    ),
)
