"""An MJPEG camera on loopback: ``python mjpeg_server.py PORT``; port 0: any free one, printed."""

from __future__ import annotations

import base64
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np


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
        number = 0
        while not (self.path.startswith("/short") and number == 60):
            picture = np.full((48, 64, 3), number * 4 % 256, np.uint8)
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
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
