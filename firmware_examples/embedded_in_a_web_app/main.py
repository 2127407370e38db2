"""A classifier inside a web application: POST a picture, get JSON. Any WSGI server runs it."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING
from wsgiref.simple_server import make_server

from edge_sdk import Classifier, EdgeClsError, decode_image
from edge_sdk.errors import UnreadableImageError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MAX_BYTES = 20_000_000


class Application:
    """``application(environ, start_response)``; all requests share one classifier."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier, self.turn = classifier, threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        status, answer = self.answer(environ)
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(answer).encode() + b"\n"]

    def answer(self, environ: WSGIEnvironment) -> tuple[str, dict[str, object]]:
        """The status line and the content."""
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) != ("POST", "/classify"):
            return "404 Not Found", {"error": "POST a picture to /classify"}
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if not 0 < length <= MAX_BYTES:
            return "413 Content Too Large", {"error": f"expected 1 to {MAX_BYTES} bytes"}
        try:
            frame = decode_image(environ["wsgi.input"].read(length), name="upload")
        except UnreadableImageError as error:
            return "400 Bad Request", {"error": error.reason}
        with self.turn:  # decoding above runs in parallel; only one thread at a time may classify
            prediction = self.classifier.classify(frame)
        topk = [ranked._asdict() for ranked in prediction.top(3)]
        return "200 OK", {"label": prediction.label, "score": prediction.score, "topk": topk}


def main(model: str, port: str = "8000") -> int:
    """Listens on loopback until Ctrl-C or SIGTERM."""
    try:
        with (
            Classifier.open(model) as classifier,
            make_server("127.0.0.1", int(port), Application(classifier)) as server,
        ):
            for number in (signal.SIGTERM, signal.SIGINT):
                # From a thread: shutdown waits for the loop, and this handler interrupts it.
                signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
            print(f"http://127.0.0.1:{server.server_port}/classify", flush=True)
            server.serve_forever()
    except EdgeClsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python main.py MODEL [PORT]")
    sys.exit(main(*sys.argv[1:]))
