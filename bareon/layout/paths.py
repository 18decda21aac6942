# SPDX-License-Identifier: Apache-2.0
"""Devices that are paths of one disk (multipath), and how a disk is called in messages."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection

from bareon.model.node import NodeFacts
from bareon.sizes import human
from bareon.storage.disk import DiskFacts


def all_paths(node: NodeFacts, disks: Collection[str]) -> set[str]:
    """The disks, and every other path of the LUNs that they are: who writes to one writes to all."""
    alike: dict[str, list[DiskFacts]] = defaultdict(list)
    for disk in node.disks:
        for key in filter(None, (disk.wwn, disk.serial)):
            alike[key].append(disk)
    named = (disk for disk in node.disks if disk.device in disks)
    others = (
        (disk, other) for disk in named for key in (disk.wwn, disk.serial) for other in alike.get(key or "", ())
    )
    return {*disks, *(other.device for disk, other in others if common_identity(disk, other))}


def common_identity(one: DiskFacts, other: DiskFacts) -> str | None:
    """The identity that shows two devices to be paths of one LUN; ``None`` if there is none.

    The WWN decides where both have one. A serial number alone does not: some controllers give theirs to each drive.
    """
    if "loop" in (one.kind, other.kind):
        return None
    if _is_wwn(one.wwn) and _is_wwn(other.wwn):
        return f"wwn {one.wwn}" if one.wwn == other.wwn else None
    if one.serial and (one.serial, one.size) == (other.serial, other.size):
        return f"serial {one.serial} and {human(one.size)}"
    return None


def unmapped(disk: DiskFacts, node: NodeFacts) -> str | None:
    """Why a disk is not used that has other paths beside it which no map puts together; ``None`` where it has none.

    Who uses one of the paths uses the LUN past the others. A serial number does not show that they are paths.
    """
    alike = [x for x in node.disks if x.wwn == disk.wwn and x.kind != "loop"]
    if len(alike) < 2 or disk not in alike or not _is_wwn(disk.wwn):
        return None
    devices = ", ".join([disk.device, *(x.device for x in alike if x is not disk)])
    if maps := [x.device for x in alike if x.multipath]:
        return f"{devices} have one wwn ({disk.wwn}), but {maps[0]}, the map of multipath, does not have all paths"
    return (
        f"{devices} are paths of one disk (multipath, wwn {disk.wwn}) that no map puts"
        " together, and none of them is used; multipathd of multipath-tools makes a map, where it runs and"
        " find_multipaths is yes"
    )


def _is_wwn(wwn: str | None) -> bool:
    """True for a WWN that tells disks apart: some controllers report zeros for each drive."""
    digits = re.sub(r"^(0x|eui\.|naa\.|uuid\.)", "", wwn or "")
    return bool(digits.strip("0-"))


def known_as(disk: DiskFacts) -> str:
    """A disk for a message: its name, size and serial number."""
    serial = f", serial {disk.serial}" if disk.serial else ""
    return f"{disk.device} ({human(disk.size)}{serial})"
