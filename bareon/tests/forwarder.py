# SPDX-License-Identifier: Apache-2.0
"""A proxy of HTTP on loopback, which alone knows where the hosts of a test are."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_PIECE = 1 << 16
_HOP = ("connection", "proxy-connection", "proxy-authorization", "keep-alive")


@dataclass
class Proxy:
    """Where it listens, as HOST:PORT, whom it lets through, where the hosts are, and what was asked for."""

    address: str
    account: str
    hosts: Mapping[str, int]
    asked: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if not (port := self._let_through(f"{self.command} {self.path}", parts.netloc)):
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as server:
            server.request(self.command, parts._replace(scheme="", netloc="").geturl(), body or None, headers)
            answer = server.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.end_headers()
            while piece := answer.read(_PIECE):
                self.wfile.write(piece)

    def do_POST(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        if not (port := self._let_through(f"CONNECT {self.path}", self.path)):
            return
        with socket.create_connection(("127.0.0.1", port), timeout=20) as server:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(server, self.connection))
            back.start()
            _pump(self.connection, server)
            back.join()
        self.close_connection = True

    def _let_through(self, what: str, host: str) -> int | None:
        """The port of a server, unless the client or the host is not known."""
        self.proxy.asked.append(what)
        if self.headers.get("Proxy-Authorization") != self.proxy.account:
            self.send_error(407)
            return None
        if host not in self.proxy.hosts:
            self.send_error(502)
            return None
        return self.proxy.hosts[host]

    def log_message(self, format: str, *args: object) -> None:
        pass


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def forwarding(hosts: Mapping[str, int], account: str) -> Iterator[Proxy]:
    """Run one.

    :param hosts: ports on loopback by what URLs name, such as ``images.invalid`` or ``images.invalid:443``
    :param account: ``USER:PASSWORD``, without which nothing goes through
    """
    basic = f"Basic {base64.b64encode(account.encode()).decode()}"
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.proxy = Proxy(f"127.0.0.1:{server.server_address[1]}", basic, hosts)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield handler.proxy
        finally:
            server.shutdown()
