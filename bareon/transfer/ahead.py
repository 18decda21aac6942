# SPDX-License-Identifier: Apache-2.0
"""Layers of an image fetched ahead, into memory, while those below them are unpacked."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from bareon.errors import ImageFailed
from bareon.transfer.deadline import Deadline, Stopped
from bareon.transfer.manifest import Layer
from bareon.transfer.ring import PIECE
from bareon.transfer.source import Source

AT_ONCE = 3
"""Connections to a registry: one for the layer that is unpacked, the others for those above it."""

_PATIENCE = 1.0  # seconds

Opened = Callable[[Layer, Deadline], Source]


class Held:
    """A layer that a thread reads into memory, read meanwhile: a :class:`bareon.transfer.source.Source`."""

    def __init__(self, source: Source, deadline: Deadline, size: int) -> None:
        self.length: int | None = size
        self.offset = 0
        self._source = source
        self._deadline = deadline
        self._file = os.memfd_create("bareon-layer", os.MFD_CLOEXEC)
        self._there = 0
        self._failure: BaseException | None = None
        self._ended = self._closed = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="ahead", daemon=True)
        self._thread.start()

    @property
    def attempts(self) -> int:
        return self._source.attempts

    def _work(self) -> None:
        failure: BaseException | None = None
        try:
            buffer = memoryview(bytearray(PIECE))
            while count := self._source.fill(buffer):
                rest = buffer[:count]
                while rest:
                    rest = rest[os.pwrite(self._file, rest, self._there + count - len(rest)) :]
                with self._change:
                    self._there += count
                    self._change.notify_all()
        except OSError as error:
            failure = ImageFailed(f"cannot be held in memory: {error.strerror}")
        except BaseException as error:  # noqa: BLE001  it is raised again by the thread that reads
            failure = error
        finally:
            with self._change:
                self._failure, self._ended = failure, True
                self._change.notify_all()

    def begin(self, offset: int, length: int | None) -> None:
        """Nothing: it has begun."""

    def fill(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer) and (count := self._read(buffer[filled:])):
            filled += count
        return filled

    def _read(self, buffer: memoryview) -> int:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._ended or self._there > self.offset)
            if self._closed:
                raise Stopped
            left = self._there - self.offset
            if not left and self._failure:
                raise self._failure
        count = os.preadv(self._file, [buffer[:left]], self.offset) if left else 0
        self.offset += count
        return count

    def read_at(self, offset: int, length: int) -> bytes | None:
        return None

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._deadline.stop()
        self._source.close()

    def end(self) -> None:
        """Close it, and give its memory back."""
        self.close()
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():  # else it waits for a connection, and ends later
            os.close(self._file)


class Ahead:
    """The sources of layers in their order. The next ones are read ahead, as many as there is room for, in bytes."""

    def __init__(self, layers: Sequence[Layer], opened: Opened, deadline: Deadline, room: int) -> None:
        self._layers = layers
        self._opened = opened
        self._deadline = deadline
        self._room = room
        self._held: dict[int, Held] = {}

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for held in self._held.values():
            held.close()
        while self._held:
            self._held.popitem()[1].end()

    def source(self, number: int, deadline: Deadline) -> Source:
        """That of a layer, from 0; the one before it is done with.

        :param deadline: of the layer, where it was not read ahead.
        """
        if number - 1 in self._held:
            self._held.pop(number - 1).end()
        source: Source | None = self._held.get(number)
        if source is None:
            source = self._opened(self._layers[number], deadline)
        self._read_on(number + 1)
        return source

    def _read_on(self, number: int) -> None:
        used = sum(self._layers[x].blob.size for x in self._held)
        for following in range(number, min(number + AT_ONCE - 1, len(self._layers))):
            size = self._layers[following].blob.size
            if following in self._held:
                continue
            if used + size > self._room:
                return
            used += size
            part = self._deadline.part()
            self._held[following] = Held(self._opened(self._layers[following], part), part, size)
