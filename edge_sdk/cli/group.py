"""The ``edgecls`` group: exit codes, and one line instead of a traceback for a user's mistake."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import click

from edge_sdk import errors
from edge_sdk.terminal import guarded

GATE_FAILED = 3
GATE_INCONCLUSIVE = 4
INTERRUPTED = 130

# The first match counts; what is not named here is 1: it went wrong.
_EXIT_CODES: tuple[tuple[type[errors.EdgeClsError], int], ...] = (
    (errors.ArtifactNotFoundError, 2),
    (errors.UndescribedArtifactError, 2),
    (errors.UnknownBackendError, 2),
    (errors.WrongBackendError, 2),
    (errors.RecipeError, 2),
    (errors.SourceSpecError, 2),
    (errors.SinkSpecError, 2),
    (errors.BaselineError, 2),
    (errors.UnitTextError, 2),
    (errors.UnitNotFoundError, 2),
    (errors.EngineNotInstalledError, 5),
    (errors.DelegateError, 5),
    (errors.CameraNotFoundError, 5),
    (errors.SinkNotInstalledError, 5),
    (errors.MissingExtraError, 5),
    (errors.SystemdNotFoundError, 5),
    (errors.UnsupportedSystemError, 5),
    (errors.SourceLostError, 6),
    (errors.ArtifactError, 7),
)


def exit_code(error: errors.EdgeClsError) -> int:
    """The exit code that stands for an error."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


class EdgeclsGroup(click.Group):
    """Turns our errors and Ctrl-C into messages and exit codes; a bug stays a traceback.

    Args:
        sections: headings of the help page, and the commands below each.
    """

    def __init__(self, *args: Any, sections: dict[str, tuple[str, ...]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with guarded():  # what click itself says of a wrong word goes through the door as well
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _sigterm_as_ctrl_c():
            try:
                return super().invoke(ctx)
            except click.UsageError as error:
                said = error.format_message()
                if _shown(said) == said:
                    raise
                raise click.UsageError(_shown(said), error.ctx) from None
            except errors.EdgeClsError as error:
                click.echo(f"Error: {_shown(str(error))}", err=True)
                ctx.exit(exit_code(error))
            except OSError as error:
                if error.errno == errno.EPIPE:  # whoever read our output has gone
                    raise
                click.echo(f"Error: {_shown(str(error))}", err=True)
                ctx.exit(1)
            except KeyboardInterrupt as error:
                click.echo(f"Interrupted. {error}".rstrip(), err=True)
                ctx.exit(INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, names in self.sections.items():
            rows = [
                (name, command.get_short_help_str(limit=70))
                for name in names
                if (command := self.get_command(ctx, name)) is not None
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Lets a scheduler's or a container's SIGTERM end a command as its user would: nothing is lost.

    Then the process ends by the signal after all, which is what systemd calls a clean end.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are the others' affair
        yield
        return

    asked = False

    def handle(_number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        ctrl_c = signal.getsignal(signal.SIGINT)
        if callable(ctrl_c):
            ctrl_c(signal.SIGINT, frame)
        else:  # ignored, as in a shell's background job
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if asked:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            signal.raise_signal(signal.SIGTERM)


def _shown(text: str) -> str:
    """A message without the secrets of the addresses in it: they may have been typed anywhere."""
    from edge_sdk.redaction import redact_text

    return redact_text(text)


class _Redacted(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _shown(super().format(record))


def set_verbosity(level: int) -> None:
    """0: warnings of ours only; 1 (``-v``): what is being done; 2 (``-vv``): everything."""
    logging.basicConfig(format="%(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Redacted("%(name)s: %(message)s"))
    logging.getLogger("edgecls").setLevel(
        (logging.WARNING, logging.INFO, logging.DEBUG)[min(level, 2)]
    )
    if level < 2:
        warnings.simplefilter("ignore")
