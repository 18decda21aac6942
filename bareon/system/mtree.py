# SPDX-License-Identifier: Apache-2.0
"""A manifest of a deployed system in the form of mtree(5), a line for each thing as ``mtree -C`` writes it.

Names are bytes: what is no plain character is written in octal, as by vis(3). Extended attributes have a keyword of
their own, ``xattr.NAME`` with the value in base64. Comments of bareon's say whose manifest it is, what was left out,
which volume comes next, and in the last line what a whole one has: without that line, or with another digest, it is
cut off or was changed.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

_FIRST = b"#mtree v2.0\n"
_HEAD, _EXCLUDE, _VOLUME, _END = (f"# bareon {x}: ".encode() for x in ("system", "exclude", "volume", "end"))
_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b"\\#*?[=")
#: Bytes of a line: a name of 4 KiB in octal, and the attributes that a file system holds.
_LONGEST = 1 << 20
#: Bytes of all lines, of far more files than any system has.
_LARGEST = 1 << 34


class BadManifestError(Exception):
    """A manifest is not what was written: its words say what is wrong."""


@dataclass(frozen=True)
class Thing:
    """A file, folder, link or special file. ``path`` is absolute in the system, undecodable bytes as surrogates.

    ``facts`` are mtree's keywords with their values: ``type``, ``mode``, ``uid``, ``gid``, ``size``,
    ``sha256digest``, ``link``, ``device`` and ``xattr.NAME``; those that apply.
    """

    path: str
    facts: dict[str, str]


@dataclass(frozen=True)
class Head:
    """Whose manifest it is: the image, and the UUID of its root file system; ``exclude`` are globs."""

    image: str
    root: str
    exclude: tuple[str, ...] = ()


def vis(text: str) -> str:
    """A name or value without blanks, line breaks and bytes that are no ASCII."""
    return "".join(chr(x) if x in _PLAIN else f"\\{x:03o}" for x in os.fsencode(text))


def unvis(text: str) -> str:
    """What :func:`vis` was given."""
    return os.fsdecode(re.sub(rb"\\([0-3][0-7]{2})", lambda x: bytes([int(x[1], 8)]), text.encode("latin-1")))


def encoded(value: bytes) -> str:
    """The value of an extended attribute."""
    return base64.b64encode(value).decode()


@dataclass
class Writer:
    """Writes a manifest. The same system gives the same bytes: gzip gets no time."""

    file: IO[bytes]
    head: Head
    count: int = 0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        self._gzip = gzip.GzipFile("", "wb", 6, self.file, mtime=0)
        self._put(_FIRST)
        self._put(_HEAD + f"{vis(self.head.image)} {vis(self.head.root)}\n".encode())
        for glob in self.head.exclude:
            self._put(_EXCLUDE + f"{vis(glob)}\n".encode())

    def volume(self, point: str) -> None:
        """Begin with what lies on the volume of a mount point."""
        self._put(_VOLUME + f"{vis(point)}\n".encode())

    def put(self, thing: Thing) -> None:
        """Write the line of one thing; those of a volume come in the order of their paths, folder by folder."""
        facts = " ".join(f"{name}={value}" for name, value in thing.facts.items())
        self._put(f".{'/'.join(map(vis, thing.path.split('/')))} {facts}\n".encode())
        self.count += 1

    def end(self) -> str:
        """Write the last line; the SHA-256 of all others, in hexadecimal."""
        digest = self._digest.hexdigest()
        self._gzip.write(_END + f"{self.count} {digest}\n".encode())
        self._gzip.close()
        return digest

    def _put(self, line: bytes) -> None:
        self._digest.update(line)
        self._gzip.write(line)


def check(file: IO[bytes]) -> tuple[Head, str]:
    """See that a manifest is whole: its head, and the SHA-256 of its lines.

    :raises BadManifestError: when it is not.
    """
    digest, count, head, exclude = hashlib.sha256(), 0, None, []
    volumes, lines = set[str](), _lines(file)
    for number, line in enumerate(lines):
        if number == 0 and line != _FIRST:
            raise BadManifestError("is no manifest of bareon")
        if line.startswith(_END):
            if line != _END + f"{count} {digest.hexdigest()}\n".encode():
                raise BadManifestError("was changed: its digest is not that of its lines")
            if head is None:
                raise BadManifestError("does not say whose it is")
            if next(lines, None) is not None:
                raise BadManifestError("was changed: it goes on behind its last line")
            return Head(*head, exclude=tuple(exclude)), digest.hexdigest()
        if line.startswith(_HEAD):
            image, _, root = _text(line.removeprefix(_HEAD)).partition(" ")
            head = unvis(image), unvis(root)
        elif line.startswith(_EXCLUDE):
            exclude.append(unvis(_text(line.removeprefix(_EXCLUDE))))
        elif line.startswith(_VOLUME):
            # All that lies on a volume is read for each of these lines.
            point = unvis(_text(line.removeprefix(_VOLUME)))
            if point in volumes:
                raise BadManifestError("has a volume twice")
            volumes.add(point)
        count += line.startswith(b".")
        digest.update(line)
    raise BadManifestError("is cut off: its last line is missing")


def things(file: IO[bytes], point: str) -> Iterator[Thing]:
    """What a whole manifest has of the volume of a mount point.

    :raises BadManifestError: for a line that is none of mtree(5).
    """
    here = False
    for line in _lines(file):
        if line.startswith(_VOLUME):
            here = unvis(_text(line.removeprefix(_VOLUME))) == point
        elif here and line.startswith(b"."):
            path, *words = _text(line[1:]).split(" ")
            facts = dict(word.split("=", 1) for word in words if "=" in word)
            if "type" not in facts or not path.startswith("/"):
                raise BadManifestError("has a line that tells of nothing")
            yield Thing(unvis(path), facts)


def points(file: IO[bytes]) -> list[str]:
    """The mount points of the volumes of a whole manifest."""
    return [unvis(_text(x.removeprefix(_VOLUME))) for x in _lines(file) if x.startswith(_VOLUME)]


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    size = 0
    try:
        with gzip.GzipFile("", "rb", fileobj=file) as unpacked:
            while line := unpacked.readline(_LONGEST + 1):
                size += len(line)
                if len(line) > _LONGEST or size > _LARGEST:
                    raise BadManifestError("has more than any system")
                yield line
    except EOFError:
        raise BadManifestError("is cut off: its last line is missing") from None
    except (OSError, zlib.error) as error:
        raise BadManifestError(f"cannot be read: {error}") from None


def _text(line: bytes) -> str:
    return line.rstrip(b"\n").decode("latin-1")
