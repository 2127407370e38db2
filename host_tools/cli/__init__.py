"""The ``edgecls`` command: the host's commands, with the device's mounted beside them."""

from __future__ import annotations

import click

import edge_sdk
from edge_sdk.cli import COMMANDS as DEVICE_COMMANDS
from edge_sdk.cli.group import EdgeclsGroup, set_verbosity
from host_tools.cli.build import build
from host_tools.cli.calibrate_scores import calibrate_scores
from host_tools.cli.compare import compare
from host_tools.cli.convert import convert
from host_tools.cli.data import data, preview
from host_tools.cli.demo import demo
from host_tools.cli.edgetpu import edgetpu
from host_tools.cli.explain import explain
from host_tools.cli.recipe import recipe
from host_tools.cli.train import train
from host_tools.cli.validate import validate

HOST_COMMANDS: tuple[click.Command, ...] = (
    demo,
    build,
    train,
    convert,
    calibrate_scores,
    recipe,
    data,
    explain,
    compare,
    edgetpu,
)
# Needs the extra only for a Keras reference.
SHARED_COMMANDS: tuple[click.Command, ...] = (validate,)


@click.group(
    cls=EdgeclsGroup,
    sections={
        "On the workstation (pip install 'edgecls[host]')": tuple(
            c.name or "" for c in HOST_COMMANDS
        ),
        "On the device": tuple(c.name or "" for c in (*DEVICE_COMMANDS, *SHARED_COMMANDS)),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("-v", "--verbose", count=True, help="Log more; -vv logs everything.")
@click.version_option(edge_sdk.__version__, prog_name="edgecls")
def main(verbose: int) -> None:
    """From a folder of labelled pictures to a small classifier on a Raspberry Pi.

    \b
    Example:
      edgecls demo
    """
    set_verbosity(verbose)


data.add_command(preview)
for _command in (*HOST_COMMANDS, *SHARED_COMMANDS, *DEVICE_COMMANDS):
    main.add_command(_command)
