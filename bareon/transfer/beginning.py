# SPDX-License-Identifier: Apache-2.0
"""Beginning of an image, decoded before anything is written, and what its superblock tells of the rest.

A few MiB at most are fetched for it, whatever the image's form. What they cannot show is looked at once more when the
image has arrived, before its first MiB is written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from bareon.errors import ImageFailed
from bareon.sizes import MIB, mib
from bareon.transfer import qcow2
from bareon.transfer.decode import Decoding
from bareon.transfer.foreign import refuse
from bareon.transfer.format import Format, refuse_nested
from bareon.transfer.ring import PIECE
from bareon.transfer.source import Source
from bareon.transfer.superblock import SEEN, Superblock, read

LOG = logging.getLogger(__name__)

_SERVED = 4 * MIB  # bzip2 needs the most: a block of 900 kB, which may have grown
_CHUNK = 64 * 1024
_PADDING = 256 * MIB  # what an image may have behind its file system without being looked at more closely


class _TooFar(Exception):
    """The beginning does not show within the bytes that are read for it."""


def decoded(kind: Format, head: bytes, source: Source) -> bytes:
    """The first bytes of what is in a file, decoded where it is compressed.

    :param head: what was read of the source already.
    :returns: none where too much would have to be read for them.
    :raises ImageFailed: when the beginning is damaged, or that of no image of any kind.
    """
    plain = head
    if kind not in ("raw", "qcow2"):
        try:
            plain = _first(Decoding(kind).run(_Chunks(head, source), lambda: PIECE))
        except _TooFar:
            return b""
        refuse_nested(kind, plain)
    refuse(plain)
    return plain


def look(kind: Format, size: int | None, head: bytes, source: Source) -> tuple[Superblock | None, int | None]:
    """The superblock of an image and its size in bytes, where they can be told before it is brought.

    :param size: the size as its header tells it.
    :param head: what was read of the source already.
    :returns: no superblock where too much would have to be read for it; the size as it was given, or a better one.
    :raises ImageFailed: when the beginning is damaged, or is not that of an image that can be brought.
    """
    if kind == "qcow2":
        mapped = qcow2.Map(qcow2.header(head), source.length, source.read_at)
        plain = _of_qcow2(mapped, source.read_at, SEEN)
        refuse(plain)
        return read(plain), size
    chunks = _Chunks(head, source)
    stream = map(bytes, chunks) if kind == "raw" else Decoding(kind).run(chunks, lambda: PIECE)
    try:
        plain = _first(stream)
    except _TooFar:
        return None, size
    if kind != "raw":
        refuse_nested(kind, plain)
    refuse(plain)
    found = read(plain)
    if found.size is not None and _doubtful(kind, size, found.size, source):
        LOG.info("the image may be shorter than its file system: decoding all of it beforehand")
        chunks.limit = None
        size = _counted(len(plain), stream, found.size)
    return found, size


def _counted(done: int, stream: Iterator[bytes], enough: int) -> int | None:
    """The size of the image, ``None`` when it has ``enough`` bytes or more."""
    for piece in stream:
        done += len(piece)
        if done >= enough:
            return None
    return done


def _of_qcow2(mapped: qcow2.Map, read_at: qcow2.ReadAt, count: int) -> bytes:
    """The first ``count`` bytes of the image, fewer where it has fewer, each run of them by a request of its own."""
    data = bytearray(min(count, mapped.header.size))
    for run in mapped.runs():
        if run.guest >= len(data):
            continue
        wanted = run.length if run.compressed else min(run.length, len(data) - run.guest)
        part = read_at(run.host, min(wanted, mapped.length - run.host)) or b""
        plain = mapped.inflated(run, part) if run.compressed else part
        end = min(run.guest + len(plain), len(data))
        data[run.guest : end] = plain[: end - run.guest]
    return bytes(data)


def _doubtful(kind: Format, size: int | None, wanted: int, source: Source) -> bool:
    """True where the image may well be shorter than its file system, and only decoding all of it would tell.

    That is worth the time: the other way to find out is to overwrite what is on the disks.
    """
    if kind == "zstd":
        # Several frames may follow each other, and the header is that of the first.
        return size is not None and wanted > size
    if kind == "gzip" and source.length is not None:
        # The end has the size, but modulo 4 GiB, and of the last member only (RFC 1952, 2.3.1).
        tail = source.read_at(source.length - 4, 4)
        return tail is not None and (int.from_bytes(tail, "little") - wanted) % (1 << 32) > _PADDING
    return False


def check_whole(found: Superblock, size: int | None) -> None:
    """See that an image of that many bytes holds all of its file system.

    :raises ImageFailed: when a part of it is missing.
    """
    if found.lacking:
        raise ImageFailed(f"{found.lacking}: an image needs to hold all of a file system")
    if size is not None and found.size is not None and found.size > size:
        whole, there = (f"{mib(value)} ({value} bytes)" for value in (found.size, size))
        raise ImageFailed(
            f"is cut short: its {found.type} file system has {whole}, the image {there}: make or upload it again"
        )


class _Chunks:
    """The bytes of a source as they are served, as far as ``limit`` allows."""

    def __init__(self, head: bytes, source: Source) -> None:
        self._head = head
        self._source = source
        self.limit: int | None = _SERVED

    def __iter__(self) -> Iterator[memoryview]:
        done = len(self._head)
        yield memoryview(self._head)
        buffer = memoryview(bytearray(_CHUNK))
        while count := self._source.fill(buffer):
            yield buffer[:count]
            done += count
            if self.limit is not None and done >= self.limit:
                raise _TooFar


def _first(stream: Iterator[bytes]) -> bytes:
    """The first bytes of the image, at least as many as a superblock needs; fewer where it ends before."""
    plain = b""
    for piece in stream:
        plain += piece
        if len(plain) >= SEEN:
            break
    return plain
