# SPDX-License-Identifier: Apache-2.0
"""Partitions of an image of a whole disk: which one a part means, and which are brought where no parts are given."""

from __future__ import annotations

from collections.abc import Mapping

from bareon.errors import ImageFailed
from bareon.model.image import Part
from bareon.sizes import human
from bareon.storage.filesystem import ESP, LINUX_SWAP
from bareon.storage.kind import LINUX_DATA
from bareon.tools.filesystem import KINDS
from bareon.transfer.partitions import Entry, Table
from bareon.transfer.superblock import Superblock

# The Discoverable Partitions Specification: root by architecture.
_ROOTS = {
    "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709": "root of x86-64",
    "44479540-F297-41B2-9AF7-D131D5F0458A": "root of x86",
    "B921B045-1DF0-41C3-AF44-4C6F280D3FAE": "root of ARM 64",
    "69DAD710-2CE4-4E3C-B16C-21A1D49ABED3": "root of ARM 32",
    "72EC70A6-CF74-40E6-BD49-4BDA08E8F224": "root of RISC-V 64",
    "C31C45E6-3F39-412E-80FB-4809C4980599": "root of POWER 64 LE",
    "5EEAD9A9-FE09-4A1E-A1D7-520D00531306": "root of s390x",
}
_BOOT = "BC13C2FF-59E6-4262-A352-B275FD6F7172"
_DATA = (LINUX_DATA, "0x83")
_NAMES = {
    **_ROOTS,
    _BOOT: "boot",
    LINUX_DATA: "data",
    LINUX_SWAP: "swap",
    ESP: "EFI system partition",
    "21686148-6449-6E6F-744E-656564454649": "BIOS boot",
    "9E1A2D38-C612-4316-AA26-8B49521E5A8B": "PReP",
    "E6D6D379-F507-44C2-A23C-238F2A3DF928": "LVM",
    "A19D880F-05FC-4D3B-A006-743F0F84911E": "RAID",
    "CA7D7CCB-63ED-4C53-861C-1742536059CC": "LUKS",
    "933AC7E1-2EB4-4F13-B844-0E14E2AEF915": "/home",
    "3B8F8425-20E0-4F3B-907F-1A25A76F98E8": "/srv",
    "4D21B016-B534-45C2-A9FB-5C16E091FD2D": "/var",
    "8484680C-9521-48C6-9C11-B0720656F69E": "/usr of x86-64",
    "0x82": "swap",
    "0x83": "data",
    "0x8e": "LVM",
    "0xef": "EFI system partition",
    "0xfd": "RAID",
}
#: Where the specification says that a partition of such a type belongs. /var has to prove that it is the system's.
_POINTS = {
    _BOOT: "/boot",
    "933AC7E1-2EB4-4F13-B844-0E14E2AEF915": "/home",
    "3B8F8425-20E0-4F3B-907F-1A25A76F98E8": "/srv",
}
_ESPS = (ESP, "0xef")
#: What no fstab mounts for its files.
_NOT_MOUNTED = (
    *(LINUX_SWAP, "0x82", "21686148-6449-6E6F-744E-656564454649", "9E1A2D38-C612-4316-AA26-8B49521E5A8B"),
    *("E6D6D379-F507-44C2-A23C-238F2A3DF928", "A19D880F-05FC-4D3B-A006-743F0F84911E"),
)

Contents = Mapping[int, Superblock]


def chosen(part: Part, table: Table, contents: Contents) -> Entry:
    """The partition that a part means.

    :raises ImageFailed: when there is none, or are several; it lists all of the table.
    """
    wanted = part.partition
    if not isinstance(wanted, str):
        found = [x for x in table.partitions if x.number == wanted]
    elif wanted == "root":
        found = roots(table)
    elif wanted == "boot":
        found = [x for x in table.partitions if x.type == _BOOT] or [x for x in table.partitions if x.name == wanted]
    else:
        found = [x for x in table.partitions if wanted.upper() == x.guid.upper() or wanted == x.name]
    if len(found) == 1:
        return found[0]
    count = "no partition is" if not found else f"{len(found)} partitions are"
    raise ImageFailed(f"{part.path}.partition: {count} {wanted!r}; there are: {listed(table, contents)}")


def roots(table: Table) -> list[Entry]:
    """Those with the type of a root; where none has it, those with the common type for data."""
    return [x for x in table.partitions if x.type in _ROOTS] or [x for x in table.partitions if x.type in _DATA]


def found_by_type(table: Table, contents: Contents) -> tuple[Entry, tuple[Entry, ...]]:
    """The root of an image for which no parts are given, and all others that its fstab may mount.

    :raises ImageFailed: when it does not show which is the root.
    """
    candidates = roots(table)
    if len(candidates) != 1:
        which = "none of its partitions has" if not candidates else f"{len(candidates)} of its partitions may have"
        raise ImageFailed(f"{which} its root: say which by parts; there are: {listed(table, contents)}")
    (root,) = candidates

    def may_be(entry: Entry) -> bool:
        found = contents.get(entry.number)
        return entry != root and entry.type not in _NOT_MOUNTED and (found is None or found.type in KINDS)

    return root, tuple(x for x in table.partitions if may_be(x))


def placed_by_type(table: Table, contents: Contents) -> list[tuple[Entry, str]] | None:
    """The partitions of a system and their mount points, its root first, without its ESP.

    ``None`` where the types alone do not tell.
    """
    if len(roots(table)) != 1:
        return None
    root, others = found_by_type(table, contents)
    placed = [(x, _POINTS.get(x.type)) for x in others if x.type not in _ESPS]
    points = [point for _, point in placed]
    if None in points or len(set(points)) < len(points):
        return None
    return [(root, "/"), *((entry, point) for entry, point in placed if point)]


def listed(table: Table, contents: Contents) -> str:
    """All partitions in words: number, type, name, size, content."""
    return "; ".join(described(x, contents) for x in table.partitions) or "none"


def described(entry: Entry, contents: Contents) -> str:
    """A partition in words."""
    content = contents.get(entry.number)
    words = [_NAMES.get(entry.type, entry.type), repr(entry.name) if entry.name else "", human(entry.size)]
    words += [content.type or "" if content else ""]
    return f"{entry.number} ({', '.join(x for x in words if x)})"
