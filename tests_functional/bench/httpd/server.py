# SPDX-License-Identifier: Apache-2.0
"""The server: two ports, the scopes of its users, and a log."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests_functional.bench.httpd.certificate import Certificate, make_certificate
from tests_functional.bench.httpd.handler import Handler
from tests_functional.bench.httpd.scope import Scope

#: Seconds for a client to agree on TLS.
HANDSHAKE_LIMIT = 30.0
#: Two names of one host.
LOOPBACK = {"127.0.0.1": "localhost"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: Httpd, context: ssl.SSLContext | None) -> None:
        self.owner = owner
        self._context = context
        super().__init__(address, Handler)

    def finish_request(self, request: socket.socket | tuple[bytes, socket.socket], address: Any) -> None:
        """Shake hands in the connection's own thread, so that nobody can hold up the others."""
        assert isinstance(request, socket.socket)
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            Handler(request, address, self)
            return
        request.settimeout(HANDSHAKE_LIMIT)
        # The socket that the caller will close is only the shell of this one.
        with self._context.wrap_socket(request, server_side=True) as encrypted:
            encrypted.settimeout(None)
            Handler(encrypted, address, self)

    def handle_error(self, request: object, address: object) -> None:
        """Say nothing: clients that refuse a certificate or go away are what this server is for."""


class Httpd:
    """The server; it ends with :meth:`stop` or with the process.

    :param files: finds the file of a name; raises ``ValueError`` when there is none
    :param place: directory for the certificate
    :param address: where to listen
    :param ports: for HTTP and HTTPS; 0 means a free one
    :param other_hosts: for each host in a URL another name of it, to redirect to
    :param certified: the hosts that the certificate is for
    """

    def __init__(
        self,
        files: Callable[[str], Path],
        place: Path,
        *,
        address: str = "127.0.0.1",
        ports: tuple[int, int] = (0, 0),
        other_hosts: Mapping[str, str] = LOOPBACK,
        certified: Sequence[str] = (*LOOPBACK,),
    ) -> None:
        self.files = files
        self._certified = tuple(certified)
        self.other_hosts = dict(other_hosts)
        self.place = place
        self.log = place / "httpd.log"
        self._address = address
        self._ports = ports
        self._servers: list[_Server] = []
        self._scopes: dict[str, Scope] = {}
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Listen.

        :raises ProgramError: when no certificate can be made
        """
        self.place.mkdir(parents=True, exist_ok=True)
        self.certificate: Certificate = make_certificate(self.place, self._certified)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate.public, self.certificate.private)
        for port, tls in zip(self._ports, (None, context), strict=True):
            server = _Server((self._address, port), self, tls)
            self._servers.append(server)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more; connections that are open are left to their ends."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers.clear()

    def port(self, tls: bool = False) -> int:
        """Return the port of HTTP or of HTTPS."""
        return int(self._servers[tls].server_address[1])

    def new_scope(self) -> str:
        """Return the name of a new scope."""
        name = f"s{next(self._numbers)}"
        self._scopes[name] = Scope()
        return name

    def url(self, scope: str, host: str = "127.0.0.1", *, tls: bool = False) -> str:
        """Return the address to put ``/FAULT/NAME`` behind."""
        return f"http{'s' * tls}://{host}:{self.port(tls)}/{scope}"

    def scope(self, name: str) -> Scope | None:
        """Return a scope; ``None`` when nobody asked for one of this name."""
        return self._scopes.get(name)

    def find(self, name: str) -> Path:
        """Return the file to serve under a name: an image, or ``ca.pem``.

        :raises ValueError: when there is none
        """
        return self.certificate.public if name == "ca.pem" else self.files(name)

    def note(self, line: str) -> None:
        """Add a line to the log."""
        with self.log.open("a") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {line}\n")
