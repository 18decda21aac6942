# SPDX-License-Identifier: Apache-2.0
"""Content-Encoding of a server that was asked for none: undone, so that the file is the one that was published.

RFC 9110, 8.4. Ranges and entity tags are those of the encoded bytes, so that a broken connection is resumed below.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Protocol

from bareon.errors import ImageFailed
from bareon.text import visible
from bareon.transfer.decode import Decoding
from bareon.transfer.format import Format, recognised
from bareon.transfer.ring import PIECE
from bareon.transfer.source import Skippable, drop

LOG = logging.getLogger(__name__)

_UNDONE: dict[str, Format] = {
    "gzip": "gzip",
    "x-gzip": "gzip",
    "zstd": "zstd",
    "xz": "xz",
    "x-xz": "xz",
    "bzip2": "bzip2",
    "x-bzip2": "bzip2",
}
#: What stands there and changes nothing; the last is how a file came to a store, which some keep by mistake.
_NOTHING = ("identity", "", "aws-chunked")
_SHOWN = 100  # characters of a header in a message
_ENDINGS: dict[Format, tuple[str, ...]] = {
    "gzip": (".gz", ".tgz"),
    "zstd": (".zst", ".tzst"),
    "xz": (".xz", ".txz"),
    "bzip2": (".bz2", ".tbz", ".tbz2"),
}


def told(header: str | None, name: str) -> Format | None:
    """The encoding that a server has added to a file, ``None`` where it has added none.

    :param header: the field Content-Encoding.
    :param name: that of the file. Servers also name what is the file's own: a ``.gz`` is published as one.
    :raises ImageFailed: for one that cannot be undone.
    """
    words = [x for x in (word.strip().lower() for word in (header or "").split(",")) if x not in _NOTHING]
    if not words:
        return None
    coding = _UNDONE.get(words[0]) if len(words) == 1 else None
    if coding is None:
        asked = "though it was asked for none: serve the file as it is"
        raise ImageFailed(f"the server encodes it (Content-Encoding: {visible(', '.join(words))[:_SHOWN]}), {asked}")
    return None if name.lower().endswith(_ENDINGS[coding]) else coding


def undone(coding: Format, head: bytes, served: Iterable[memoryview]) -> Iterator[bytes]:
    """The bytes of a file as published, of those that are served, which begin with ``head``.

    :raises ImageFailed: when they are not encoded so.
    """
    if recognised(head) != coding:
        raise ImageFailed(f"the server says Content-Encoding: {coding}, and sends something else")
    LOG.info("the server has added Content-Encoding: %s, which is undone", coding)
    return Decoding(coding).run(served, lambda: PIECE)


class Encoded(Skippable, Protocol):
    """A source that may be encoded: ``coding`` is known once a byte was read."""

    coding: Format | None


class Undone:
    """A :class:`bareon.transfer.source.Source` of the file as published, of a source that may be encoded.

    :param size: bytes of that file, where they are known beforehand; it gives no more.
    """

    def __init__(self, source: Encoded, size: int | None = None) -> None:
        self._source = source
        self._size = size
        self._plain: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._offset = 0

    @property
    def length(self) -> int | None:
        return self._size if self._source.coding else self._source.length

    @property
    def attempts(self) -> int:
        return self._source.attempts

    @property
    def offset(self) -> int:
        return self._offset if self._source.coding else self._source.offset

    def begin(self, offset: int, length: int | None) -> None:
        self._source.begin(offset, length)

    def skip(self, offset: int) -> None:
        if self._source.coding:
            drop(self, offset)
        else:
            self._source.skip(offset)

    def fill(self, buffer: memoryview) -> int:
        if self._plain is None:
            count = self._source.fill(buffer)
            if self._source.coding is None:
                return count
            head = bytes(buffer[:count])
            self._plain = undone(self._source.coding, head, self._served(head))
        filled = 0
        while filled < len(buffer) and (self._rest or self._advance(self._plain)):
            part = self._rest[: len(buffer) - filled]
            buffer[filled : filled + len(part)] = part
            self._rest = self._rest[len(part) :]
            filled += len(part)
            self._offset += len(part)
        if self._size is not None and self._offset > self._size:
            raise ImageFailed(f"has more than the {self._size} bytes that are wanted")
        return filled

    def _advance(self, plain: Iterator[bytes]) -> bool:
        """Take the next bytes; false at the end."""
        self._rest = memoryview(next(plain, b""))
        return bool(self._rest)

    def _served(self, head: bytes) -> Iterator[memoryview]:
        yield memoryview(head)
        buffer = memoryview(bytearray(PIECE))
        while count := self._source.fill(buffer):
            yield buffer[:count]

    def read_at(self, offset: int, length: int) -> bytes | None:
        return None if self._source.coding else self._source.read_at(offset, length)

    def close(self) -> None:
        self._source.close()
