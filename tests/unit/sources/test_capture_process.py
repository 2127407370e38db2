"""What the parent makes of a capture process's words: nothing is taken on trust."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import CameraNotFoundError, SourceLostError, UnreadableImageError
from edge_sdk.sources.capture_process import Ended, Failed, Opened, Remark, read_message


def _line(content: Any) -> bytes:
    return json.dumps(content).encode()


def test_messages_are_read() -> None:
    assert read_message(_line({"opened": "picamera:0", "kind": "PiCamera"})) == Opened(
        "picamera:0", "PiCamera"
    )
    assert read_message(_line({"note": "found one"})) == Remark("found one")
    assert read_message(_line({"ended": True})) == Ended()
    bad = read_message(_line({"unreadable": ["a.jpg", "cut off"]}))
    assert isinstance(bad, UnreadableImageError)
    assert (bad.name, bad.reason) == ("a.jpg", "cut off")
    failed = read_message(_line({"failed": ["CameraNotFoundError", "none here"]}))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, CameraNotFoundError)
    assert str(failed.error) == "none here"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe\x00rubbish",
        b"[]",
        b"1e999",
        b'"x"',
        b"[" * 100_000,
        b"null",
        *map(
            _line,
            [
                {},
                {"opened": 1},
                {"opened": "x"},
                {"note": 1},
                {"ended": False},
                {"unreadable": [1]},
                {"unreadable": [1, 2]},
                {"unreadable": ["a"]},
                {"failed": []},
                {"failed": [1]},
                {"failed": ["annotations"]},
                {"failed": ["Any", "x"]},
                {"failed": ["KeyboardInterrupt"]},
                {"failed": ["UnreadableImageError", "a"]},
                {"failed": ["EdgeClsError", {"a": 1}]},
                {"failed": ["SourceLostError", None]},
            ],
        ),
    ],
)
def test_anything_else_is_one_kind_of_error(line: bytes) -> None:
    with pytest.raises(SourceLostError, match="no valid message"):
        read_message(line)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
_WORDS = st.sampled_from(["opened", "kind", "note", "unreadable", "failed", "ended"])


@given(st.binary(max_size=200) | st.dictionaries(_WORDS, _JSON).map(_line))
def test_whatever_comes_is_a_message_or_one_kind_of_error(line: bytes) -> None:
    with contextlib.suppress(SourceLostError):
        read_message(line)
