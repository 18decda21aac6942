# SPDX-License-Identifier: Apache-2.0
"""Answers one request for an image, rightly or with a fault."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tests_functional.bench.httpd import fault
from tests_functional.bench.httpd.fault import Fault
from tests_functional.bench.httpd.scope import Request, Scope

if TYPE_CHECKING:
    from tests_functional.bench.httpd.server import Httpd

#: Bytes handed to the kernel or copied at a time; a fault that counts bytes makes it fewer.
PIECE = 1 << 20
#: How much the lengths of ``short`` and ``wrong-length`` are off.
OFF = 1000
#: Seconds that a stalled connection is kept; longer than any client waits.
STALL = 600.0
#: Slow bytes come this often a second.
TICKS = 20
#: Turns each byte of a file into another one.
_INVERTED = bytes(range(255, -1, -1))


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "bareon-bench"
    sys_version = ""

    def do_GET(self) -> None:
        """Send a file, or a part of it."""
        self._answer()

    def do_HEAD(self) -> None:
        """Send what :meth:`do_GET` would send, less the body."""
        self._answer()

    def log_message(self, format: str, *arguments: object) -> None:
        """Leave logging to the end of the answer, when it is known what was sent."""

    def _answer(self) -> None:
        owner: Httpd = self.server.owner  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        self.note = Request(self.command, path, self.headers.get("Range"), headers=dict(self.headers))
        try:
            _, scope_name, words, name = path.split("/")
            scope = owner.scope(scope_name)
            if scope is None:
                raise ValueError(f"no scope {scope_name!r}")
            wanted, file = fault.parse(words), owner.find(name)
        except ValueError as error:
            self._refuse(404, str(error))
            return
        before = scope.add(self.note)
        try:
            _Answer(self, scope, wanted, file, before).send()
        except OSError as error:
            self.close_connection = True
            owner.note(f"{path}: {error}")
        owner.note(f"{self.command} {path} {self.note.range or ''} -> {self.note.status}, {self.note.sent} bytes")

    def _refuse(self, status: int, why: str) -> None:
        content = f"{why}\n".encode()
        self.note.status = status
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class _Answer:
    """One answer: what is sent, and where it breaks off."""

    def __init__(self, handler: Handler, scope: Scope, wanted: Fault, file: Path, before: int) -> None:
        self.handler = handler
        self.owner: Httpd = handler.server.owner  # type: ignore[attr-defined]
        self.scope = scope
        self.fault = wanted
        self.file = file
        self.first = before == 0
        self.before = before
        self.note: Request = handler.note
        self.size = file.stat().st_size

    @property
    def changed(self) -> bool:
        """Whether the file has been replaced by another one."""
        return "changed" in self.fault.numbers and not self.first

    def send(self) -> None:
        """Send headers and body."""
        if self.fault.fails(self.before):
            assert self.fault.status is not None
            self.handler._refuse(self.fault.status, "as you wish")
        elif self.fault.redirect:
            self._redirect(self.fault.redirect)
        else:
            start, end = self._range()
            if start >= self.size > 0:
                self._head(416, [("Content-Range", f"bytes */{self.size}"), ("Content-Length", "0")])
            else:
                self._send_part(start, end)

    def _redirect(self, kind: str) -> None:
        name, _, port = self.handler.headers.get("Host", "").rpartition(":")
        other = self.owner.other_hosts.get(name, name)
        plain = re.sub(r"redirect-\w+", "plain", self.note.path)
        target = {
            "http": f"http://{name}:{port}{plain}",
            "host": f"http://{other}:{port}{plain}",
            "file": f"file://{self.file}",
            "ftp": f"ftp://{name}:{port}{plain}",
            "loop": f"http://{name}:{port}{self.note.path}",
        }[kind]
        self._head(302, [("Location", target), ("Content-Length", "0")])

    def _tag(self) -> str:
        return f'"{self.file.stat().st_mtime_ns:x}-{self.size:x}{"-changed" * self.changed}"'

    def _range(self) -> tuple[int, int]:
        """Return the first byte to send and the one behind the last, from the Range header if it counts."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.note.range or "")
        condition = self.handler.headers.get("If-Range")
        stale = condition is not None and condition != self._tag()
        if not found or stale or "norange" in self.fault.flags:
            self.partial = False
            return 0, self.size
        self.partial = True
        return int(found[1]), min(int(found[2]) + 1 if found[2] else self.size, self.size)

    def _headers(self, start: int, end: int) -> Iterator[tuple[str, str]]:
        flags = self.fault.flags
        yield "Content-Type", "application/octet-stream"
        if "norange" not in flags:
            yield "Accept-Ranges", "bytes"
        if "noetag" not in flags:
            yield "ETag", self._tag()
            stamp = self.file.stat().st_mtime + 3600 * self.changed
            yield "Last-Modified", self.handler.date_time_string(stamp)
        if "gzip-encoded" in flags:
            yield "Content-Encoding", "gzip"
        if self.partial:
            yield "Content-Range", f"bytes {start}-{end - 1}/{self.size}"
        if "nolength" in flags:
            yield "Transfer-Encoding", "chunked"
        else:
            length = end - start - (OFF if "wrong-length" in flags else 0)
            yield "Content-Length", str(max(length, 0))

    def _head(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.note.status = status
        self.handler.send_response(status)
        for name, value in headers:
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def _send_part(self, start: int, end: int) -> None:
        self._head(206 if self.partial else 200, list(self._headers(start, end)))
        if self.handler.command == "HEAD":
            return
        stop = self._breaks_at(start, end)
        if "lying-range" in self.fault.flags:
            start, stop = 0, stop - start
        with self.file.open("rb") as file:
            self._body(file, start, stop)
        whole = stop == end and not {"short", "wrong-length", "lying-range"} & self.fault.flags
        if "nolength" in self.fault.flags and whole:
            self.handler.wfile.write(b"0\r\n\r\n")
        if not whole:
            self._break_off(stop < end)

    def _breaks_at(self, start: int, end: int) -> int:
        """Return the offset behind the last byte that is sent."""
        numbers = self.fault.numbers
        stop = end - OFF if "short" in self.fault.flags else end
        for name in ("cut", "reset", "stall-always"):
            stop = min(stop, start + numbers.get(name, end))
        for name in ("stall", "changed"):
            if name in numbers and self.first:
                stop = min(stop, start + numbers[name])
        cut = self.scope.first_unused(self.note.path, self.fault.offsets, start + 1, stop)
        return max(start, stop if cut is None else cut)

    def _body(self, file: BinaryIO, start: int, stop: int) -> None:
        rate = self.fault.numbers.get("slow")
        copied = "nolength" in self.fault.flags or self.changed
        piece = max(1, rate // TICKS) if rate else PIECE if copied else stop - start
        position = start
        while position < stop:
            count = min(piece, stop - position)
            if copied:
                self._copy(file, position, count)
            else:
                self._push(file, position, count)
            position += count
            self.note.sent += count
            if rate:
                time.sleep(count / rate)

    def _copy(self, file: BinaryIO, position: int, count: int) -> None:
        content = os.pread(file.fileno(), count, position)
        if self.changed:
            content = content.translate(_INVERTED)
        if "nolength" in self.fault.flags:
            content = b"%x\r\n%b\r\n" % (len(content), content)
        self.handler.wfile.write(content)

    def _push(self, file: BinaryIO, position: int, count: int) -> None:
        """Let the kernel send; under TLS, where it cannot, send pieces."""
        connection = self.handler.connection
        if not isinstance(connection, ssl.SSLSocket):
            connection.sendfile(file, position, count)
            return
        for offset in range(position, position + count, PIECE):
            wanted = min(PIECE, position + count - offset)
            connection.sendall(os.pread(file.fileno(), wanted, offset))

    def _break_off(self, early: bool) -> None:
        """End the connection though more was announced, in the way that was asked for."""
        connection = self.handler.connection
        self.handler.close_connection = True
        numbers = self.fault.numbers
        if early and ("stall-always" in numbers or ("stall" in numbers and self.first)):
            # Until the client has had enough.
            connection.settimeout(STALL)
            with contextlib.suppress(OSError):
                connection.recv(1)
        if "reset" in self.fault.numbers:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
