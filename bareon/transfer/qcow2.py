# SPDX-License-Identifier: Apache-2.0
"""A qcow2 image as a stream: its tables inverted, from places in the file to places in the image.

So the file can be streamed once, from its first byte to its last, each cluster being written where it belongs; there
need be no room for the file. The tables are small, and read beforehand in parts. Nothing in them is trusted.
The format is described in ``docs/interop/qcow2.txt`` of QEMU.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from bareon.errors import ImageFailed
from bareon.sizes import MIB
from bareon.transfer.decode import ZSTD_WINDOW_LOG
from bareon.transfer.extents import Extent, located
from bareon.transfer.pipeline import Packer

_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_HEADER_3 = struct.Struct(">QQQII")
_LONGEST_L1 = 1 << 20  # entries, 8 MiB
_MOST_RUNS = 1 << 19  # some 50 MB for a moment; 32 GiB of compressed clusters
_SPAN = MIB  # tables this near to each other are read at once
_STEP = 256 * 1024  # bytes of a run taken at once
_OFFSET = (1 << 56) - 512
_COMPRESSED = 1 << 62
_ZERO = 1
# Incompatible features: 0 says that reference counts are stale, which only a writer minds; 3 is the compression.
_HARMLESS = 1 << 0 | 1 << 3
_REFUSED = {1: "is marked as corrupt", 2: "keeps its data in another file", 4: "has extended L2 entries"}

#: The bytes of the file at an offset, so many; ``None`` where the server gives no parts.
ReadAt = Callable[[int, int], bytes | None]


@dataclass(frozen=True)
class Header:
    """The header: size of the image, size of its clusters, and places of its tables."""

    size: int
    cluster_bits: int
    l1_offset: int
    l1_entries: int
    zstd: bool

    @property
    def cluster(self) -> int:
        return 1 << self.cluster_bits


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes of the file: ``length`` of them are one compressed cluster, or as many bytes of the image."""

    host: int
    length: int
    guest: int
    compressed: bool


