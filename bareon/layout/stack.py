# SPDX-License-Identifier: Apache-2.0
"""The order of structures, found and planned, by what lies on what: take down from the top, start from the bottom."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from bareon.errors import UnsuitableNode
from bareon.layout.paths import all_paths
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts
from bareon.storage.disk import DiskFacts
from bareon.storage.kind import UNKNOWN, UNREADABLE, Found, Structure
from bareon.storage.kinds import KINDS

T = TypeVar("T", bound=Hashable)


def in_order(needs: Mapping[T, Collection[T]]) -> list[T]:
    """The keys, each behind those that it needs; where that leaves a choice, in the order in which they are given.

    :raises graphlib.CycleError: when some need each other.
    """
    rank = {key: number for number, key in enumerate(needs)}
    keys = list(needs)
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    found, ready = [], [rank[key] for key in sorter.get_ready()]
    heapq.heapify(ready)
    while ready:
        key = keys[heapq.heappop(ready)]
        found.append(key)
        sorter.done(key)
        for new in sorter.get_ready():
            heapq.heappush(ready, rank[new])
    return found


def unreadable(node: NodeFacts, disks: Collection[str], *, inside: bool) -> list[str]:
    """What on the disks cannot be read, in words: nobody knows what it holds, or what larger thing it is part of.

    That of a disk or partition cannot be left to be seen later, as that of a closed container is.

    Disks that are not among them may well be dead, locked or passive paths.

    :param inside: also what structures on them offer. It goes with them where they are cleared, as does a snapshot
        that has overflowed, which can never be read.
    """
    mine = [disk for disk in node.disks if disk.device in disks]
    found = [(disk.device, disk.content) for disk in mine]
    found += [(part.device, part.content) for disk in mine for part in disk.partitions]
    never = [device for device, content in found if content in (UNREADABLE, UNKNOWN)]
    if inside:
        offered = (offered for structure in on_disks(node, disks) for offered in structure.offers)
        never += [device for device, content in offered if content == UNREADABLE]
    return [f"{device} cannot be read" for device in never]


def busy(node: NodeFacts, disks: Collection[str]) -> list[str]:
    """Users of the disks now, in words; empty if they are free."""
    return [f"in use: {use}" for disk in node.disks if disk.device in disks for use in disk.in_use()]


def failures(node: NodeFacts, disks: Collection[str]) -> list[str]:
    """The disks that say of themselves that they are failing, with their words."""
    failing = [disk for disk in node.disks if disk.device in disks and disk.health == "failing"]
    words = {disk.device: "; ".join(disk.health_words) or "it says so" for disk in failing}
    return [f"{x.device} (serial {x.serial or 'unknown'}) is failing: {words[x.device]}" for x in failing]


class Below(dict[str, set[str]]):
    """The disks that each device of a node lies on; a device that is not known lies on itself."""

    def __missing__(self, device: str) -> set[str]:
        return {device}


def disks_below(node: NodeFacts, layout: Layout | None = None) -> Below:
    """The disks that every disk, partition and device of a structure lies on, through whatever is between.

    :param layout: tells of what is kept in something that was closed when the node was looked at.
    """
    found = Below()
    for disk in node.disks:
        found[disk.device] = {disk.device}
        for part in disk.partitions:
            found[part.device] = {disk.device}
    for structure in node.structures:
        found |= {device: set() for device, _ in structure.offers if device not in found}
    grown = True
    while grown:
        grown = False
        for structure in node.structures:
            disks = {disk for member in structure.stands_on for disk in found[member]}
            for device, _ in structure.offers:  # two groups may have one name: then either may be meant
                if not disks <= found[device]:
                    found[device] |= disks
                    grown = True
    for planned in layout.structures() if layout else ():
        below = {disk for member in planned.members for disk in found[member]}
        found.update((x.device, below) for x in planned.devices if x.device not in found)
    return found


def stands_on(structure: Found, disks: Collection[str], below: Below) -> bool:
    """True if a structure lies on any of the disks."""
    return any(below[member] & set(disks) for member in structure.stands_on)


def on_disks(node: NodeFacts, disks: Collection[str]) -> list[Found]:
    """The structures on any of the disks, in the order of the facts."""
    below = disks_below(node)
    return [structure for structure in node.structures if stands_on(structure, disks, below)]


def teardown(node: NodeFacts, disks: Collection[str]) -> list[Found]:
    """Running structures to stop before the disks are free, top first.

    :raises UnsuitableNode: when a structure lies partly on other disks, naming both sides.
    """
    below = disks_below(node)
    if reasons := [reason for structure in node.structures for reason in _torn(structure, disks, below)]:
        raise UnsuitableNode(*reasons)
    return _top_first([x for x in node.structures if x.running and stands_on(x, disks, below)])


def _torn(structure: Found, disks: Collection[str], below: Below) -> Iterator[str]:
    """The reason that a structure cannot be cleared with the disks: it lies on others too."""
    inside = sorted(member for member in structure.stands_on if below[member] & set(disks))
    outside = sorted(member for member in structure.stands_on if below[member] - set(disks))
    if not inside or not outside:
        return
    if set(inside) & set(outside):  # one member lies on both, so that only the disks tell them apart
        found = {disk for member in structure.stands_on for disk in below[member]}
        inside, outside = sorted(found & set(disks)), sorted(found - set(disks))
    on = f"{', '.join(inside)} and also on {', '.join(outside)}, which is not in the schema"
    yield f"{structure.title} lies on {on}"


def _top_first(running: Sequence[Found]) -> list[Found]:
    """Structures that run, each before those that it lies on, and kinds that stand on others first."""
    kinds = [kind.found for kind in KINDS]
    listed = sorted(running, key=lambda x: -kinds.index(type(x)))
    above = {
        number: {other for other, x in enumerate(listed) if set(x.stands_on) & set(structure.present)}
        for number, structure in enumerate(listed)
    }
    try:
        return [listed[number] for number in in_order(above)]
    except CycleError as error:
        names = " on ".join(listed[number].title for number in error.args[1])
        raise UnsuitableNode(f"it cannot be told what stands on what: {names}") from None


def lost_disks(node: NodeFacts, devices: Iterable[str], layout: Layout | None = None) -> list[DiskFacts]:
    """The disks that lose data when ``devices``, some of which only the layout may know, lose theirs."""
    below = disks_below(node, layout)
    names = {disk for device in devices for disk in below[device]}
    return [disk for disk in node.disks if disk.device in names]


def forbidden(node: NodeFacts, layout: Layout, devices: Iterable[str], allowed: Collection[str]) -> list[str]:
    """The disks that lose data though no name, serial or wwn in ``allowed`` means them, in words."""
    return [
        f"{disk.device} (serial {disk.serial or 'unknown'}, wwn {disk.wwn or 'unknown'}) would lose data"
        for disk in lost_disks(node, devices, layout)
        if not _names(disk) & set(allowed)
    ]


def meant(node: NodeFacts, value: str) -> tuple[str, ...]:
    """The disks whose name, serial or wwn is ``value``: one that guards data must mean one disk.

    What never can lose data to bareon counts only by itself: an eMMC has the serial number of its boot areas, too.
    """
    named = [disk for disk in node.disks if value in _names(disk)]
    return tuple(disk.device for disk in [x for x in named if not x.unusable] or named)


def _names(disk: DiskFacts) -> set[str]:
    return {disk.device, disk.device.removeprefix("/dev/"), disk.serial or "", disk.wwn or ""} - {""}


def clashes(layout: Layout, node: NodeFacts) -> Iterator[str]:
    """Structures on disks that stay, with names that are to be given to new ones."""
    disks, below = all_paths(node, {disk.device for disk in layout.disks}), disks_below(node)
    kinds = [kind.name for kind in KINDS]
    new = (structure for structure in layout.structures() if structure.decision == "create")
    for structure in sorted(new, key=lambda x: -kinds.index(x.kind.name)):
        for found in node.structures:
            if structure.means(found) and not stands_on(found, disks, below):
                yield structure.clash(found)


def to_start(layout: Layout, node: NodeFacts, *, everything: bool) -> list[Structure]:
    """Kept structures to start, bottom first.

    :param everything: also what only has to be mounted; else only what a file system is to be made on, since an array
        that is started is written to.
    """
    needed: set[str] = set()
    chosen: list[Structure] = []
    for structure in reversed(list(layout.structures())):
        if everything or any(x.decision == "format" or x.device in needed for x in structure.devices):
            needed |= set(structure.members)
            chosen.append(structure)
    return [x for x in reversed(chosen) if x.decision != "create" and not _usable(x, node)]


def _usable(structure: Structure, node: NodeFacts) -> bool:
    return any(found.usable for found in node.structures if structure.means(found))
