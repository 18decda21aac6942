# SPDX-License-Identifier: Apache-2.0
"""What lies on a set of disks and must go with them, top first; and what forbids it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bareon.errors import UnsuitableNode
from bareon.facts.node import ArrayFacts, DiskFacts, NodeFacts, VolumeGroupFacts


@dataclass(frozen=True)
class Teardown:
    """Volume groups to deactivate, then arrays to stop; only what is running, the rest needs no stopping."""

    volume_groups: tuple[VolumeGroupFacts, ...]
    arrays: tuple[ArrayFacts, ...]


def busy(node: NodeFacts, disks: Collection[str]) -> list[str]:
    """Who uses the disks now, in words; empty when they are free."""
    return [f"in use: {use}" for disk in node.disks if disk.device in disks for use in disk.in_use()]


def teardown(node: NodeFacts, disks: Collection[str]) -> Teardown:
    """What runs on ``disks``.

    :raises UnsuitableNode: when an array or group lies partly on other disks, naming both sides.
    """
    below = disks_below(node)
    stacked = [(f"array {array.name}", array.members) for array in node.arrays]
    stacked += [(f"volume group {group.name}", group.members) for group in node.volume_groups]
    reasons = []
    for name, members in stacked:
        inside = sorted(member for member in members if below[member] & set(disks))
        outside = sorted(member for member in members if below[member] - set(disks))
        if inside and outside:
            reasons.append(
                f"{name} lies on {', '.join(inside)} and also on {', '.join(outside)}, which is not in the schema"
            )
    if reasons:
        raise UnsuitableNode(*reasons)
    on_disks = [x for x in node.volume_groups if any(below[member] & set(disks) for member in x.members)]
    return Teardown(
        tuple(group for group in on_disks if any(volume.active for volume in group.volumes)),
        tuple(x for x in node.arrays if x.device and any(below[member] & set(disks) for member in x.members)),
    )


def stands_on(members: Collection[str], disks: Collection[str], node: NodeFacts) -> bool:
    """Whether any of the members of an array or group lies on one of the disks."""
    below = disks_below(node)
    return any(below[member] & set(disks) for member in members)


def disks_below(node: NodeFacts) -> dict[str, set[str]]:
    """The disks that each disk, partition, array and logical volume lies on; unknown devices lie on themselves."""
    found: dict[str, set[str]] = _Itself()
    for disk in node.disks:
        found[disk.device] = {disk.device}
        for part in disk.partitions:
            found[part.device] = {disk.device}
    for array in node.arrays:
        found[array.alias] = {disk for member in array.members for disk in found[member]}
    for group in node.volume_groups:
        disks = {disk for member in group.members for disk in found[member]}
        for volume in group.volumes:  # two groups may have one name: then either may be meant
            found[volume.device] = disks | found.get(volume.device, set())
    return found


def lost_disks(node: NodeFacts, devices: Iterable[str]) -> list[DiskFacts]:
    """The disks that lose data when ``devices`` lose theirs."""
    below = disks_below(node)
    names = {disk for device in devices for disk in below[device]}
    return [disk for disk in node.disks if disk.device in names]


def forbidden(node: NodeFacts, devices: Iterable[str], allowed: Collection[str]) -> list[str]:
    """The disks that lose data though no name, serial or wwn in ``allowed`` means them, in words."""
    return [
        f"{disk.device} (serial {disk.serial or 'unknown'}, wwn {disk.wwn or 'unknown'}) would lose data"
        for disk in lost_disks(node, devices)
        if not _names(disk) & set(allowed)
    ]


def meant(node: NodeFacts, value: str) -> tuple[str, ...]:
    """The disks whose name, serial or wwn is ``value``: one that guards data must mean one disk."""
    return tuple(disk.device for disk in node.disks if value in _names(disk))


def _names(disk: DiskFacts) -> set[str]:
    return {disk.device, disk.device.removeprefix("/dev/"), disk.serial or "", disk.wwn or ""} - {""}


class _Itself(dict[str, set[str]]):
    def __missing__(self, device: str) -> set[str]:
        return {device}