def header(head: bytes) -> Header:
    """Read and check a header. Raises ImageFailed for what is damaged, and for what cannot be brought this way."""
    if len(head) < _HEADER.size:
        raise _bad("its header is cut off")
    _, version, backing, _, bits, size, crypt, l1_entries, l1_offset, *_ = _HEADER.unpack_from(head)
    if version not in (2, 3):
        raise _bad(f"has version {version}")
    if backing:
        raise _bad("has a backing file: make one without (qemu-img convert)")
    if crypt:
        raise _bad("is encrypted")
    if not 9 <= bits <= 21:
        raise _bad("is damaged: no such size of clusters")
    zstd = _features(head) if version == 3 else False
    needed = -(-size // (1 << (2 * bits - 3)))
    if l1_entries < needed or l1_offset % 8 or (needed and l1_offset < _HEADER.size):
        raise _bad("is damaged: its first table does not fit its size")
    if needed > _LONGEST_L1:
        raise _bad("is too large for clusters this small")
    return Header(size, bits, l1_offset, needed, zstd)


def _features(head: bytes) -> bool:
    """Refuse unknown incompatible features; true if clusters are compressed by zstd."""
    if len(head) < _HEADER.size + _HEADER_3.size:
        raise _bad("its header is cut off")
    incompatible, _, _, _, length = _HEADER_3.unpack_from(head, _HEADER.size)
    for bit, text in _REFUSED.items():
        if incompatible >> bit & 1:
            raise _bad(text)
    if incompatible & ~_HARMLESS:
        raise _bad("has features that are not known")
    kind = head[104] if length > 104 and len(head) > 104 else 0
    if kind > 1:
        raise _bad("is compressed in a way that is not known")
    return kind == 1


class Map:
    """The map of the image: ``runs`` of bytes of the file, in its order, and ``holes``, which are zero.

    With ``within`` it is that of a part at least, from one byte of the image to another, for which fewer tables are
    read.
    """

    def __init__(
        self, parsed: Header, length: int | None, read_at: ReadAt, within: tuple[int, int] | None = None
    ) -> None:
        self.header = parsed
        self._within = within or (0, parsed.size)
        if length is None:
            raise _bad("is served without its length")
        self.length = length
        self._read_at = read_at
        # Host offset, first cluster in the image, and clusters or (with the flag) bytes of the file: one number each,
        # since an object each would need three times the memory.
        self._packed: list[int] = []
        self._load()
        self._packed.sort()

    def runs(self) -> Iterator[Run]:
        """All that the file holds of the image, by where it begins in the file; runs may overlap."""
        bits, size = self.header.cluster_bits, self.header.size
        for packed in self._packed:
            host, guest, count = packed >> 72, (packed >> 32 & (1 << 40) - 1) << bits, packed & (1 << 31) - 1
            compressed = bool(packed & 1 << 31)
            yield Run(host, count if compressed else min(count << bits, size - guest), guest, compressed)

    def within(self, spans: Sequence[Extent]) -> list[Run]:
        """The runs that hold bytes of one of the spans of the image; compressed ones whole, others cut to them."""
        found = []
        for run in self.runs():
            length = self.header.cluster if run.compressed else run.length
            cuts = ((max(run.guest, x), min(run.guest + length, y)) for x, y in spans)
            inside = [(start, end) for start, end in cuts if start < end]
            if run.compressed:
                found += [run] if inside else []
            else:
                found += [Run(run.host + x - run.guest, y - x, x, False) for x, y in inside]
        return sorted(found, key=lambda x: x.host)

    def hosts(self, runs: Iterable[Run]) -> Iterator[Extent]:
        """Where runs lie in the file. Behind its end an allocated cluster is zero."""
        return ((run.host, min(run.host + run.length, self.length)) for run in runs)

    def holes(self) -> Iterator[tuple[int, int]]:
        """Offset and length of what no run brings, ascending."""
        bits = self.header.cluster_bits
        spans = sorted(
            (packed >> 32 & (1 << 40) - 1) << 31 | (1 if packed & 1 << 31 else packed & (1 << 31) - 1)
            for packed in self._packed
        )
        position = 0
        for span in spans:
            start = span >> 31 << bits
            if start > position:
                yield position, start - position
            position = start + ((span & (1 << 31) - 1) << bits)
        if position < self.header.size:
            yield position, self.header.size - position

    def inflated(self, run: Run, data: bytes) -> bytes:
        """A compressed cluster; behind it in ``data`` there may be bytes of the next one."""
        from backports import zstd
        from isal import isal_zlib

        size = self.header.cluster
        try:
            if self.header.zstd:
                options = {int(zstd.DecompressionParameter.window_log_max): ZSTD_WINDOW_LOG}
                plain = zstd.ZstdDecompressor(options=options).decompress(data, size)
            else:
                plain = isal_zlib.decompressobj(-12).decompress(data, size)
        except (zstd.ZstdError, cast(type[Exception], isal_zlib.error), EOFError):
            plain = b""
        if len(plain) != size:
            raise _bad("is damaged: a compressed cluster cannot be decoded")
        return plain[: self.header.size - run.guest]

    def _load(self) -> None:
        parsed = self.header
        first, last = (min(x >> 2 * parsed.cluster_bits - 3, parsed.l1_entries) for x in self._within)
        count = min(last + 1, parsed.l1_entries) - first
        l1 = self._table(self._part(parsed.l1_offset + 8 * first, 8 * count)) if count else array("Q")
        wanted = sorted((entry & _OFFSET, index) for index, entry in enumerate(l1, first) if entry & _OFFSET)
        if any(was[0] == now[0] for was, now in pairwise(wanted)):
            raise _bad("is damaged: a table is used twice")
        group: list[tuple[int, int]] = []
        for offset, index in wanted:
            if group and offset + parsed.cluster - group[0][0] > max(_SPAN, parsed.cluster):
                self._load_group(group)
                group = []
            group.append((offset, index))
        if group:
            self._load_group(group)

    def _load_group(self, group: list[tuple[int, int]]) -> None:
        """L2 tables that are near to each other, by one request."""
        parsed, first = self.header, group[0][0]
        data = self._part(first, group[-1][0] + parsed.cluster - first)
        for offset, index in group:
            if offset % parsed.cluster:
                raise _bad("is damaged: a table is not at a cluster")
            self._load_l2(index, self._table(data[offset - first : offset - first + parsed.cluster]))
            if len(self._packed) > _MOST_RUNS:
                raise _bad("is in too many pieces: serve it raw and compressed")

    def _load_l2(self, index: int, table: array[int]) -> None:
        bits = self.header.cluster_bits
        first = index << (bits - 3)
        clusters = -(-self.header.size // self.header.cluster)
        host = guest = count = 0
        for cluster, entry in enumerate(table[: clusters - first], first):
            if entry & _COMPRESSED:
                self._packed.append(self._compressed(entry) | cluster << 32)
                continue
            offset = entry & _OFFSET
            if not offset or entry & _ZERO:
                continue
            if count and host + (count << bits) == offset and guest + count == cluster:
                count += 1
                continue
            self._keep(host, guest, count)
            host, guest, count = offset, cluster, 1
        self._keep(host, guest, count)

    def _keep(self, host: int, guest: int, count: int) -> None:
        if not count:
            return
        # The last cluster need not be whole; what is missing is zero.
        if host % self.header.cluster or host + (count - 1 << self.header.cluster_bits) >= self.length:
            raise _bad("is damaged: a cluster lies outside the file")
        self._packed.append(host << 72 | guest << 32 | count)

    def _compressed(self, entry: int) -> int:
        shift = 62 - (self.header.cluster_bits - 8)
        host = entry & (1 << shift) - 1
        sectors = (entry & _COMPRESSED - 1) >> shift
        size = (sectors + 1) * 512 - host % 512
        if host >= self.length or host >> 56:
            raise _bad("is damaged: a cluster lies outside the file")
        return host << 72 | 1 << 31 | size

    def _part(self, offset: int, length: int) -> bytes:
        if offset + length > self.length:
            raise _bad("is damaged or cut off: a table lies outside the file")
        data = self._read_at(offset, length)
        if data is None:
            raise _bad("needs a server that gives parts (Range): serve it raw and compressed")
        return data

    def _table(self, data: bytes) -> array[int]:
        table = array("Q", data)
        if sys.byteorder == "little":
            table.byteswap()
        return table


class Window:
    """The stream's bytes from a place on that only moves forward; ``chunks`` come with their places."""

    def __init__(self, chunks: Iterator[tuple[int, memoryview]]) -> None:
        self._chunks = chunks
        self._start = 0
        self._data = bytearray()

    def read(self, start: int, length: int) -> bytes:
        """Bytes at ``start``; fewer where the stream ends.

        :raises ImageFailed: where it is before that of the last call: a cluster of a long run, which is read in
            steps, is used once more.
        """
        self._forward(start)
        while len(self._data) < length and (found := next(self._chunks, None)) is not None:
            assert found[0] == self._start + len(self._data)
            self._data += found[1]
        with memoryview(self._data) as data:
            return bytes(data[:length])

    def _forward(self, start: int) -> None:
        if start < self._start:
            raise _bad("is damaged: a cluster is used twice")
        while start - self._start > len(self._data):
            self._data.clear()
            found = next(self._chunks, None)
            if found is None:
                self._start = start
                return
            place, chunk = found
            skipped = min(len(chunk), start - place)
            self._start = place + skipped
            self._data += chunk[skipped:]
        del self._data[: start - self._start]
        self._start = start

    def drain(self) -> None:
        """Take the rest, which the digest is made of too."""
        for _ in self._chunks:
            pass


class Placing:
    """A :class:`bareon.transfer.pipeline.Reshape` for qcow2; with ``runs`` for these alone, of some extents."""

    def __init__(
        self, mapped: Map, runs: Iterable[Run] | None = None, extents: Sequence[Extent] | None = None
    ) -> None:
        self._map = mapped
        self._runs = mapped.runs() if runs is None else runs
        self._extents = extents

    def __call__(self, served: Iterator[memoryview], packer: Packer) -> None:
        for offset, length in self._map.holes():
            packer.zero(offset, length)
        window = Window(located(served, self._extents))
        for run in self._runs:
            packer.seek(run.guest)
            if run.compressed:
                packer.feed(self._map.inflated(run, window.read(run.host, run.length)))
            else:
                self._copy(run, window, packer)
        window.drain()

    def _copy(self, run: Run, window: Window, packer: Packer) -> None:
        done = 0
        while done < run.length:
            part = min(_STEP, run.length - done)
            # Behind the end of the file an allocated cluster is zero.
            packer.feed(window.read(run.host + done, part).ljust(part, b"\0"))
            done += part


def _bad(text: str) -> ImageFailed:
    return ImageFailed(f"the qcow2 image {text}")
