# SPDX-License-Identifier: Apache-2.0
"""A qcow2 file streamed once from front to back, its clusters on their way to where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from bareon.errors import ImageFailed
from bareon.transfer.decode import ZSTD_WINDOW_LOG
from bareon.transfer.pipeline import Packer
from bareon.transfer.qcow2 import Map, Run

_STEP = 256 * 1024  # bytes of a run taken at once


class Window:
    """The stream's bytes from a place on that only moves forward."""

    def __init__(self, chunks: Iterator[memoryview]) -> None:
        self._chunks = chunks
        self._start = 0
        self._data = bytearray()

    def read(self, start: int, length: int) -> bytes:
        """Bytes at ``start``, which is never before that of the last call; fewer where the stream ends."""
        self._forward(start)
        while len(self._data) < length and (chunk := next(self._chunks, None)) is not None:
            self._data += chunk
        with memoryview(self._data) as data:
            return bytes(data[:length])

    def _forward(self, start: int) -> None:
        while start - self._start > len(self._data):
            self._start += len(self._data)
            self._data.clear()
            chunk = next(self._chunks, None)
            if chunk is None:
                self._start = start
                return
            skipped = min(len(chunk), start - self._start)
            self._start += skipped
            self._data += chunk[skipped:]
        del self._data[: start - self._start]
        self._start = start

    def drain(self) -> None:
        """Take the rest, which the digest is made of too."""
        for _ in self._chunks:
            pass


class Placing:
    """A :class:`bareon.transfer.pipeline.Reshape` for qcow2."""

    def __init__(self, mapped: Map, shown: str) -> None:
        self._map = mapped
        self._shown = shown

    def __call__(self, served: Iterator[memoryview], packer: Packer) -> None:
        for offset, length in self._map.holes():
            packer.zero(offset, length)
        window = Window(served)
        for run in self._map.runs():
            packer.seek(run.guest)
            if run.compressed:
                self._feed(packer, self._inflated(run, window.read(run.host, run.length)))
            else:
                self._copy(run, window, packer)
        window.drain()

    def _copy(self, run: Run, window: Window, packer: Packer) -> None:
        done = 0
        while done < run.length:
            part = min(_STEP, run.length - done)
            # Behind the end of the file an allocated cluster is zero.
            self._feed(packer, window.read(run.host + done, part).ljust(part, b"\0"))
            done += part

    def _feed(self, packer: Packer, data: bytes) -> None:
        view = memoryview(data)
        while view:
            part = view[: packer.room()]
            packer.add(part)
            view = view[len(part) :]

    def _inflated(self, run: Run, data: bytes) -> bytes:
        """A compressed cluster; behind it in ``data`` there may be bytes of the next one."""
        from backports import zstd
        from isal import isal_zlib

        size = self._map.header.cluster
        try:
            if self._map.header.zstd:
                options = {int(zstd.DecompressionParameter.window_log_max): ZSTD_WINDOW_LOG}
                plain = zstd.ZstdDecompressor(options=options).decompress(data, size)
            else:
                plain = isal_zlib.decompressobj(-12).decompress(data, size)
        except (zstd.ZstdError, cast(type[Exception], isal_zlib.error), EOFError):
            plain = b""
        if len(plain) != size:
            raise ImageFailed(f"{self._shown}: the qcow2 image is damaged: a compressed cluster cannot be decoded")
        return plain[: self._map.header.size - run.guest]
