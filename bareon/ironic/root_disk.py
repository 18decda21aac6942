# SPDX-License-Identifier: Apache-2.0
"""The root disk of a node by Ironic's rules: its hints, or the smallest disk that is large enough.

The hints are compared by Ironic's own code, with what the ramdisk says of its disks. Where several disks match, none
is taken: Ironic's agent would take any.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from bareon.errors import Defect, InvalidInput, UnsuitableNode
from bareon.facts import from_json
from bareon.sizes import GIB
from bareon.storage.disk import DiskFacts

SMALLEST = 4 * GIB
"""Bytes of the smallest disk that is taken without hints, as Ironic's agent does it."""

KNOWN = ("size", "model", "serial", "wwn", "hctl", "name", "by_path")
"""The hints that bareon's facts can answer."""

_ANY = dict.fromkeys(KNOWN, "1") | {"size": 4 * GIB}
"""A disk to try hints on."""

Hints = Mapping[str, Any]


def check(hints: Hints) -> None:
    """See that hints can be understood.

    :raises InvalidInput: when not.
    """
    if not isinstance(hints, Mapping):
        raise InvalidInput([Defect("root_device", "is no object with hints")])
    if unknown := sorted(set(hints) - set(KNOWN)):
        known = ", ".join(KNOWN)
        message = f"bareon's facts do not tell this of a disk, but {known}"
        raise InvalidInput([Defect(f"root_device.{hint}", message) for hint in unknown])
    _matching([_ANY], hints)


def found(facts: object, hints: Hints | None) -> str:
    """The device of the root disk, such as ``/dev/sda``.

    :param facts: what ``--dump_node_facts`` printed, as JSON.
    :raises UnsuitableNode: when no disk fits, or several do.
    """
    try:
        disks = [disk for disk in from_json(facts).disks if _usable(disk)]
    except ValueError as error:
        raise UnsuitableNode(f"what the ramdisk says of its disks cannot be read: {str(error)[:300]}") from None
    if not hints:
        return _smallest(disks)
    matching = _matching([device(x) for x in disks], hints)
    if len(matching) != 1:
        count = "no disk matches" if not matching else f"{len(matching)} disks match"
        there = ", ".join(sorted(x["name"] for x in matching) or _listed(disks)) or "none"
        what = "those are" if matching else "this node has"
        raise UnsuitableNode(f"root_device: {count} {dict(hints)}; {what}: {there}")
    return str(matching[0]["name"])


def _matching(devices: Sequence[dict[str, Any]], hints: Hints) -> list[dict[str, Any]]:
    """Those that Ironic finds by hints.

    :raises InvalidInput: when the hints cannot be understood; some are only when they are compared.
    """
    from ironic.common import utils

    try:
        # The function changes the hints that it is given.
        return list(utils.find_devices_by_hints(devices, copy.deepcopy(dict(hints))))
    except Exception as error:  # noqa: BLE001  # those of the parser of operators are no ValueError
        raise InvalidInput([Defect("root_device", f"cannot be understood: {error}")]) from None


def device(disk: DiskFacts) -> dict[str, Any]:
    """A disk in the form in which Ironic compares hints."""
    by_path = next((link for link in disk.names if link.startswith("/dev/disk/by-path/")), None)
    return {
        "name": disk.device,
        "size": disk.size,
        "model": disk.model,
        "serial": disk.serial,
        "wwn": disk.wwn,
        "hctl": disk.scsi,
        "by_path": by_path,
    }


def _usable(disk: DiskFacts) -> bool:
    return disk.kind == "disk" and not disk.removable and disk.unwritable is None and disk.size < 1 << 63


def _smallest(disks: Sequence[DiskFacts]) -> str:
    large = [disk for disk in disks if disk.size >= SMALLEST]
    if not large:
        there = ", ".join(_listed(disks)) or "none"
        raise UnsuitableNode(f"no disk of 4 GiB or more for the root; this node has: {there}")
    return min(large, key=lambda disk: (disk.size, disk.device)).device


def _listed(disks: Sequence[DiskFacts]) -> list[str]:
    return sorted(f"{disk.device} ({disk.size // GIB} GiB)" for disk in disks)
