# SPDX-License-Identifier: Apache-2.0
"""Files with holes in archives: which parts of them an archive has, by the maps that GNU tar reads.

GNU tar takes as many bytes as a map has and not as many as a member says; where the two differ, it would read content
as headers. The forms are those of "Storing Sparse Files" in its manual: that of its own format, and 1.0 in pax.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from bareon.errors import ImageFailed
from bareon.sizes import human
from bareon.transfer.tarheader import BLOCK, LARGEST, blocks, number

_DECIMAL = re.compile(rb"[0-9]{1,19}")
_KEYS = {"GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize"}
_SLOT = 24  # bytes: an offset and a length
#: Bytes of a file with its holes: ext4 with the blocks that small volumes have takes no more. tar would say so too,
#: but only when it has begun to unpack.
_LONGEST = 1 << 42


def has_map(records: Mapping[str, str]) -> bool:
    """True if a map in form 1.0 stands in front of a member's content, by its extended header.

    :raises ImageFailed: for other forms, which nobody has written for many years, and for a file that is too long.
    """
    said = {key for key in records if key.startswith("GNU.sparse.")}
    if said and (said - _KEYS or (records.get("GNU.sparse.major"), records.get("GNU.sparse.minor")) != ("1", "0")):
        raise ImageFailed("has a file with holes in a form that is not known: make it anew, with GNU tar --sparse")
    _check_end(_decimal(records.get("GNU.sparse.realsize", "0").encode(errors="surrogateescape")))
    return bool(said)


def _check_end(end: int) -> None:
    if end > _LONGEST:
        raise ImageFailed(f"has a file of {human(end)} with its holes: at most {human(_LONGEST)} can be brought")


Map = tuple[int, list[int]]
"""The bytes of a header with its list of holes, and those of the parts that follow."""


def mapped(data: bytes) -> Map | None:
    """The list of holes that stands in front of content, behind the block of the header.

    :returns: ``None`` where more of the archive is needed.
    """
    first, newline, rest = data[BLOCK:].partition(b"\n")
    if not newline and len(first) < BLOCK:
        return None
    count = 2 * _decimal(first)
    if count > len(rest):
        return None
    *lines, _ = rest.split(b"\n", count)
    if len(lines) < count:
        return None
    numbers = [_decimal(line) for line in lines]
    parts = numbers[1::2]
    _check_end(max(map(sum, zip(numbers[::2], parts, strict=True)), default=0))
    return BLOCK + blocks(len(first) + 1 + sum(map(len, lines)) + count), parts


def _decimal(text: bytes) -> int:
    if not _DECIMAL.fullmatch(text) or int(text) > LARGEST:
        raise ImageFailed("is damaged: a list of holes makes no sense")
    return int(text)


def listed(data: bytes) -> Map | None:
    """The list of holes in a header of GNU's own format, and in the blocks that go on with it; as :func:`mapped`."""
    slots = [data[place : place + _SLOT] for place in range(386, 482, _SLOT)]
    end, more = BLOCK, data[482]
    while more:
        if not all(slot[12] for slot in slots):  # a list that has ended is not read on
            raise ImageFailed("is damaged: a list of holes makes no sense")
        block = data[end : end + BLOCK]
        if len(block) < BLOCK:
            return None
        slots += [block[place : place + _SLOT] for place in range(0, 504, _SLOT)]
        end, more = end + BLOCK, block[504]
    used = itertools.takewhile(lambda slot: slot[12], slots)
    parts, whole = [(number(slot[:12]), number(slot[12:])) for slot in used], number(data[483:495])
    _check_end(whole)
    if any(sum(part) > whole for part in parts):
        raise ImageFailed("is damaged: a list of holes makes no sense")
    return end, [length for _, length in parts]


def check(path: str, size: int, parts: Sequence[int]) -> None:
    """See that the parts of a file take what its member has for them.

    :raises ImageFailed: where they do not.
    """
    if sum(map(blocks, parts)) != blocks(size):
        raise ImageFailed(f"has {path!r}, whose list of holes does not fit its size")
