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

# Options of run that name a file or folder to write.
_WRITTEN = ("log_file", "save_frames", "spool")
_NAME = click.option(
    "--name", default="edgecls", show_default=True, help="Name of the unit; one for each camera."
)


@click.group()
def service() -> None:
    """Run `edgecls run` as a systemd service: install it, show its status, remove it.

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
    help="Environment of the process, NAME=VALUE lines: tokens, or a camera URL with a password.",
)
@click.option(
    "--mqtt-credentials",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="For --mqtt: user name and password, one per line.",
)
@click.option(
    "--web-token", metavar="FILE", type=click.Path(path_type=Path), help="The token for --web."
)
@click.option("--no-start", is_flag=True, help="Do not start it now; it starts at the next boot.")
@click.option("--dry-run", is_flag=True, help="Print the unit and change nothing.")
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
    """Write a systemd unit for `edgecls run MODEL --camera`, enable it and start it.

    It runs as its own user, which may only use cameras and USB devices, write to its folder below
    /var/lib, and use the network; it is restarted when it fails or hangs. Options after -- go to run:
    relative paths there are relative to its folder. Run the same command again to change it.

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
    given = _parsed_options(model, options)
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
        if host.unit(name).exists():  # written, but it does not start: print systemd's reason
            click.echo("\n".join(unit_state(host, name).sentences()), err=True)
        raise
    click.echo(f"{host.unit(name)}: written, starts at every boot", err=True)
    if started:
        click.echo("\n".join(unit_state(host, name).sentences()))
    elif not no_start:
        click.echo("systemd is not running here, so nothing was started", err=True)


@service.command()
@_NAME
@json_option
def status(name: str, as_json: bool) -> None:
    """Show the state of the service; exit code 1 if it is not running.

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
@click.option("--purge", is_flag=True, help="Also delete its data: spools, logs, pictures.")
def remove(name: str, purge: bool) -> None:
    """Stop the service and remove its unit; its data stays, unless --purge.

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
        click.echo(f"kept: {path}", err=True)


def this_host() -> Host:
    """The machine that this runs on; tests replace it."""
    from edge_sdk.device.unit_install import Host
    from edge_sdk.systems import require_linux

    require_linux("a service of systemd", "Type the command on the device")
    return Host()


def _with_sudo() -> str:
    """This command line with sudo; root may lack the virtual environment on its PATH."""
    import shlex

    from edge_sdk.device.unit_install import program

    return shlex.join(("sudo", *program(), *sys.argv[1:]))


def _parsed_options(model: Path, options: tuple[str, ...]) -> dict[str, Any]:
    """Parses the options after ``--`` as ``run`` does.

    Raises:
        UsageError: ``run`` refuses them, or they name a source.
    """
    from edge_sdk.cli.run import run

    # Below the root's context: click caches the names of the help options with the command.
    root = click.get_current_context().find_root()
    given = run.make_context("run", [str(model), *options], parent=root).params
    if given["camera"] is not None or given["paths"]:
        raise click.UsageError(
            "--camera or --source after --: expected other options of run there, and the camera before "
            f"it; type: edgecls service install {model} --camera SPEC -- {' '.join(options)}"
        )
    return given
