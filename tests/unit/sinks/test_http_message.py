"""Requests as bytes: what is taken, and what could be read in two ways."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from edge_sdk.sinks.http_message import RefusedError, Reply, parse_head, write_head


def _head(*lines: bytes) -> bytes:
    return b"\r\n".join(lines)


def test_a_browsers_request() -> None:
    request = parse_head(
        _head(
            b"GET /live?viewer=a&after=3 HTTP/1.1", b"Host: 127.0.0.1:80", b"Cookie:a=b; c=d\t",
            b"Accept: text/html", b"accept: */*", b"X-Empty:",
        )
    )  # fmt: skip
    assert (request.method, request.path, request.query) == ("GET", "/live", "viewer=a&after=3")
    assert request.headers == {
        "host": "127.0.0.1:80",
        "cookie": "a=b; c=d",
        "accept": "text/html, */*",
        "x-empty": "",
    }
    assert request.length is None
    assert request.keeps


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"GET / HTTP/1.1",), 400),  # no Host
        ((b"GET /", b"Host: a"), 400),
        ((b"GET  / HTTP/1.1", b"Host: a"), 400),
        ((b"GET / HTTP/1.1 ", b"Host: a"), 400),
        ((b" GET / HTTP/1.1", b"Host: a"), 400),
        ((b"", b"GET / HTTP/1.1", b"Host: a"), 400),
        ((b"GET \xff HTTP/1.1", b"Host: a"), 400),
        ((b"GET * HTTP/1.1", b"Host: a"), 400),
        ((b"GET ftp://a/ HTTP/1.1", b"Host: a"), 400),
        ((b"GET / HTTP/2.0", b"Host: a"), 505),
        ((b"PUT / HTTP/1.1", b"Host: a"), 405),
        ((b"CONNECT a:1 HTTP/1.1", b"Host: a"), 405),
        ((b"GET / HTTP/1.1", b"Host: a", b"Host: b"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b" folded: b"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"\tfolded"), 400),
        ((b"GET / HTTP/1.1", b"Host : a"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b": b"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"no colon"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"X: a\nY: b"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"X: a\rY: b"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"X: a\0"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"Content-Length: 4"), 400),
        ((b"HEAD / HTTP/1.1", b"Host: a", b"Content-Length: 4"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 4", b"Content-Length: 4"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 4, 4"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: +4"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 0x4"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: \xb2"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length:"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked"), 411),
        ((b"GET / HTTP/1.1", b"Host: a", b"Transfer-Encoding: identity"), 411),
        ((b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding:", b"Content-Length: 4"), 411),
        ((b"GET / HTTP/1.0", b"Transfer-Encoding: chunked"), 411),
    ],
)
def test_what_two_servers_could_read_in_two_ways_is_refused(
    lines: tuple[bytes, ...], status: int
) -> None:
    with pytest.raises(RefusedError) as caught:
        parse_head(_head(*lines))
    assert caught.value.status == status


def test_a_length_too_long_to_be_a_number_is_too_much() -> None:
    digits = b"Content-Length: " + b"9" * 10_000
    assert parse_head(_head(b"POST / HTTP/1.1", b"Host: a", digits)).length == 10**15


@pytest.mark.parametrize(
    ("lines", "keeps"),
    [
        ((b"GET / HTTP/1.1", b"Host: a"), True),
        ((b"GET / HTTP/1.9", b"Host: a"), True),
        ((b"GET / HTTP/1.1", b"Host: a", b"Connection: x, Close"), False),
        ((b"GET / HTTP/1.0",), False),
        ((b"GET / HTTP/1.0", b"Connection: keep-alive"), False),
    ],
)
def test_which_connections_are_kept(lines: tuple[bytes, ...], keeps: bool) -> None:
    assert parse_head(_head(*lines)).keeps == keeps


def test_a_whole_address_as_target_names_the_host() -> None:
    request = parse_head(_head(b"GET http://b:1?x HTTP/1.1", b"Host: a"))
    assert (request.headers["host"], request.path, request.query) == ("b:1", "/", "x")


def test_a_reply() -> None:
    reply = Reply(HTTPStatus.NOT_FOUND, "text/plain", b"abc", {"Retry-After": "3"})
    assert write_head(reply, {"X": "y"}, keeps=False, now_s=0) == (
        b"HTTP/1.1 404 Not Found\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: edgecls\r\n"
        b"X: y\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nRetry-After: 3\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert b"Connection" not in write_head(reply, {}, keeps=True)
