# SPDX-License-Identifier: Apache-2.0
"""Members of a tar archive as it passes by: each is looked at before a byte of it goes on, and may be left out.

The headers are those of POSIX ustar and pax, and of GNU tar. What GNU tar, which unpacks, might read in another way
than this module and ``tarheader`` do is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from bareon.errors import ImageFailed
from bareon.transfer import tarsparse
from bareon.transfer.tarheader import BLOCK, GNU, LARGEST, POSIX, Header, blocks, parsed, text

_ZEROS = bytes(BLOCK)
_MOST_AHEAD = 1 << 20  # bytes of headers of one member: names, attributes
_LONGEST = 4095  # bytes of a path; PATH_MAX of Linux, less its end
_PLAIN = (b"0", b"\0", b"7")
_FILES = (*_PLAIN, b"S")
_AHEAD = (b"x", b"g", b"L", b"K")
#: iconv of the C library drops these where the locale is C, and so does GNU tar; the others end a name there.
_NOT_READ_ALIKE = re.compile("[\0\U000e0000-\U000e007f]")
#: The start of a record of an extended header: its length, and its key.
_RECORD = re.compile(rb"([0-9]{1,15}) ([^ \t\0=][^\0=]*)=")
_KINDS: dict[bytes, Literal["f", "d", "L", "D", "S", "h"]] = {
    **dict.fromkeys(_FILES, "f"),
    b"5": "d",
    b"2": "L",
    b"1": "h",
    b"3": "D",
    b"4": "D",
    b"6": "S",
}
#: Beginnings of the keys of records that are read here; those of times and attributes, which most are, are not.
_READ = (b"path", b"linkpath", b"size", b"uid", b"gid", b"GNU.sparse.")
#: Records of a header for all that follow which would change what the others are.
_NOT_FOR_ALL = ("path", "linkpath", "size", "GNU.sparse.")


class Member(NamedTuple):
    """A member of an archive.

    ``path`` and ``link`` are as they stand there; ``link`` is what a symbolic link says, or another path of a
    hard-linked file. ``kind`` is a letter: ``f`` file, ``d`` folder, ``L`` symbolic link, ``h`` hard link, ``D``
    device, ``S`` fifo. ``size`` is the bytes of a file, without its holes. ``owner`` are the numbers of user and
    group, as in ``0:0``.
    """

    path: str
    kind: Literal["f", "d", "L", "h", "D", "S"]
    size: int
    owner: str
    link: str


class Walk:
    """A walk along an archive. ``judge`` is told of each member, and says whether it goes on.

    ``members`` is how many there were; ``ended`` whether the end of the archive was seen.
    """

    def __init__(self, judge: Callable[[Member], bool]) -> None:
        self._judge = judge
        self._rest = b""
        self._held: list[bytes] = []  # what goes on in front of the next member, if that does
        self._for_all: list[bytes] = []  # the headers of all that follow, since the last member that went on
        self._weight = 0  # bytes of headers in front of the next member
        self._left = 0  # bytes of content and padding
        self._passing = True
        self._said: dict[str, str] = {}
        self._kinds: set[bytes] = set()  # of the headers in front of a member that is not known yet
        self.members = 0
        self.ended = False

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """The part of the archive that goes on.

        :param data: the next bytes of the archive, cut anywhere.
        :raises ImageFailed: for what is no archive, or one that is damaged or lies; and what ``judge`` raises.
        """
        data, self._rest = memoryview(self._rest + data if self._rest else data), b""
        # Members that go on one after the other go on as one, with their headers; those of the next begin at mark.
        begin = mark = place = 0
        while place < len(data):
            if self._left:
                count = min(self._left, len(data) - place)
                place, self._left = place + count, self._left - count
            else:
                found = self._header(data, place)
                if found is None:
                    break
                place = found
                if self._kinds:
                    continue
                if begin < mark and not self._passing:
                    yield data[begin:mark]
                if self._weight:
                    yield from self._decided()
            begin, mark = begin if self._passing else place, place
        if begin < mark:
            yield data[begin:mark]
        if mark < place:
            self._held.append(bytes(data[mark:place]))
        self._rest = bytes(data[place:])

    def _decided(self) -> list[bytes]:
        """What was held back and goes on, now that the next member is known."""
        going = self._held if self._passing else []
        if self._passing:
            self._for_all.clear()
        self._held = [*self._for_all]
        self._weight = sum(map(len, self._held))
        return going

    def skip(self) -> int:
        """Take the content of the last member, which does not go on, as fed: its other bytes, with padding."""
        count, self._left = self._left, 0
        return count

    def finish(self) -> bytes:
        """The end of the archive as it goes on.

        :raises ImageFailed: when the archive was cut off.
        """
        if self._left or self._rest.strip(b"\0") or not self.ended:
            raise ImageFailed("is cut off: the archive does not end")
        return _ZEROS * 2

    def _header(self, data: memoryview, place: int) -> int | None:
        """Take the header, with all that belongs to it, at this place.

        :returns: the place behind it; ``None`` where more bytes are needed.
        """
        block = bytes(data[place : place + BLOCK])
        if self.ended or block == _ZEROS:
            return self._end(data, place)
        if len(block) < BLOCK:
            return None
        header = parsed(block)
        if header.kind not in _AHEAD:
            return self._whole(header, data, place)
        end = place + BLOCK + blocks(header.size)
        if header.size > _MOST_AHEAD:
            raise ImageFailed(f"has a header of {header.size} bytes: at most {_MOST_AHEAD} are read")
        if end > len(data):
            return None
        self._weigh(end - place)
        self._ahead(header.kind, bytes(data[place + BLOCK : place + BLOCK + header.size]))
        if header.kind == b"g":
            self._for_all.append(bytes(data[place:end]))
        return end

    def _whole(self, header: Header, data: bytes | memoryview, place: int) -> int | None:
        """Take a member, with the list of its holes where it has one; as ``_header``."""
        behind = tarsparse.has_map(self._said)
        end, size = place + BLOCK, _size(header, self._said)
        if behind or header.kind == b"S":
            _check_form(header, behind)
            most = min(blocks(size), _MOST_AHEAD) if behind else _MOST_AHEAD
            found = (tarsparse.mapped if behind else tarsparse.listed)(bytes(data[place : end + most]))
            if found is None:
                if len(data) < end + most:
                    return None
                raise ImageFailed(f"has {header.name!r}, whose list of holes has no end")
            end, parts = place + found[0], found[1]
            if end > len(data):
                return None
            size -= end - place - BLOCK if behind else 0
            tarsparse.check(header.name, size, parts)
        self._member(header)
        self._left = min(self._left, blocks(size))
        return end

    def _end(self, data: memoryview, place: int) -> int:
        if self._kinds:
            raise ImageFailed("is damaged: a header has no member")
        if bytes(data[place:]).strip(b"\0"):
            raise ImageFailed("has something behind the end of the archive")
        self.ended, self._passing = True, False
        return len(data)

    def _ahead(self, kind: bytes, content: bytes) -> None:
        """Take what stands in a header of its own in front of a member."""
        if kind in self._kinds or {kind, *self._kinds} >= {b"x", b"L"} or {kind, *self._kinds} >= {b"x", b"K"}:
            raise ImageFailed("has two headers that may name one member")
        self._kinds.add(kind)
        if kind in (b"L", b"K"):
            self._said["path" if kind == b"L" else "linkpath"] = text(content.split(b"\0")[0])
            return
        records = dict(_records(content))
        if kind == b"x":
            self._said |= records
        elif wrong := next((key for key in records if key.startswith(_NOT_FOR_ALL)), None):
            raise ImageFailed(f"has a header that sets {wrong} of all members")

    def _weigh(self, count: int) -> None:
        self._weight += count
        if self._weight > 2 * _MOST_AHEAD:
            raise ImageFailed("has headers without end")

    def _member(self, header: Header) -> None:
        said, self._said = self._said, {}
        self._kinds.clear()
        if header.kind == b"V":  # a label
            self._passing, self._left = False, 0
            return
        name = said.get("GNU.sparse.name", said.get("path", header.name))
        link = said.get("linkpath", header.link)
        path = _believed(name.rstrip("/") or name)
        if header.kind not in _KINDS:
            raise ImageFailed(f"{path!r} is of a kind that is not known ({text(header.kind)!r})")
        size = _size(header, said)
        folder = header.kind in _PLAIN and name.endswith("/")  # as before there was a kind for them
        letter = "d" if folder else _KINDS[header.kind]
        if letter != "f" and size and header.kind != b"1":  # of a hard link it is the file's, and nothing follows
            raise ImageFailed(f"{path!r} has {size} bytes of content, and is no file")
        owner = f"{said.get('uid', header.owner[0])}:{said.get('gid', header.owner[1])}"
        member = Member(path, letter, size if letter == "f" else 0, owner, _believed(link))
        self.members += 1
        self._passing = self._judge(member)
        self._left = blocks(member.size)


def begins(head: bytes) -> bool:
    """True if these first bytes, 512 or more, are those of an archive."""
    try:
        parsed(head[:BLOCK])
    except ImageFailed:
        return False
    return True


def _size(header: Header, said: dict[str, str]) -> int:
    if "size" not in said:
        return header.size
    digits = said["size"]
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19 or int(digits) > LARGEST:
        raise ImageFailed(f"has a member of the size {digits[:40]!r}")
    return int(digits)


def _check_form(header: Header, behind: bool) -> None:
    """See that a list of holes stands where GNU tar looks for it, too."""
    if behind != (header.kind in _PLAIN) or not header.magic.startswith(POSIX if behind else GNU):
        raise ImageFailed(f"has {header.name!r}, a file with holes in a form that makes no sense")


def _believed(name: str) -> str:
    """A name that all programs read alike.

    :raises ImageFailed: for any other.
    """
    if len(name) > _LONGEST:
        raise ImageFailed(f"has a name of {len(name)} bytes: no system takes more than {_LONGEST}")
    if _NOT_READ_ALIKE.search(name):
        raise ImageFailed(f"has {name!r}, a name with characters that programs leave out")
    return name


def _records(content: bytes) -> Iterator[tuple[str, str]]:
    """The records of an extended header, as far as they are read here; pax of POSIX.1-2017."""
    place = 0
    while place < len(content):
        start = _RECORD.match(content, place)
        end = place + int(start[1]) if start else 0
        if not start or not start.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise ImageFailed("is damaged: an extended header makes no sense")
        if start[2].startswith(_READ):
            yield text(start[2]), text(content[start.end() : end - 1])
        place = end
