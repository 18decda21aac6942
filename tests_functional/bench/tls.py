# SPDX-License-Identifier: Apache-2.0
"""TLS in front of a server on loopback that speaks without."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator

from tests_functional.bench.httpd.certificate import Certificate


@contextlib.contextmanager
def in_front_of(port: int, certificate: Certificate) -> Iterator[int]:
    """Give the port on which the server behind another port is reached by TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.public, certificate.private)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            # Who does not trust the certificate goes away in the middle of the handshake.
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as near,
                socket.create_connection(("127.0.0.1", port), 60) as far,
            ):
                asking = threading.Thread(target=_copy, args=(near, far), daemon=True)
                asking.start()
                _copy(far, near)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
