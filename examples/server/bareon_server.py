# SPDX-License-Identifier: Apache-2.0
"""A server for nodes that deploy themselves: gives documents, takes events, shows what goes on. An example.

``python bareon_server.py --documents DIR [--key FILE]`` serves

* ``GET /documents/NAME``: the file ``NAME.json`` of DIR, where NAME is a MAC address, a serial number or a UUID, a
  slash in it written as ``%2F``; 204 once a node of that name was deployed by just this file; ``NAME.sig`` is served
  as it is.
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

LINES, ARCHIVE = "application/jsonl", "application/gzip"
LARGEST = {LINES: 40 << 20, ARCHIVE: 64 << 20}  # bytes of a request
DROPPED = 256 << 20  # bytes that are read of a request that is refused
BODIES = threading.BoundedSemaphore(8)  # requests that are in memory at once
NODES = 10_000  # runs that are remembered
BUNDLES = 20  # archives that are
EVENTS = 1_000_000  # of one run
LONGEST = 2000  # characters of a text that is shown
NAMES = ("mac", "serial", "uuid", "hostname")
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

    def take(self, event: Event) -> None:
        """Learn from an event, unless it was sent before."""
        if event.sequence in self.sequences:
            return
        self.sequences.add(event.sequence)
        self.seen = time.time()
        for name, value in event.changes.items():
            setattr(self, name, value)

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        if self.state == "done":
            return 1.0
        return min(1.0, (max(0, self.number - 1) + self.part) / self.count) if self.count else 0.0


@dataclass(frozen=True)
class Event:
    """An event that has the form of one: nothing in it can fail later. ``changes`` are attributes of its run."""

    node: dict[str, str]
    sequence: int
    changes: dict[str, Any]


def read(line: bytes, run: str) -> Event:
    """The event of a line.

    :raises ValueError: when it is none, or one of another run.
    """
    try:
        event = json.loads(line, parse_constant=_no_number)
        json.dumps(event, indent=1)  # which nests less deeply than reading does
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(event, dict) or event.get("run") != run:
        raise ValueError("is no event of this run")
    node = event.get("node")
    if not isinstance(node, dict) or not all(isinstance(x, str) and len(x) <= LONGEST for x in node.values()):
        raise ValueError("names no node")
    names = {word: _text(node[word]) for word in NAMES if word in node}
    sequence = _whole(event, "sequence")
    if not 1 <= sequence <= EVENTS:
        raise ValueError("has no number")
    return Event(names, sequence, _changes(event))


def _changes(event: dict[str, Any]) -> dict[str, Any]:
    match event.get("event"):
        case "started" | "progressed" | "finished" as kind:
            done, total = _whole(event, "done"), _whole(event, "total")
            part = 1.0 if kind == "finished" else done / total if total else 0.0
            steps = {"number": _whole(event, "number"), "count": _whole(event, "count")}
            what = {"what": _text(event["description"])} if "description" in event else {}
            return {"state": "deploying", "part": part, **steps, **what}
        case "facts":
            return {"facts": _object(event, "facts")}
        case "waiting" | "nothing-to-do" as kind:
            return {"state": kind, "what": _text(event.get("reason", ""))}
        case "fetched":
            return {"state": "deploying", "digest": _text(event.get("input_sha256", ""))}
        case "ended":
            if event.get("outcome") not in ("done", "failed"):
                raise ValueError("has no outcome")
            report = _object(event, "report")
            return {"state": event["outcome"], "what": _text(event.get("error", "")), "report": report}
    return {}


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _whole(event: dict[str, Any], name: str) -> int:
    """A number of an event, 0 where it has none: one that can be divided and shown."""
    found = event.get(name)
    if found is None:
        return 0
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 1 << 63:
        raise ValueError(f"{name} is no number")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("has something else where a text belongs")
    return value[:LONGEST].encode(errors="replace").decode()  # half a surrogate can be written nowhere


def _object(event: dict[str, Any], name: str) -> dict[str, Any]:
    found = event.get(name) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{name} is no object")
    return found


class Site:
    """Documents in a folder, and what nodes have told."""

    def __init__(self, documents: Path, key: bytes | None) -> None:
        self.documents = documents
        self.key = key
        self.runs: dict[str, Run] = {}
        self.lock = threading.Lock()

    def document(self, name: str) -> bytes | None:
        """The document for a node, empty where it was deployed; ``None`` without one."""
        if not name or name.startswith(".") or not name.isprintable() or len(name) > LONGEST:
            return None
        file = name.replace("/", "%2F")  # a serial number may have one
        path = self.documents / (file if file.endswith(".sig") else f"{file}.json")
        try:
            text = path.read_bytes()
        except (OSError, ValueError):  # half a surrogate is part of no path
            return None
        digest = hashlib.sha256(text).hexdigest()
        with self.lock:
            mine = [run for run in self.runs.values() if name.lower() in map(str.lower, run.node.values())]
        return b"" if any(run.state == "done" and run.digest == digest for run in mine) else text

    def may(self, run: str, kind: str, size: int, signature: str) -> HTTPStatus | None:
        """Why a request is refused by its head alone; ``None`` where its body is to be read."""
        if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", run):
            return HTTPStatus.BAD_REQUEST
        if self.key is not None and not re.fullmatch("sha256=[0-9a-f]{64}", signature):
            return HTTPStatus.FORBIDDEN
        if kind not in LARGEST:
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE if size > LARGEST[kind] else None

    def signed(self, run: str, kind: str, body: bytes, signature: str) -> bool:
        """Whether a request is by somebody who has the key."""
        if self.key is None:
            return True
        wanted = hmac.new(self.key, f"{run}\n{kind}\n".encode() + body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(f"sha256={wanted}".encode(), signature.encode())

    def take(self, run: str, kind: str, body: bytes) -> None:
        """Take events, all of them or none, or the archive of a run.

        :raises ValueError: for what is none.
        """
        if kind == ARCHIVE:
            with self.lock:
                if run not in self.runs:
                    raise ValueError("of a run that has told nothing")
                self.runs[run].bundle = body
                for old in [x for x in self.runs.values() if x.bundle][:-BUNDLES]:
                    old.bundle = b""
            return
        events = [read(line, run) for line in body.splitlines()]
        with self.lock:
            for event in events:
                if run not in self.runs and len(self.runs) >= NODES:
                    del self.runs[next(iter(self.runs))]
                self.runs.setdefault(run, Run(event.node)).take(event)

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
        place, _, name = unquote(self.path.partition("?")[0]).strip("/").partition("/")
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
            self._answer(200, run.bundle, ARCHIVE)
        else:
            self._answer(404)

    def do_POST(self) -> None:
        self.close_connection = True
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,12}", length):
            self._answer(411)
            return
        size = int(length)
        run, kind, signature = (
            self.headers.get(x, "") for x in ("X-Bareon-Run", "Content-Type", "X-Bareon-Signature")
        )
        refusal = self.site.may(run, kind, size, signature) if self.path == "/events" else HTTPStatus.NOT_FOUND
        if refusal:
            for _ in self._body(min(size, DROPPED)):  # or the answer would not reach who still sends
                pass
            self._answer(refusal)
            return
        with BODIES:
            body = b"".join(self._body(size))
        if len(body) < size or not self.site.signed(run, kind, body, signature):
            self._answer(400 if len(body) < size else 403)
            return
        try:
            self.site.take(run, kind, body)
        except ValueError as error:
            self.log_message("refused: %s", error)
            self._answer(400)
        else:
            self._answer(204)

    def _body(self, size: int) -> Iterator[bytes]:
        """The pieces of a body; it ends early where it takes longer than a minute in all."""
        end = time.monotonic() + self.timeout
        while size and time.monotonic() < end:
            try:
                piece = self.rfile.read1(min(size, 1 << 16))
            except OSError:
                return
            if not piece:
                return
            size -= len(piece)
            yield piece

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
        line = f"{self.address_string()} {format % args}"
        sys.stderr.write("".join(x if x.isprintable() else "?" for x in line) + "\n")


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
