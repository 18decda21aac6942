# SPDX-License-Identifier: Apache-2.0
"""A few page-aligned buffers that go round between two threads: filled ones forward, used ones back."""

from __future__ import annotations

import mmap
import queue
from dataclasses import dataclass

from bareon.sizes import MIB
from bareon.transfer.deadline import Stopped

PIECE = MIB
_ZEROS = bytes(PIECE)


def all_zero(data: memoryview | bytes) -> bool:
    """True if all of ``data``, one piece at most, is zero."""
    # A memcmp; to compare a memoryview goes through it element by element.
    return _ZEROS.startswith(data)


@dataclass(frozen=True, slots=True)
class Piece:
    """``length`` bytes on their way, which belong at ``offset``; without ``data`` they are zeros, however many."""

    offset: int
    length: int
    buffer: memoryview
    data: memoryview | None


class Ring:
    """Buffers of one piece each. A thread that waits here gets Stopped when the transfer ends early.

    A ring that stands ``behind`` another one has no buffers of its own: what is put there came through the other.
    """

    def __init__(self, count: int, behind: Ring | None = None) -> None:
        self._filled: queue.SimpleQueue[Piece | type[Stopped] | None] = queue.SimpleQueue()
        self._free: queue.SimpleQueue[memoryview | None] = behind._free if behind else queue.SimpleQueue()
        # An anonymous mapping begins at a page, as O_DIRECT needs it.
        whole = memoryview(mmap.mmap(-1, PIECE * count)) if count else memoryview(b"")
        for start in range(0, PIECE * count, PIECE):
            self._free.put(whole[start : start + PIECE])

    def take(self) -> memoryview:
        """A free buffer; waits for one."""
        buffer = self._free.get()
        if buffer is None:
            self._free.put(None)
            raise Stopped
        return buffer

    def put(self, piece: Piece) -> None:
        self._filled.put(piece)

    def end(self) -> None:
        """Mark the end: nothing is put any more."""
        self._filled.put(None)

    def get(self) -> Piece | None:
        """The next piece, ``None`` after the last one; waits for it. Its buffer must be given back."""
        piece = self._filled.get()
        if isinstance(piece, type):
            self._filled.put(piece)
            raise Stopped
        return piece

    def give_back(self, buffer: memoryview) -> None:
        self._free.put(buffer)

    def stop(self) -> None:
        """Wake the waiting threads on both sides."""
        self._free.put(None)
        self._filled.put(Stopped)
