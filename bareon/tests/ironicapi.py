# SPDX-License-Identifier: Apache-2.0
"""Ironic's API on loopback, as far as a ramdisk uses it, which does wrong what a test asks for.

States, statuses, texts and headers are those that Ironic 39.0 gave; a token is told once, and both the URL and the
key of a ramdisk stay what they were.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

UUID = "46f2bccb-8939-44ab-9c29-e9b8fd19edac"
MAC = "52:54:00:aa:00:02"
TOKEN = "lYFHcAwNRexUXFcCqILNO9vR5uZuairyJAaHiBr1d6w"


@dataclass
class Reply:
    """One answer; ``drip`` is seconds between its bytes, headers included."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drip: float = 0.0


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Ironic:
    """One node, and what happens to requests about it. ``script`` has the first answers; ``None`` is as usual."""

    waiting: bool = True
    told: bool = False
    least: tuple[int, int] = (1, 1)
    most: tuple[int, int] = (1, 115)
    heartbeat_timeout: object = 300
    callback_url: str | None = None
    key: str | None = None
    url: str = ""
    script: list[Reply | None] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    on_request: Callable[[Request], None] = lambda request: None

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        self.on_request(request)
        reply = self.script.pop(0) if self.script else None
        if reply:
            return reply
        version = tuple(map(int, request.headers["X-OpenStack-Ironic-API-Version"].split(".")))
        if not self.least <= version <= self.most:
            return self._own(406, {"code": 406, "title": "Not Acceptable", "description": "Version was requested"})
        parts = urlsplit(request.path)
        if parts.path == "/v1/lookup" and request.method == "GET":
            return self._lookup(parse_qs(parts.query))
        if parts.path.startswith("/v1/heartbeat/") and request.method == "POST":
            return self._heartbeat(parts.path.removeprefix("/v1/heartbeat/"), request.body)
        return self._fault(404, "Not found")

    def _lookup(self, query: dict[str, list[str]]) -> Reply:
        if MAC not in query["addresses"][0].split(",") or not self.waiting:
            return self._fault(404, "Resource could not be found.")
        token, self.told = "******" if self.told else TOKEN, True
        config = {"heartbeat_timeout": self.heartbeat_timeout, "agent_token": token, "agent_token_required": True}
        node = {"uuid": UUID, "properties": {}, "driver_internal_info": {"agent_secret_token": "******"}}
        return self._reply(200, json.dumps({"node": node, "config": config}).encode())

    def _heartbeat(self, node: str, body: dict[str, Any]) -> Reply:
        if node != UUID:
            return self._fault(404, f"Node {node} could not be found.")
        if self.callback_url not in (None, body["callback_url"]):
            return self._fault(400, 'Detected change in ramdisk provided "callback_url"')
        if body.get("agent_token") != TOKEN:
            return self._fault(400, "Invalid or missing agent token received.")
        if not body["callback_url"].startswith("https://"):
            return self._fault(400, "TLS is required by configuration")
        if self.key not in (None, body["agent_verify_ca"]):
            return self._fault(400, 'Detected change in ramdisk provided "agent_verify_ca"')
        self.callback_url, self.key = body["callback_url"], body["agent_verify_ca"]
        return self._reply(202)

    def locked(self) -> Reply:
        return self._fault(
            409, f"Node {UUID} is locked by host lab, please retry after the current operation is completed."
        )

    def refused(self, status: int, text: str) -> Reply:
        return self._fault(status, text)

    def _fault(self, status: int, text: str) -> Reply:
        return self._own(status, {"faultcode": "Client", "faultstring": text, "debuginfo": None})

    def _own(self, status: int, message: dict[str, Any]) -> Reply:
        return self._reply(status, json.dumps({"error_message": json.dumps(message)}).encode())

    def _reply(self, status: int, body: bytes = b"") -> Reply:
        names = {"Minimum": self.least, "Maximum": self.most}
        headers = {f"X-OpenStack-Ironic-API-{x}-Version": f"{v[0]}.{v[1]}" for x, v in names.items()}
        return Reply(status, body, {**headers, "Content-Type": "application/json", "Server": "ironic_api"})

    @property
    def heartbeats(self) -> list[dict[str, Any]]:
        return [request.body for request in self.requests if request.method == "POST"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ironic: Ironic

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = json.loads(self.rfile.read(length)) if length else {}
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        with contextlib.suppress(OSError):
            self._send(self.ironic.answer(request))
        self.close_connection = True

    def do_POST(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        self.ironic.requests.append(Request("CONNECT", self.path, dict(self.headers.items()), {}))
        self.send_response(407)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, reply: Reply) -> None:
        headers = {"Content-Length": str(len(reply.body)), **reply.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        whole = f"HTTP/1.1 {reply.status} Reason\r\n{head}\r\n".encode() + reply.body
        if not reply.drip:
            self.wfile.write(whole)
        else:
            for byte in whole:
                self.wfile.write(bytes([byte]))
                time.sleep(reply.drip)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(ironic: Ironic, certificate: Path | None = None, host: str = "127.0.0.1") -> Iterator[Ironic]:
    """The API until the block ends; by TLS with a certificate and its key in one file."""
    server = type("Server", (ThreadingHTTPServer,), {"address_family": 10 if ":" in host else 2})(
        (host, 0), type("Handler", (_Handler,), {"ironic": ironic})
    )
    server.daemon_threads = True
    server.block_on_close = False
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    shown = f"[{host}]" if ":" in host else host
    ironic.url = f"{'https' if certificate else 'http'}://{shown}:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield ironic
    finally:
        server.shutdown()
        server.server_close()


def certificate(folder: Path, name: str = "IP:127.0.0.1") -> Path:
    """A certificate that signs itself, with its key, in one file."""
    file = folder / f"{name.replace(':', '-')}.pem"
    argv = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ironic"
    done = subprocess.run(
        [*argv.split(), "-addext", f"subjectAltName={name}", "-keyout", "-"], capture_output=True, check=True
    )
    file.write_bytes(done.stdout)
    return file
