# SPDX-License-Identifier: Apache-2.0
"""The threads of a transfer: fetch, check, decode, write; a few buffers go round between them.

Reading a socket, digests, decoders and writes all release the interpreter's lock for a piece of one MiB.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from bareon.errors import ImageFailed
from bareon.sizes import mib
from bareon.tools.block import AT_ONCE
from bareon.transfer.check import Check
from bareon.transfer.deadline import Deadline, Stopped
from bareon.transfer.decode import Decoding
from bareon.transfer.format import Format, refuse_nested
from bareon.transfer.ring import PIECE, Piece, Ring, all_zero

_BUFFERS = 6  # in each ring that has any
_TOLD = 0.25  # seconds between two reports of progress
# A look-up of a name or a connect cannot be interrupted: its thread then ends later, it holds nothing but a socket.
_PATIENCE = 1.0  # seconds


class Reshape(Protocol):
    """Makes the image's bytes, piece by piece, of those that are served."""

    def __call__(self, served: Iterator[memoryview], packer: Packer) -> None: ...


class Target(Protocol):
    """Where the image's bytes go; :class:`bareon.transfer.device.Device` is one. ``path`` names it in errors.

    More than ``limit`` bytes never come. What is written comes in order, unless the converter says otherwise.
    """

    path: str
    limit: int

    def write(self, offset: int, data: memoryview) -> None: ...

    def zero(self, offset: int, length: int) -> None: ...

    def flush(self) -> None: ...


class Stream(Protocol):
    """Where the served bytes come from; a :class:`bareon.transfer.source.Source` is one."""

    @property
    def length(self) -> int | None: ...

    def fill(self, buffer: memoryview) -> int: ...

    def close(self) -> None: ...


class Packer:
    """Collects the image's bytes into pieces on their way to the device."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._buffer: memoryview | None = None
        self._start = 0
        self._fill = 0

    def room(self) -> int:
        """The bytes that the next ``add`` may bring at most."""
        return PIECE - self._fill

    def seek(self, offset: int) -> None:
        """Set the place in the image where the next bytes belong."""
        if offset != self._start + self._fill:
            self.flush()
            self._start = offset

    def add(self, data: bytes | memoryview) -> None:
        if self._buffer is None:
            self._buffer = self._ring.take()
        if not self._fill and len(data) == PIECE and all_zero(data):
            self._put(PIECE, None)
            return
        self._buffer[self._fill : self._fill + len(data)] = data
        self._fill += len(data)
        if self._fill == PIECE:
            self.flush()

    def feed(self, data: bytes | memoryview) -> None:
        """As ``add``, of however many bytes."""
        view = memoryview(data)
        while view:
            part = view[: self.room()]
            self.add(part)
            view = view[len(part) :]

    def flush(self) -> None:
        if self._fill and self._buffer is not None:
            self._put(self._fill, self._buffer[: self._fill])

    def zero(self, offset: int, length: int) -> None:
        """Zeros, however many; in parts, since between them the transfer can end."""
        self.seek(offset)
        while length:
            part = min(length, AT_ONCE)
            # Back-pressure: with the buffer, which is not needed, a faster producer waits for the writer.
            self._buffer = self._buffer or self._ring.take()
            self._put(part, None)
            length -= part

    def _put(self, length: int, data: memoryview | None) -> None:
        assert self._buffer is not None
        self._ring.put(Piece(self._start, length, self._buffer, data))
        self._start, self._fill, self._buffer = self._start + length, 0, None


class Pipeline:
    """One image on its way. ``served``, ``size`` are the bytes so far; ``checks`` see the served ones."""

    def __init__(self, source: Stream, device: Target, deadline: Deadline, checks: Sequence[Check] = ()) -> None:
        self._source = source
        self._device = device
        self._deadline = deadline
        self._checks = checks
        self._error: BaseException | None = None
        self._fetched = Ring(_BUFFERS)
        # A digest takes as long as all else that is done to a raw image, so that checks have a thread of their own.
        self._known = Ring(0, behind=self._fetched) if checks else self._fetched
        self._outward = self._known
        self.served = 0
        self.size = 0

    def run(self, head: bytes, reshape: Reshape | None, progress: Callable[[int, int | None], None]) -> None:
        """Bring all of the image onto the device but its first MiB, and wait until it is durable there.

        :param head: what was read of the source already.
        :param reshape: ``None`` for an image that is written as it is served.
        """
        work = [("fetch", lambda: self._fetch(head))]
        if self._checks:
            work.append(("check", self._check))
        if reshape is not None:
            self._outward = Ring(_BUFFERS)
            work.append(("decode", lambda: self._reshape(reshape)))
        work.append(("write", self._write))
        threads = [
            threading.Thread(target=self._guarded, args=(task,), name=name, daemon=True) for name, task in work
        ]
        try:
            for thread in threads:
                thread.start()
            while threads[-1].is_alive():
                threads[-1].join(_TOLD)
                progress(self.served, self._source.length)
        finally:
            self._stop()
            for thread in threads:
                thread.join(_PATIENCE if thread.name == "fetch" else None)
        if self._error is not None:
            raise self._error

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  it is raised again by the thread that waits
            self._error = self._error or error
            self._stop()

    def _stop(self) -> None:
        self._deadline.stop()
        for ring in (self._fetched, self._known, self._outward):
            ring.stop()
        self._source.close()

    def _fetch(self, head: bytes) -> None:
        while True:
            buffer = self._fetched.take()
            begun = len(head)
            buffer[:begun] = head
            count = begun + self._source.fill(buffer[begun:])
            head = b""
            if not count:
                self._fetched.end()
                return
            offset, self.served = self.served, self.served + count
            self._fetched.put(Piece(offset, count, buffer, buffer[:count]))

    def _check(self) -> None:
        while (piece := self._fetched.get()) is not None:
            assert piece.data is not None
            for check in self._checks:
                check.update(piece.data)
            self._known.put(piece)
        self._known.end()

    def _reshape(self, reshape: Reshape) -> None:
        packer = Packer(self._outward)
        reshape(self._chunks(), packer)
        packer.flush()
        self._outward.end()

    def _chunks(self) -> Iterator[memoryview]:
        while (piece := self._known.get()) is not None:
            assert piece.data is not None
            yield piece.data
            self._known.give_back(piece.buffer)

    def _write(self) -> None:
        device = self._device
        while (piece := self._outward.get()) is not None:
            self._deadline.check()
            end = piece.offset + piece.length
            if end > device.limit:
                raise ImageFailed(f"holds more than the {mib(device.limit)} ({device.limit} bytes) of {device.path}")
            if piece.data is None or all_zero(piece.data):
                device.zero(piece.offset, piece.length)
            else:
                device.write(piece.offset, piece.data)
            self._outward.give_back(piece.buffer)
            self.size = max(self.size, end)
        device.flush()


def decoding(kind: Format, seen: Callable[[bytes | memoryview], None] | None = None) -> Reshape:
    """The decoder of a compressed stream. ``seen`` is called with each piece of them."""

    def reshape(served: Iterator[memoryview], packer: Packer) -> None:
        first = True
        for plain in Decoding(kind).run(served, packer.room):
            if first:
                refuse_nested(kind, plain)
            first = False
            if seen is not None:
                seen(plain)
            packer.add(plain)

    return reshape
