"""``edgecls doctor``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_sdk.cli.options import json_option
from edge_sdk.terminal import own, printable

if TYPE_CHECKING:
    from edge_sdk.device.doctor.context import Finding, Severity

_SOMETHING_MISSING = 5
_COLORS = {"error": "red", "warning": "yellow", "note": "cyan", "ok": "green"}
_MARGIN = 9  # columns: the longest severity and a space
_MAX_WIDTH = 100  # columns


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--mqtt", metavar="URL", help="Also try this broker  [default: $EDGECLS_MQTT].")
@click.option(
    "--unit",
    metavar="NAME",
    default="edgecls",
    show_default=True,
    help="The service to check: the --name given to edgecls service.",
)
@click.option("--all", "everything", is_flag=True, help="Also list the checks that passed.")
@json_option
def doctor(
    models: tuple[Path, ...], mqtt: str | None, unit: str, everything: bool, as_json: bool
) -> None:
    """Find what is missing or wrong on this machine, with a command that fixes it.

    Checks Python and its packages, cameras, Coral, power, disk, memory, clock and service; opens and
    tests each MODEL. Changes nothing; a disk test writes a few MB and deletes them. The exit code is 5
    where a requirement is missing.

    \b
    Example:
      edgecls doctor trash_int8.tflite --mqtt mqtt://broker.local
    """
    import json
    import os

    from edge_sdk.device.doctor.context import DoctorOptions, this_machine
    from edge_sdk.device.doctor.examine import examine
    from edge_sdk.plain import to_plain
    from edge_sdk.systems import require_linux

    require_linux(
        "edgecls doctor", "Run it on the device; edgecls inspect MODEL describes a model anywhere"
    )

    model = os.environ.get("EDGECLS_MODEL")
    options = DoctorOptions(
        models or ((Path(model),) if model else ()),
        mqtt or os.environ.get("EDGECLS_MQTT") or None,
        unit.removesuffix(".service"),
        _folder_for_results(),
    )
    findings = examine(this_machine(options))
    if as_json:
        report = {"schema": 1, "type": "doctor", "findings": to_plain(findings)}
        click.echo(json.dumps(report))
    else:
        _print(findings, everything=everything)
    if any(finding.severity == "error" for finding in findings):
        click.get_current_context().exit(_SOMETHING_MISSING)


def _folder_for_results() -> Path:
    from edge_sdk.errors import SinkSpecError
    from edge_sdk.sinks.identity import default_spool

    try:
        return default_spool("mqtt", "").parent
    except SinkSpecError:  # a user without a home
        return Path.cwd()


def _print(findings: tuple[Finding, ...], *, everything: bool) -> None:
    import os

    plain = False if os.environ.get("NO_COLOR") else None  # None: click asks the terminal
    fine = [finding for finding in findings if finding.severity == "ok"]
    for finding in findings:
        if finding.severity != "ok" or everything:
            click.echo(_text(finding), color=plain, file=own(sys.stdout))
    counts: dict[Severity, int] = {}
    for finding in findings:
        counts[finding.severity] = counts.get(finding.severity, 0) + 1
    named = [
        f"{counts[severity]} {severity if counts[severity] == 1 else severity + 's'}"
        for severity in ("error", "warning", "note")
        if counts.get(severity)
    ]
    rest = "" if everything or not fine else " (edgecls doctor --all lists them)"
    click.echo(f"{', '.join(named) or 'Nothing to fix'}; {len(fine)} checks passed{rest}.")


def _text(finding: Finding) -> str:
    import shutil

    width = min(_MAX_WIDTH, shutil.get_terminal_size().columns)
    label = click.style(f"{finding.severity:<{_MARGIN}}", fg=_COLORS[finding.severity], bold=True)
    indent = " " * _MARGIN
    what, why = (
        click.wrap_text(printable(text), width, indent, indent)
        for text in (finding.what, finding.why)
    )
    lines = [label + what.removeprefix(indent)]
    if finding.severity == "ok":
        return lines[0]
    lines.append(why)
    if finding.fix is not None:  # not wrapped: it is copied and pasted
        lines.append(f"{indent}$ {printable(finding.fix)}")
    return "\n".join(lines) + "\n"
