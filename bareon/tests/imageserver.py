# SPDX-License-Identifier: Apache-2.0
"""An HTTP server on loopback that serves one image, and does wrong what a test asks for."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """What is wrong with one answer. ``status`` with ``body`` alone; ``cut`` ends the body after so many bytes."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    reset: bool = False
    length: int | None = None
    silent: float = 0.0
    chunked: bool = False
    drip: float = 0.0
    body: bytes | None = None


@dataclass
class Site:
    """The image, how it is served, and which requests came. Faults are used up one per request."""

    body: bytes
    url: str = ""
    ranges: bool = True
    etag: str | None = '"one"'
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    before: Callable[[dict[str, str]], Fault | None] | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site
    _sent = ""

    def do_GET(self) -> None:
        site = self.site
        seen = {**dict(self.headers.items()), "path": self.path, "body": self._sent}
        site.requests.append(seen)
        fault = (site.before(seen) if site.before else None) or (site.faults.pop(0) if site.faults else site.always)
        with contextlib.suppress(ConnectionError):
            self._answer(fault or Fault())
        self.close_connection = True

    def do_POST(self) -> None:
        """Answer as to GET; what was sent is the request's ``body``."""
        self._sent = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        self.do_GET()

    def do_CONNECT(self) -> None:
        """Answer as a proxy that opens no tunnel."""
        self.do_GET()

    def _answer(self, fault: Fault) -> None:
        if fault.silent:
            time.sleep(fault.silent)
        if fault.status:
            self.send_response(fault.status)
            body = fault.body or b""
            for name, value in {"Content-Length": str(len(body)), **fault.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            return
        body, start = self._head(fault)
        self.end_headers()
        self._send(body[start:], fault)

    def _head(self, fault: Fault) -> tuple[bytes, int]:
        site, start = self.site, 0
        body = site.body if fault.body is None else fault.body
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if site.ranges else None
        changed = self.headers.get("If-Range", site.etag) not in (None, fault.headers.get("ETag", site.etag))
        whole = len(body)
        if match and not changed:
            start = int(match[1])
            body = body[: int(match[2]) + 1] if match[2] else body
            self.send_response(206)
            part = {"Content-Range": f"bytes {start}-{len(body) - 1}/{whole}"}
        else:
            self.send_response(200)
            part = {}
        length = len(body) - start if fault.length is None else fault.length
        extra = {"Transfer-Encoding": "chunked"} if fault.chunked else {"Content-Length": str(length)}
        etag = {"ETag": site.etag} if site.etag else {}
        for name, value in {**part, **extra, **etag, **fault.headers}.items():
            self.send_header(name, value)
        return body, start

    def _send(self, body: bytes, fault: Fault) -> None:
        body = body if fault.cut is None else body[: fault.cut]
        if fault.drip:
            for i in range(len(body)):
                self.wfile.write(body[i : i + 1])
                time.sleep(fault.drip)
        elif fault.chunked:
            for i in range(0, len(body), 100_000):
                part = body[i : i + 100_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"" if fault.cut is not None else b"0\r\n\r\n")
        else:
            self.wfile.write(body)
        if fault.reset:
            time.sleep(0.05)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(
    body: bytes, host: str = "127.0.0.1", wrap: Callable[[socket.socket], socket.socket] | None = None
) -> Iterator[Site]:
    """Serve ``body`` at every path until the block ends."""
    site = Site(body)
    server = ThreadingHTTPServer((host, 0), type("Handler", (_Handler,), {"site": site}))
    server.daemon_threads = True
    server.block_on_close = False
    if wrap:
        server.socket = wrap(server.socket)
    site.url = f"{'https' if wrap else 'http'}://{host}:{server.server_address[1]}/image"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def dripping(begin: bytes, drip: bytes) -> Iterator[str]:
    """Give the URL of a server that says ``begin``, and then a byte of ``drip`` again and again for a minute."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.recv(1 << 16)
                connection.sendall(begin)
                with contextlib.suppress(OSError):
                    while not ended.wait(0.05):
                        connection.sendall(drip)

    threading.Thread(target=answer, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    finally:
        ended.set()
        listener.close()
