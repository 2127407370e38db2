"""An MJPEG camera on loopback: ``python mjpeg_server.py PORT``; port 0: any free one, printed."""

from __future__ import annotations

import base64
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

# What becomes of every fifth frame, from the eighth on: by it FFmpeg knows what a picture looks like.
_DAMAGE = {
    "/half": lambda jpeg: jpeg[: len(jpeg) // 2],
    "/half-ended": lambda jpeg: jpeg[: len(jpeg) // 2] + b"\xff\xd9",
    "/zeros": lambda jpeg: jpeg[: len(jpeg) // 2] + bytes(len(jpeg) // 2 - 2) + b"\xff\xd9",
    "/head": lambda jpeg: jpeg[:300],
    "/noise": lambda jpeg: bytes(1000),
    "/nothing": lambda jpeg: b"",
}


class Camera(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/hang"):  # takes the connection and says nothing
            time.sleep(600)
        wanted = "Basic " + base64.b64encode(b"admin:hunter2").decode()
        if self.path.startswith("/locked") and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        if self.path.startswith("/drip"):  # a picture that never comes to its end
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 9000\r\n\r\n")
            for _ in range(9000):
                self.wfile.write(b"a")
                time.sleep(0.02)
        number = 0
        while not (self.path.startswith("/short") and number == 60):
            picture = np.full((48, 64, 3), number * 4 % 256, np.uint8)
            if self.path in _DAMAGE:
                picture[:, :32] = np.random.default_rng(number).integers(0, 256, (48, 32, 3))
            if self.path.startswith("/large") and number >= 8:
                picture = cv2.resize(picture, (640, 480)).astype(np.uint8)
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
            if self.path in _DAMAGE and number % 5 == 3 and number >= 8:
                jpeg = _DAMAGE[self.path](jpeg)
            head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            self.wfile.write(head + jpeg + b"\r\n")
            number += 1
            time.sleep(0.02)
            if self.path.startswith("/silent") and number == 60:
                time.sleep(600)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Camera)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that went away
    print(server.server_address[1], flush=True)  # noqa: T201
    server.serve_forever()
