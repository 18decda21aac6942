# SPDX-License-Identifier: Apache-2.0
"""A server for nodes that deploy themselves: gives documents, takes events, shows what goes on. An example.

``python bareon_server.py --documents DIR [--key FILE]`` serves

* ``GET /documents/NAME``: the file ``NAME.json`` of DIR, where NAME is a MAC address, a serial number or a UUID; 204
  once a node of that name was deployed by just this file; ``NAME.sig`` is served as it is.
* ``POST /events``: events in lines of JSON, and the archive of a failed run; signed, where there is a key.
* ``GET /``: a page of the nodes, with reports at ``/reports/RUN`` and archives at ``/bundles/RUN``.

It has no TLS and no accounts: put it behind a proxy that has. It forgets everything when it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
import html
import json
import re
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LARGEST = 64 << 20  # bytes of a request
NODES = 10_000  # runs that are remembered
PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>Nodes</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 2rem }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid #8885; vertical-align: top }}
.failed {{ color: #d33 }} .done {{ color: #2a2 }}
</style>
<h1>Nodes</h1>
<table><tr><th>Node<th>State<th>Progress<th>What<th>Last event<th>Report</tr>
{rows}
</table></html>
"""


@dataclass
class Run:
    """What one boot of a node has told."""

    node: dict[str, str]
    state: str = "new"
    what: str = ""
    number: int = 0
    count: int = 0
    part: float = 0.0
    digest: str = ""
    seen: float = field(default_factory=time.time)
    sequences: set[int] = field(default_factory=set)
    report: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    bundle: bytes = b""

    def take(self, event: dict[str, Any]) -> None:
        """Learn from an event, unless it was sent before."""
        sequence = int(event["sequence"])
        if sequence in self.sequences:
            return
        self.sequences.add(sequence)
        self.seen = time.time()
        match event["event"]:
            case "started" | "progressed" | "finished" as kind:
                self.state, self.what = "deploying", str(event.get("description", self.what))
                self.number, self.count = int(event.get("number", 0)), int(event.get("count", 0))
                done, total = event.get("done"), event.get("total")
                self.part = 1.0 if kind == "finished" else done / total if done and total else 0.0
            case "facts":
                self.facts = event.get("facts") or {}
            case "waiting" | "nothing-to-do" as kind:
                self.state, self.what = kind, str(event.get("reason", ""))
            case "fetched":
                self.state, self.digest = "deploying", str(event.get("input_sha256", ""))
            case "ended":
                self.state, self.what = str(event.get("outcome")), str(event.get("error", ""))
                self.report = event.get("report") or {}

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        if self.state == "done":
            return 1.0
        return min(1.0, (max(0, self.number - 1) + self.part) / self.count) if self.count else 0.0


