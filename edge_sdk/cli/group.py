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

# The first match counts; an error that is not listed has exit code 1.
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
    """Returns the exit code of an error."""
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
        with guarded():  # click's own messages about wrong arguments are escaped as well
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _sigterm_as_ctrl_c():
            try:
                return super().invoke(ctx)
            except click.UsageError as error:
                message = error.format_message()
                if _redacted(message) == message:
                    raise
                raise click.UsageError(_redacted(message), error.ctx) from None
            except errors.EdgeClsError as error:
                click.echo(f"Error: {_redacted(str(error))}", err=True)
                ctx.exit(exit_code(error))
            except OSError as error:
                if error.errno == errno.EPIPE:  # the reader of the output has closed it
                    raise
                click.echo(f"Error: {_redacted(str(error))}", err=True)
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
    """Handles SIGTERM as Ctrl-C, so that a scheduler or container ends a command without data loss.

    The process then ends by the signal, which systemd counts as a clean exit.
    """
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield
        return

    received = False

    def handle(_number: int, frame: Any) -> None:
        nonlocal received
        received = True
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
        if received:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            signal.raise_signal(signal.SIGTERM)


def _redacted(text: str) -> str:
    """Removes secrets from the URLs in a message: they may have been typed in any argument."""
    from edge_sdk.redaction import redact_text

    return redact_text(text)


class _Redacted(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _redacted(super().format(record))


def set_verbosity(level: int) -> None:
    """Sets the log level. 0: warnings of edgecls only; 1 (``-v``): INFO; 2 (``-vv``): DEBUG."""
    logging.basicConfig(format="%(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Redacted("%(name)s: %(message)s"))
    logging.getLogger("edgecls").setLevel(
        (logging.WARNING, logging.INFO, logging.DEBUG)[min(level, 2)]
    )
    if level < 2:
        warnings.simplefilter("ignore")
