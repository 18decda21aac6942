# SPDX-License-Identifier: Apache-2.0
"""Sets of devices that bareon does not manage: firmware RAID, btrfs and ZFS over several disks, bcache.

libblkid sees each member by itself. Members of one set have signatures of the same type with the same UUID.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from bareon.model.node import NodeFacts
from bareon.storage.kind import Signature

#: The libblkid types whose UUID is that of the whole set, and what the set is called.
_SETS = {"btrfs": "btrfs", "zfs_member": "the ZFS pool", "bcache": "the bcache set"}
#: Firmware RAID: libblkid names the format, and a UUID for some of them only.
_FIRMWARE = (
    *("adaptec_raid_member", "ddf_raid_member", "hpt37x_raid_member", "hpt45x_raid_member", "isw_raid_member"),
    *("jmicron_raid_member", "lsi_mega_raid_member", "nvidia_raid_member", "promise_fasttrack_raid_member"),
    *("silicon_medley_raid_member", "via_raid_member"),
)


def torn(node: NodeFacts, disks: Collection[str]) -> list[str]:
    """The sets with members both on ``disks`` and on other disks, in words that name the members."""
    inside = [(device, content) for disk, device, content in _signatures(node) if disk in disks]
    outside = [(device, content) for disk, device, content in _signatures(node) if disk not in disks]
    found: dict[str, tuple[list[str], list[str]]] = {}
    for device, content in inside:
        if others := [other for other, theirs in outside if _one_set(content, theirs)]:
            members, _ = found.setdefault(_name(content), ([], others))
            members.append(device)
    return [
        f"{name} lies on {', '.join(members)} and also on {', '.join(others)}, which is not in the schema"
        for name, (members, others) in found.items()
    ]


def _signatures(node: NodeFacts) -> Iterator[tuple[str, str, Signature]]:
    """The disk, the device and the content of each disk and partition that may be a member of a set."""
    for disk in node.disks:
        for device, content in ((disk.device, disk.content), *((x.device, x.content) for x in disk.partitions)):
            if content and (content.type in _SETS or content.type in _FIRMWARE):
                yield disk.device, device, content


def _one_set(one: Signature, other: Signature) -> bool:
    """True if two signatures are of one set. Firmware RAID without a UUID is, if the format is the same."""
    if one.type != other.type:
        return False
    if one.type in _FIRMWARE and not (one.uuid and other.uuid):
        return True
    return one.uuid is not None and one.uuid == other.uuid


def _name(content: Signature) -> str:
    kind = _SETS.get(content.type, f"firmware RAID ({content.type})")
    return f"{kind} {content.uuid}" if content.uuid else kind
