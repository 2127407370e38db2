"""The door to a terminal: text comes through, commands to the terminal do not."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.cli.group import EdgeclsGroup
from edge_sdk.errors import EdgeClsError
from edge_sdk.terminal import guarded, one_line, own, printable

_HOSTILE = "cat\x1b[2J\x1b]0;pwned\x07\r\x9b31m\u202egnp.exe"


@given(st.text())
def test_no_control_character_is_left_but_tab_and_newline(text: str) -> None:
    kinds = {unicodedata.category(letter) for letter in set(printable(text)) - set("\t\n")}
    assert "Cc" not in kinds
    assert "\u202e" not in printable(text)
    assert not set(one_line(text)) & set("\t\n")


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cf", "Cs"])))
def test_other_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == one_line(text) == text


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_stays_the_same_json(content: object) -> None:
    for plain in (True, False):
        assert json.loads(printable(json.dumps(content, ensure_ascii=plain))) == content


def _streams(monkeypatch: pytest.MonkeyPatch) -> tuple[io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


def test_both_streams_are_guarded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = _streams(monkeypatch)
    with guarded(), guarded():
        sys.stdout.write(f"{_HOSTILE}\n")
        sys.stderr.write(f"{_HOSTILE}\n")
        own(sys.stderr).write("\r\x1b[K")  # a progress bar of ours
    assert (sys.stdout, sys.stderr) == streams
    out, err = (stream.getvalue() for stream in streams)
    assert out == printable(_HOSTILE) + "\n"
    assert err == out + "\r\x1b[K"


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt()])
def test_an_exit_gives_them_back_too(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = _streams(monkeypatch)
    with pytest.raises(type(error)), guarded():
        raise error
    assert (sys.stdout, sys.stderr) == streams


def test_the_traceback_of_a_bug_goes_through_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = _streams(monkeypatch)
    with pytest.raises(KeyError), guarded():
        raise KeyError
    sys.stderr.write(_HOSTILE)
    assert streams[1].getvalue() == printable(_HOSTILE)


def test_a_missing_stream_stays_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with guarded():
        assert sys.stderr is None


@click.group(cls=EdgeclsGroup, sections={})
def _group() -> None:
    pass


@_group.command("say")
@click.argument("what")
def _say(what: str) -> None:
    if what == "error":
        raise EdgeClsError(_HOSTILE)
    if what == "os-error":
        raise OSError(2, "No such file", _HOSTILE)
    if what == "usage":
        raise click.UsageError(_HOSTILE)
    if what == "log":
        logger, handler = logging.getLogger("edgecls.hostile"), logging.StreamHandler()
        logger.addHandler(handler)
        logger.warning(_HOSTILE)
        logger.removeHandler(handler)
    click.echo(_HOSTILE, err=what == "stderr")


@pytest.mark.parametrize(
    "words",
    [
        *(["say", w] for w in ("stdout", "stderr", "error", "os-error", "usage", "log")),
        ["say", "x", _HOSTILE],
        [_HOSTILE],
        ["say", f"--{_HOSTILE}"],
    ],
    ids=lambda words: words[-1] if words[-1].isascii() and words[-1].isprintable() else len(words),
)
@pytest.mark.parametrize("charset", ["utf-8", "ascii"])
def test_whatever_a_command_says_is_text(words: list[str], charset: str) -> None:
    result = CliRunner(charset=charset).invoke(_group, words, color=True)
    said = result.output
    assert "pwned" in said
    assert not set(said) & set("\x1b\x07\r\x9b\u202e")
