# SPDX-License-Identifier: Apache-2.0
"""Sets of devices that bareon does not manage: firmware RAID, btrfs and ZFS over several disks, bcache.

libblkid sees each member by itself. Members of one set have signatures of the same type with the same UUID. So have
those of an md array, which is one of these sets where its superblocks could not be read, and copies of a physical
volume of LVM, which shows one of them alone, and another one as soon as that is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from bareon.layout.paths import all_paths
from bareon.layout.stack import disks_below
from bareon.model.node import NodeFacts
from bareon.storage.kind import Signature

#: The libblkid types whose UUID is that of the whole set, and what the set is called.
_SETS = {
    "btrfs": "btrfs",
    "zfs_member": "the ZFS pool",
    "bcache": "the bcache set",
    "linux_raid_member": "the md array",
    "LVM2_member": "the physical volume",
}
_COPIES = ("LVM2_member",)
"""Of these, the types of which one is enough, so that several are copies of each other."""
#: Firmware RAID: libblkid names the format, and a UUID for some of them only.
_FIRMWARE = (
    *("adaptec_raid_member", "ddf_raid_member", "hpt37x_raid_member", "hpt45x_raid_member", "isw_raid_member"),
    *("jmicron_raid_member", "lsi_mega_raid_member", "nvidia_raid_member", "promise_fasttrack_raid_member"),
    *("silicon_medley_raid_member", "via_raid_member"),
)


def torn(node: NodeFacts, devices: Collection[str]) -> list[str]:
    """The sets with members both among what is lost with ``devices`` and elsewhere, in words that name the members.

    With a disk goes all that lies on it. A member that is a whole disk also loses what is written to a part of it.
    """
    below = disks_below(node)
    gone = set(devices)
    disks = {disk for device in gone for disk in below[device]}
    lost = {device for device, _ in node.contents() if below[device] & gone} | disks | gone
    same = all_paths(node, disks) - disks  # they show the same members again
    members = list(_members(node))
    staying = [(device, content) for device, content in members if device not in lost and not below[device] <= same]
    found: dict[str, tuple[list[str], list[str]]] = {}
    for device, content in members:
        if device not in lost:
            continue
        if others := [other for other, theirs in staying if _one_set(content, theirs)]:
            found.setdefault(_name(content), ([], others))[0].append(device)
    return [
        f"{name} lies on {', '.join(going)}, which would lose data, and also on {', '.join(others)}{_hint(name)}"
        for name, (going, others) in found.items()
    ]


def _members(node: NodeFacts) -> Iterator[tuple[str, Signature]]:
    """The devices that may be members of sets, with their contents, but for those of arrays that are known."""
    known = {member for structure in node.structures for member in structure.stands_on}
    offered = {device for structure in node.structures for device, _ in structure.offers}
    for device, content in node.contents():
        if content is None or (device in known and content.type not in _COPIES):
            continue
        if content.type in _SETS or (content.type in _FIRMWARE and device not in offered):  # firmware knows but disks
            yield device, content


def _one_set(one: Signature, other: Signature) -> bool:
    """True if two signatures are of one set. Firmware RAID without a UUID is, if the format is the same."""
    if one.type != other.type:
        return False
    if one.type in _FIRMWARE and not (one.uuid and other.uuid):
        return True
    return one.uuid is not None and one.uuid == other.uuid


def _hint(name: str) -> str:
    return "; they are copies, which LVM cannot tell apart" if name.startswith(_SETS["LVM2_member"]) else ""


def _name(content: Signature) -> str:
    kind = _SETS.get(content.type, f"firmware RAID ({content.type})")
    return f"{kind} {content.uuid}" if content.uuid else kind
