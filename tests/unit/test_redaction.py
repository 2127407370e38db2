"""What is shown of addresses, alone and within a message."""

from __future__ import annotations

import logging

import pytest

from edge_sdk.cli.group import set_verbosity
from edge_sdk.redaction import holds_secret, redact, redact_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://a:b@c/d: gone", "rtsp://***@c/d: gone"),
        ("Path 'rtsp://a:b@c/d' does not exist.", "Path 'rtsp://***@c/d' does not exist."),
        ("Path 'rtsp:/a:b@c/d' does not exist.", "Path 'rtsp:/***@c/d' does not exist."),
        ("(RTSP://a:b'c@d)", "(RTSP://***@d)"),
        ("http://c/d?token=b&x=1 and http://a:b@c", "http://c/d?token=***&x=1 and http://***@c"),
        ("x=rtsp://a:b@c,rtsp://a:b@d", "x=rtsp://***@d"),
        (
            "http://c/?token=b: away, see http://c/?key=d.",
            "http://c/?token=***: away, see http://c/?key=***.",
        ),
        ("camera.local: write %40 for an @ in it", "camera.local: write %40 for an @ in it"),
        ("fake:/photos?stall@100 and a/b@c", "fake:/photos?stall@100 and a/b@c"),
        ("mqtt://broker.local:1883/kitchen: away", "mqtt://broker.local:1883/kitchen: away"),
    ],
)
def test_addresses_in_a_message(text: str, shown: str) -> None:
    assert redact_text(text) == shown
    assert redact_text(shown) == shown


def test_what_holds_a_secret() -> None:
    assert holds_secret("rtsp://a@b/")
    assert not holds_secret("rtsp://b/?x=1")
    assert redact(redact("rtsp://a:b@c/?key=1")) == redact("rtsp://a:b@c/?key=1")


def test_logs_show_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = [(handler, handler.formatter) for handler in root.handlers]
    handler = logging.StreamHandler()
    root.addHandler(handler)
    try:
        set_verbosity(2)
        try:
            raise ConnectionError("rtsp://a:s3cret@c refuses")
        except ConnectionError:
            logging.getLogger("edgecls.x").exception("%s: lost", "rtsp://a:s3cret@c/d")
    finally:
        root.removeHandler(handler)
        for other, formatter in before:
            other.setFormatter(formatter)
    shown = capsys.readouterr().err
    assert "rtsp://***@c/d: lost" in shown
    assert "s3cret" not in shown
