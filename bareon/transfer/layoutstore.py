# SPDX-License-Identifier: Apache-2.0
"""An OCI image layout in one file as a store of documents and layers: in a file that was staged, or at its URL."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from bareon.errors import ImageFailed
from bareon.model.image import Digest
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.sizes import MIB, mib
from bareon.transfer.deadline import Deadline, Stopped
from bareon.transfer.decode import Decoding
from bareon.transfer.failure import NotThere, named
from bareon.transfer.format import HEAD, recognised
from bareon.transfer.image import open_source
from bareon.transfer.manifest import LARGEST, Descriptor, Document, Layer, digest_of, only, parsed
from bareon.transfer.oci import Found, found_in, look
from bareon.transfer.ocilayout import INDEX, MARK, Place, Read, places
from bareon.transfer.ring import PIECE
from bareon.transfer.source import Source

_WINDOW = 64 * 1024  # bytes that are asked for at once, where a header alone would be a request
_DOCUMENTS = 64 * MIB  # of memory, where a file is read once from its beginning to its end


class Layout:
    """A layout, a :class:`bareon.transfer.oci.Store`.

    :param read: gives the bytes of the decoded file.
    :param kept: the content of members that ``read`` gives no more.
    """

    def __init__(self, read: Read, found: Mapping[str, Place], kept: Mapping[str, bytes] | None = None) -> None:
        self._read = read
        self._places = found
        self._kept = kept or {}

    def document(self, digest: Digest | None = None, tag: str | None = None) -> Document:
        if tag is not None:
            raise NotThere("has no signatures under tags")
        kind = ""
        if digest is None:
            version = parsed(self._text(MARK)).get("imageLayoutVersion")
            if not isinstance(version, str) or not version.startswith("1."):
                raise ImageFailed(f"is a layout of a version that is not known ({str(version)[:20]!r})")
            entry = only(parsed(self._text(INDEX)))
            digest, kind = entry.digest, entry.type
        text = self._text(_name(digest))
        if digest_of(text, digest) != digest:
            raise ImageFailed(f"has a document that is not what its name says ({_name(digest)})")
        return Document(text, kind, digest)

    def blob(self, wanted: Descriptor, deadline: Deadline | None = None) -> Window:
        name = _name(wanted.digest)
        place = self._place(name)
        if place.size != wanted.size:
            raise ImageFailed(f"has {place.size} bytes as {name}, {wanted.size} are wanted")
        return Window(lambda offset, length: self._at(name, offset, length), place.size)

    def opened(self, layer: Layer, deadline: Deadline) -> Source:
        """The source of a layer."""
        return self.blob(layer.blob, deadline)

    def _place(self, name: str) -> Place:
        if name not in self._places:
            raise NotThere(f"has no {name}: it is not all of an image")
        return self._places[name]

    def _text(self, name: str) -> bytes:
        size = self._place(name).size
        if size > LARGEST:
            raise ImageFailed(f"has {size} bytes as {name}, a document: at most {LARGEST} are read")
        return self._at(name, 0, size)

    def _at(self, name: str, offset: int, length: int) -> bytes:
        place = self._place(name)
        count = min(length, place.size - offset)
        if name in self._kept:
            return self._kept[name][offset : offset + count]
        data = self._read(place.offset + offset, count) if count else b""
        if len(data) != count:
            raise ImageFailed(f"ends in {name}")
        return data


class Window:
    """A member of a layout, a :class:`bareon.transfer.source.Source`."""

    attempts = 1

    def __init__(self, read: Read, size: int) -> None:
        self.length: int | None = size
        self.offset = 0
        self._read = read
        self._closed = False

    def begin(self, offset: int, length: int | None) -> None:
        self.offset = offset

    def fill(self, buffer: memoryview) -> int:
        if self._closed:
            raise Stopped
        data = self._read(self.offset, len(buffer))
        buffer[: len(data)] = data
        self.offset += len(data)
        return len(data)

    def read_at(self, offset: int, length: int) -> bytes | None:
        return self._read(offset, length)

    def close(self) -> None:
        self._closed = True


def within(location: Location, descriptor: int) -> Layout:
    """The layout in a file that was staged; ``location`` is where it came from, for errors."""

    def read(offset: int, length: int) -> bytes:
        return os.pread(descriptor, length, offset)

    with named(location):
        return Layout(read, places(read))


def find(location: Location, settings: TransferSettings, limit: int) -> Found:
    """The image of a layout at its URL, before any of it is brought; all its layers are there.

    A plain file whose server gives parts is read where that is needed; the layers' beginnings are looked at, too. Any
    other is read through.

    :param limit: bytes that it may have once it is decoded.
    :raises ImageFailed: when it cannot be reached, or has no image that can be brought.
    """
    deadline = Deadline(settings.total_timeout)
    with named(location):
        source = open_source(location, settings, deadline)
    with contextlib.closing(source):
        with named(location):
            layout, in_parts = _layout(source, limit)
            found = found_in(layout)
            for layer in found.layers:
                layout.blob(layer.blob)
        if in_parts:
            look(location, found, lambda whole: layout.opened, settings)
    return found


def _layout(source: Source, limit: int) -> tuple[Layout, bool]:
    """The layout that comes from a source, and whether all of it can be read."""
    buffer = memoryview(bytearray(HEAD))
    head = bytes(buffer[: source.fill(buffer)])
    kind = recognised(head)
    if kind == "qcow2":
        raise ImageFailed("is a qcow2 image")
    if kind == "raw" and source.length and source.read_at(0, len(head)) == head:
        read = _in_parts(source, source.length)
        return Layout(read, places(read)), True
    chunks = _chunks(head, source)
    passing = _Passing(map(bytes, chunks) if kind == "raw" else Decoding(kind).run(chunks, lambda: PIECE), limit)
    kept: dict[str, bytes] = {}

    def keep(name: str, place: Place) -> None:
        if place.size > LARGEST or passing(place.offset, 1) != b"{":
            return
        kept[name] = passing(place.offset, place.size)
        if sum(map(len, kept.values())) > _DOCUMENTS:
            raise ImageFailed(f"has more than {mib(_DOCUMENTS)} of documents")

    return Layout(passing, places(passing, keep), kept), False


def _in_parts(source: Source, whole: int) -> Read:
    """Reads of a source that gives parts; headers and what follows them come by one request."""
    start, window = 0, b""

    def read(offset: int, length: int) -> bytes:
        nonlocal start, window
        end = min(offset + length, whole)
        if offset >= end:
            return b""
        if not start <= offset <= end <= start + len(window):
            part = source.read_at(offset, min(max(length, _WINDOW), whole - offset))
            if part is None:
                raise ImageFailed("the server gives no parts of it any more")
            start, window = offset, part
        return window[offset - start : end - start]

    return read


def _chunks(head: bytes, source: Source) -> Iterator[memoryview]:
    yield memoryview(head)
    buffer = memoryview(bytearray(PIECE))
    while count := source.fill(buffer):
        yield buffer[:count]


class _Passing:
    """Reads of what passes by once, each at or behind the place of the one before."""

    def __init__(self, pieces: Iterator[bytes], limit: int) -> None:
        self._pieces = pieces
        self._limit = limit
        self._begin = 0
        self._there = b""

    def __call__(self, offset: int, length: int) -> bytes:
        if offset < self._begin:
            raise ImageFailed("has a document that cannot be read")
        if offset + length > self._limit:
            raise ImageFailed(f"holds more than the {mib(self._limit)} of all volumes of the image together")
        while offset + length > self._begin + len(self._there):
            if not (piece := next(self._pieces, b"")):
                break
            gone = min(offset - self._begin, len(self._there))
            self._there = self._there[gone:] + piece
            self._begin += gone
        start = offset - self._begin
        return self._there[start : start + length]


def _name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.value}"