class Site:
    """Documents in a folder, and what nodes have told."""

    def __init__(self, documents: Path, key: bytes | None) -> None:
        self.documents = documents
        self.key = key
        self.runs: dict[str, Run] = {}
        self.lock = threading.Lock()

    def document(self, name: str) -> bytes | None:
        """The document for a node, empty where it was deployed; ``None`` without one."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:._-]*", name):
            return None
        path = self.documents / (name if name.endswith(".sig") else f"{name}.json")
        if not path.is_file():
            return None
        text = path.read_bytes()
        digest = hashlib.sha256(text).hexdigest()
        with self.lock:
            mine = [run for run in self.runs.values() if name.lower() in map(str.lower, run.node.values())]
        return b"" if any(run.state == "done" and run.digest == digest for run in mine) else text

    def signed(self, run: str, kind: str, body: bytes, signature: str) -> bool:
        """Whether a request is by somebody who has the key."""
        if self.key is None:
            return True
        wanted = hmac.new(self.key, f"{run}\n{kind}\n".encode() + body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(f"sha256={wanted}".encode(), signature.encode())

    def take(self, run: str, kind: str, body: bytes) -> None:
        """Take events, or the archive of a run.

        :raises ValueError, KeyError, TypeError, AttributeError: for what is none.
        """
        if kind == "application/gzip":
            with self.lock:
                self.runs[run].bundle = body
            return
        events = [json.loads(line) for line in body.splitlines()]
        with self.lock:
            for event in events:
                if event["run"] != run:
                    raise ValueError("of another run")
                if run not in self.runs and len(self.runs) >= NODES:
                    del self.runs[next(iter(self.runs))]
                self.runs.setdefault(run, Run(dict(event["node"]))).take(event)

    def page(self) -> str:
        """The nodes, the one that was heard of last first."""
        with self.lock:
            runs = sorted(self.runs.items(), key=lambda item: -item[1].seen)
            return PAGE.format(rows="\n".join(_row(name, run) for name, run in runs))


def _row(name: str, run: Run) -> str:
    names = "<br>".join(html.escape(f"{word} {value}") for word, value in run.node.items())
    links = [f'<a href="/reports/{html.escape(name)}">report</a>'] if run.report else []
    links += [f'<a href="/bundles/{html.escape(name)}">bundle</a>'] if run.bundle else []
    step = f"{run.number}/{run.count} " if run.count else ""
    seen = time.strftime("%H:%M:%S", time.gmtime(run.seen))
    return (
        f'<tr><td>{names}<td class="{html.escape(run.state)}">{html.escape(run.state)}'
        f'<td>{step}<progress max="1" value="{run.progress:.3f}"></progress><td>{html.escape(run.what)}'
        f"<td>{seen} UTC<td>{' '.join(links)}</tr>"
    )


class Handler(BaseHTTPRequestHandler):
    """Answers requests for the ``site`` of its class."""

    site: Site
    protocol_version = "HTTP/1.1"
    timeout = 60.0

    def do_GET(self) -> None:
        place, _, name = self.path.strip("/").partition("/")
        run = self.site.runs.get(name)
        if place == "documents":
            text = self.site.document(name)
            if text is None:
                self._answer(404)
            else:
                self._answer(200 if text else 204, text, "application/json")
        elif not place:
            self._answer(200, self.site.page().encode(), "text/html; charset=utf-8")
        elif place == "reports" and run and run.report:
            self._answer(200, json.dumps(run.report, indent=1).encode(), "application/json")
        elif place == "bundles" and run and run.bundle:
            self._answer(200, run.bundle, "application/gzip")
        else:
            self._answer(404)

    def do_POST(self) -> None:
        self.close_connection = True
        size = self.headers.get("Content-Length", "")
        if self.path != "/events" or not size.isdigit() or int(size) > LARGEST:
            self._answer(400 if self.path == "/events" else 404)
            return
        body = self.rfile.read(int(size))
        run, kind, signature = (
            self.headers.get(x, "") for x in ("X-Bareon-Run", "Content-Type", "X-Bareon-Signature")
        )
        if not self.site.signed(run, kind, body, signature):
            self._answer(403)
            return
        try:
            self.site.take(run, kind, body)
        except (ValueError, KeyError, TypeError, AttributeError):
            self._answer(400)
        else:
            self._answer(204)

    def _answer(self, status: int, body: bytes = b"", kind: str = "text/plain") -> None:
        if not body and status != 204:
            body = f"{HTTPStatus(status).phrase}\n".encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        sys.stderr.write(f"{self.address_string()} {format % args}\n")


def serve(site: Site, address: str, port: int) -> ThreadingHTTPServer:
    """A server that listens, and does not answer yet."""
    server = ThreadingHTTPServer((address, port), type("SiteHandler", (Handler,), {"site": site}))
    server.daemon_threads = True
    return server


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until it is interrupted."""
    parser = argparse.ArgumentParser(description="Gives documents to nodes that deploy themselves, and shows them.")
    parser.add_argument("--documents", type=Path, required=True, help="the folder with NAME.json")
    parser.add_argument("--key", type=Path, help="a file with the key that events must be signed with")
    parser.add_argument("--address", default="127.0.0.1", help="where to listen (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8090, help="the port (8090)")
    found = parser.parse_args(argv)
    server = serve(
        Site(found.documents, found.key.read_bytes().strip() if found.key else None), found.address, found.port
    )
    print(f"http://{found.address}:{server.server_address[1]}/", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
