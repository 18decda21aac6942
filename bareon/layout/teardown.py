# SPDX-License-Identifier: Apache-2.0
"""What lies on a set of disks and must go with them, top first; and what forbids it."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from graphlib import CycleError, TopologicalSorter

from bareon.errors import UnsuitableNode
from bareon.facts.node import ArrayFacts, DiskFacts, NodeFacts, VolumeGroupFacts


def busy(node: NodeFacts, disks: Collection[str]) -> list[str]:
    """Who uses the disks now, in words; empty when they are free."""
    return [f"in use: {use}" for disk in node.disks if disk.device in disks for use in disk.in_use()]


def teardown(node: NodeFacts, disks: Collection[str]) -> list[VolumeGroupFacts | ArrayFacts]:
    """What runs on ``disks``, in the order in which it can be deactivated or stopped: the top first.

    :raises UnsuitableNode: when an array or group lies partly on other disks, naming both sides; or when facts say
        that something stands on itself.
    """
    below = disks_below(node)
    reasons = []
    for array in node.arrays:
        reasons += _partly(f"array {array.name}", array.members, disks, below)
    for group in node.volume_groups:
        reasons += _partly(f"volume group {group.name}", group.members, disks, below)
    if reasons:
        raise UnsuitableNode(*reasons)
    going: list[VolumeGroupFacts | ArrayFacts] = []
    going += [group for group in node.volume_groups if any(volume.active for volume in group.volumes)]
    going += [array for array in node.arrays if array.device]
    return _top_first([x for x in going if any(below[member] & set(disks) for member in x.members)])


def _partly(name: str, members: Collection[str], disks: Collection[str], below: dict[str, set[str]]) -> list[str]:
    inside = sorted(member for member in members if below[member] & set(disks))
    outside = sorted(member for member in members if below[member] - set(disks))
    if not inside or not outside:
        return []
    if set(inside) & set(outside):  # one member lies on both, so that only the disks tell them apart
        found = {disk for member in members for disk in below[member]}
        inside, outside = sorted(found & set(disks)), sorted(found - set(disks))
    return [f"{name} lies on {', '.join(inside)} and also on {', '.join(outside)}, which is not in the schema"]


def _top_first(running: list[VolumeGroupFacts | ArrayFacts]) -> list[VolumeGroupFacts | ArrayFacts]:
    """The order in which nothing is stopped below something that runs; else that of ``running``."""
    graph: TopologicalSorter[int] = TopologicalSorter(dict.fromkeys(range(len(running)), ()))
    for place, lower in enumerate(running):
        offered = _offered(lower)
        graph.add(place, *(i for i, upper in enumerate(running) if offered & set(upper.members)))
    try:
        graph.prepare()
    except CycleError as error:
        names = " on ".join(_name(running[place]) for place in error.args[1])
        raise UnsuitableNode(f"it cannot be told what stands on what: {names}") from None
    ordered, ready = [], list(graph.get_ready())
    heapq.heapify(ready)
    while ready:
        place = heapq.heappop(ready)
        ordered.append(running[place])
        graph.done(place)
        for other in graph.get_ready():
            heapq.heappush(ready, other)
    return ordered


def _offered(found: VolumeGroupFacts | ArrayFacts) -> set[str]:
    """The devices that something else may stand on."""
    if isinstance(found, ArrayFacts):
        return {found.alias}
    return {volume.device for volume in found.volumes if volume.active}


def _name(found: VolumeGroupFacts | ArrayFacts) -> str:
    return f"{'array' if isinstance(found, ArrayFacts) else 'volume group'} {found.name}"


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
    stacked = [([array.alias], array.members) for array in node.arrays]
    stacked += [([volume.device for volume in group.volumes], group.members) for group in node.volume_groups]
    for offered, _ in stacked:  # two groups may have one name: then a volume lies where either does
        for device in offered:
            found.setdefault(device, set())
    # Whatever stands on what, in whatever order it is told, and even in a circle: until nothing is added.
    grown = True
    while grown:
        grown = False
        for offered, members in stacked:
            disks = {disk for member in members for disk in found[member]}
            for device in offered:
                grown = grown or not disks <= found[device]
                found[device] |= disks
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
        if not {disk.device, disk.device.removeprefix("/dev/"), disk.serial, disk.wwn} & set(allowed)
    ]


class _Itself(dict[str, set[str]]):
    def __missing__(self, device: str) -> set[str]:
        return {device}
