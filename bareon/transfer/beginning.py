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
from bareon.transfer.format import HEAD, Format, refuse_nested
from bareon.transfer.ring import PIECE
from bareon.transfer.source import Source
from bareon.transfer.superblock import SEEN, Superblock, read

LOG = logging.getLogger(__name__)

_SERVED = 4 * MIB  # bzip2 needs the most: a block of 900 kB, which may have grown
_CHUNK = 64 * 1024
_PLAIN = 16 * MIB  # decoded, of which a few served ones may make any number
_PADDING = 256 * MIB  # what an image may have behind its file system without being looked at more closely


class _TooFar(Exception):
    """The beginning does not show within the bytes that are read for it."""


class Plain:
    """The bytes of an image, decoded, as far as they can be had before it is brought.

    :param head: what was read of the source already.
    """

    def __init__(self, kind: Format, head: bytes, source: Source) -> None:
        self.kind = kind
        self._head = head
        self._source = source
        self._chunks = _Chunks(head, source)
        self._stream = map(bytes, self._chunks) if kind == "raw" else Decoding(kind).run(self._chunks, lambda: PIECE)
        self._known = bytearray()
        self._too_far = False

    def at(self, offset: int, length: int) -> bytes:
        """The bytes at an offset: fewer where the image ends, or where too much would have to be read for them.

        :raises ImageFailed: when what is before them is damaged.
        """
        if self.kind == "qcow2":
            return self._of_qcow2(offset, length)
        if self.kind == "raw" and offset >= HEAD and (data := self._part(offset, length)) is not None:
            return data
        self._read_on(min(offset + length, _PLAIN))
        return bytes(self._known[offset : offset + length])

    def beginning(self, length: int) -> bytes | None:
        """The first bytes, fewer where it has fewer; ``None`` where too much would have to be read for them."""
        found = self.at(0, length)
        return None if self._too_far and len(found) < length else found

    def count(self, enough: int) -> int | None:
        """The size of the image, read to its end for it; ``None`` when it has ``enough`` bytes or more."""
        self._chunks.limit = None
        done = len(self._known)
        for piece in self._stream:
            done += len(piece)
            if done >= enough:
                return None
        return done

    def _part(self, offset: int, length: int) -> bytes | None:
        whole = self._source.length
        if whole is None:
            return None
        return self._source.read_at(offset, min(length, whole - offset)) if offset < whole else b""

    def _read_on(self, end: int) -> None:
        try:
            while not self._too_far and len(self._known) < end:
                piece = next(self._stream, None)
                if piece is None:
                    return
                self._known += piece
        except _TooFar:
            self._too_far = True

    def _of_qcow2(self, offset: int, length: int) -> bytes:
        """Each run of the bytes by a request of its own."""
        source, parsed = self._source, qcow2.header(self._head)
        end = min(offset + length, parsed.size)
        if offset >= end:
            return b""
        mapped = qcow2.Map(parsed, source.length, source.read_at, (offset, end))
        data = bytearray(end - offset)
        for run in mapped.runs():
            first, last = (
                max(run.guest, offset),
                min(run.guest + (parsed.cluster if run.compressed else run.length), end),
            )
            if first >= last:
                continue
            if run.compressed:
                plain = mapped.inflated(run, _there(source, run.host, run.length, mapped.length))[first - run.guest :]
            else:
                plain = _there(source, run.host + first - run.guest, last - first, mapped.length)
            data[first - offset : first - offset + len(plain[: last - first])] = plain[: last - first]
        return bytes(data)


def _there(source: Source, offset: int, length: int, whole: int) -> bytes:
    """As many of the bytes as are in the file."""
    return source.read_at(offset, min(length, whole - offset)) or b"" if offset < whole else b""


def decoded(kind: Format, head: bytes, source: Source) -> bytes:
    """The first bytes of what is in a file, decoded where it is compressed or qcow2.

    :param head: what was read of the source already.
    :returns: none where too much would have to be read for them.
    :raises ImageFailed: when the beginning is damaged, or that of no image of any kind.
    """
    plain = Plain(kind, head, source).beginning(HEAD)
    if plain is None:
        return b""
    if kind not in ("raw", "qcow2"):
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
        qcow2.Map(qcow2.header(head), source.length, source.read_at)  # none of its tables may lie
    plain = Plain(kind, head, source)
    beginning = plain.beginning(SEEN)
    if beginning is None:
        return None, size
    if kind not in ("raw", "qcow2"):
        refuse_nested(kind, beginning)
    refuse(beginning)
    found = read(beginning)
    if found.size is not None and _doubtful(kind, size, found.size, source):
        LOG.info("the image may be shorter than its file system: decoding all of it beforehand")
        size = plain.count(found.size)
    return found, size


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
