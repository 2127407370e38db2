"""``edgecls service``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_sdk.cli.options import json_option
from edge_sdk.cli.run_options import parse_camera
from edge_sdk.errors import SystemctlError

if TYPE_CHECKING:
    from edge_sdk.device.unit_install import Host

# Options of run that name something to write.
_WRITTEN = ("log_file", "save_frames", "spool")
_NAME = click.option(
    "--name", default="edgecls", show_default=True, help="Of the unit; one for each camera."
)


@click.group()
def service() -> None:
    """Keep `edgecls run` alive: a systemd unit, its installation, how it is.

    \b
    Example:
      sudo edgecls service install /opt/edgecls/trash_int8.tflite --camera
      edgecls service status
    """


@service.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("options", nargs=-1, metavar="[-- RUN-OPTIONS...]")
@click.option(
    "--camera",
    metavar="[SPEC]",
    is_flag=False,
    flag_value="auto",
    help="As for run; without it: $EDGECLS_CAMERA of the environment file, or auto.",
)
@_NAME
@click.option(
    "--environment-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Lines NAME=VALUE for the process: tokens, or a camera's URL with a password.",
)
@click.option(
    "--mqtt-credentials",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Name, then password, a line each, for --mqtt.",
)
@click.option(
    "--web-token", metavar="FILE", type=click.Path(path_type=Path), help="The token for --web."
)
@click.option("--no-start", is_flag=True, help="Only write it; it starts with the machine.")
@click.option("--dry-run", is_flag=True, help="Print the unit, change nothing.")
def install(
    model: Path,
    options: tuple[str, ...],
    camera: str | None,
    name: str,
    environment_file: Path | None,
    mqtt_credentials: Path | None,
    web_token: Path | None,
    no_start: bool,
    dry_run: bool,
) -> None:
    """Write a systemd unit for `edgecls run MODEL --camera`, switch it on and start it.

    It runs as a user of its own that may do nothing but look at cameras and USB devices, write to its
    folder below /var/lib, and speak to the network; it is started again when it fails or hangs.
    What stands behind -- goes to run: relative paths there lie in its folder. Once installed, the same
    command changes it.

    \b
    Example:
      edgecls service install trash_int8.tflite --camera --dry-run
      sudo edgecls service install /opt/edgecls/trash_int8.tflite --camera \\
        --mqtt-credentials /etc/edgecls/mqtt -- --events --mqtt mqtts://broker.local
    """
    from edge_sdk.device.unit import unit_text
    from edge_sdk.device.unit_install import Described, UnitRequest, plan
    from edge_sdk.device.unit_install import install as put_in_place
    from edge_sdk.device.unit_state import unit_state

    if camera is not None:
        parse_camera(camera, model)
    given = _understood(model, options)
    request = UnitRequest(
        name,
        model,
        camera,
        options,
        environment_file,
        mqtt_credentials,
        web_token,
        Described(given["labels"], given["normalize"], given["crop"]),
        given["mqtt"],
        given["webhook"],
        tuple(p for key in _WRITTEN if (p := given[key]) is not None),
    )
    planned, notes = plan(request)
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    text = unit_text(planned)
    if dry_run:
        click.echo(text, nl=False)
        return
    host = this_host()
    host.check_root(_with_sudo())
    try:
        started = put_in_place(host, name, text, start=not no_start)
    except SystemctlError:
        if host.unit(name).exists():  # in place, but it does not start: systemd knows why
            click.echo("\n".join(unit_state(host, name).sentences()), err=True)
        raise
    click.echo(f"{host.unit(name)}: written, and starts with the machine", err=True)
    if started:
        click.echo("\n".join(unit_state(host, name).sentences()))
    elif not no_start:
        click.echo("systemd does not run here, so nothing was started", err=True)


@service.command()
@_NAME
@json_option
def status(name: str, as_json: bool) -> None:
    """Say in words how the service is; exit code 1 where it is not running.

    \b
    Example:
      edgecls service status
    """
    from edge_sdk.device.unit import check_name
    from edge_sdk.device.unit_state import unit_state

    state = unit_state(this_host(), check_name(name))
    if as_json:
        import json

        click.echo(json.dumps(state.to_json()))
    else:
        click.echo("\n".join(state.sentences()))
    if not state.is_running:
        raise click.exceptions.Exit(1)


@service.command()
@_NAME
@click.option("--purge", is_flag=True, help="Also delete what it wrote: spools, logs, pictures.")
def remove(name: str, purge: bool) -> None:
    """Stop the service and undo its installation; what it wrote stays, unless --purge.

    \b
    Example:
      sudo edgecls service remove
    """
    from edge_sdk.device.unit import check_name
    from edge_sdk.device.unit_install import remove as take_away

    host = this_host()
    host.check_root(_with_sudo())
    left = take_away(host, check_name(name), purge=purge)
    click.echo(f"{host.unit(name)}: removed", err=True)
    for path in left:
        click.echo(f"left: {path}", err=True)


def this_host() -> Host:
    """The machine that this runs on; tests put another one in its place."""
    from edge_sdk.device.unit_install import Host
    from edge_sdk.systems import require_linux

    require_linux("a service of systemd", "Type the command on the device")
    return Host()


def _with_sudo() -> str:
    """This very command for root, who need not have the environment on the path."""
    import shlex

    from edge_sdk.device.unit_install import program

    return shlex.join(("sudo", *program(), *sys.argv[1:]))


def _understood(model: Path, options: tuple[str, ...]) -> dict[str, Any]:
    """What ``run`` makes of the words behind ``--``.

    Raises:
        UsageError: it does not understand them, or they name a source.
    """
    from edge_sdk.cli.run import run

    # Below the root's context: click remembers with the command which options are its help.
    root = click.get_current_context().find_root()
    given = run.make_context("run", [str(model), *options], parent=root).params
    if given["camera"] is not None or given["paths"]:
        raise click.UsageError(
            "behind -- stand further options of run; the camera stands before it: edgecls service "
            f"install {model} --camera SPEC -- {' '.join(options)}"
        )
    return given
