# SPDX-License-Identifier: Apache-2.0
"""``/etc/fstab``, fstab(5): written anew from the layout; lines of others are kept on a root that is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bareon.storage.filesystem import SWAP, TYPES, Mounted
from bareon.system.bindings import block
from bareon.system.bindings.binding import Binding, Change, shown
from bareon.system.bindings.home import Home, normal

PLACE = "/etc/fstab"
HEADER = "# Written by bareon. Lines for other mount points are kept when the node is deployed again."
_OWN = re.compile(r"(?:# )?(?:UUID=|/dev/mapper/)\S+ \S+ \S+ \S+ 0 [012]")


class Fstab(Binding):
    """The file systems and swap areas of the layout, by UUID; what the system makes at each start by its device."""

    files = (PLACE,)
    of_node = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        others = [] if home.fresh or text is None else _others(text, home)
        warnings = []
        for line in others:
            if not line.startswith("#") and (lacking := home.lacking(line.split()[:1])):
                warnings.append(f"{path}: {shown(line)!r} is kept, and the node lacks {shown(lacking[0])}")
        return Change(block.joined(HEADER, [_line(x) for x in home.volumes], others), (), tuple(warnings))


def differences(text: str | None, volumes: Sequence[Mounted]) -> Iterator[str]:
    """What of a file is no longer as it is written for these volumes. Lines of others are theirs.

    A volume that could not be looked at may have any line for its mount point.

    :param text: the file as it is, ``None`` where there is none.
    """
    wanted = [_line(x) for x in volumes if not x.filesystem.unseen]
    unseen = {_point(_line(x)) for x in volumes if x.filesystem.unseen}
    yield from (f"expected the line {x!r}, found none" for x in wanted if x not in (text or "").split("\n"))
    own = block.within(text or "", HEADER, lambda line: bool(_OWN.fullmatch(line)))
    strange = [x for x in own if x not in wanted and _point(x) not in unseen]
    yield from (f"expected no line {shown(x)!r}, found it" for x in strange)


def _point(line: str) -> str:
    return line.removeprefix("# ").split()[1]


def _line(mounted: Mounted) -> str:
    point = "none" if mounted.point == SWAP else _escape(mounted.point)
    new = mounted.filesystem.mapped_at_start
    check = 0 if new or not TYPES[mounted.type].checked else 1 if point == "/" else 2
    options = _escape(mounted.options)
    line = f"{mounted.source} {point} {mounted.type} {options} 0 {check}"
    return line if mounted.mount.enabled else f"# {line}"


def _others(text: str, home: Home) -> list[str]:
    """The lines that are not bareon's: for other mount points, and of devices that were never of this layout."""
    points = {_escape(mounted.point) for mounted in home.volumes} - {SWAP}
    sources = {mounted.source for mounted in home.volumes}
    gone = home.gone
    ended = block.END in text.split("\n")

    def own(line: str) -> bool:
        # Of earlier versions nobody knows where the block ended: what is there, and not ours, may be somebody else's.
        return bool(_OWN.fullmatch(line)) and (ended or normal(line.split()[line[0] == "#"]) not in home.elsewhere)

    kept = []
    for line in block.outside(text, HEADER, own):
        fields = line.removeprefix("# ").split()
        active = len(fields) >= 4 and not line.startswith("#")
        # A system has swap areas beside those of the layout, and each has this for its mount point.
        swap = active and fields[1] == SWAP and home.swap and normal(fields[0]) not in home.elsewhere
        # Somebody's own mount of a part of a file system that the layout has.
        part = active and "subvol" in fields[3] and fields[1] not in points
        mine = len(fields) >= 4 and (
            (fields[0] in sources and not part)
            or bool(swap)
            or (active and (fields[1] in points or normal(fields[0]) in gone))
        )
        if not mine:
            kept.append(line)
    return kept


def _escape(text: str) -> str:
    for char, code in (("\\", "\\134"), (" ", "\\040"), ("\t", "\\011"), ("\n", "\\012")):
        text = text.replace(char, code)
    return text
