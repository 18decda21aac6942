# SPDX-License-Identifier: Apache-2.0
"""What is wanted against what is found: differences in words, or the layout with what is there taken over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bareon.errors import DisksDiffer
from bareon.facts.node import DiskFacts, NodeFacts, PartitionFacts
from bareon.model.layout import DiskLayout, FilesystemLayout, Layout, PartitionLayout
from bareon.sizes import MIB, mib

TOLERANCE = MIB  # bytes that a start or end may be off


def adopt(layout: Layout, node: NodeFacts, *, make: bool) -> Layout:
    """The wanted layout with the identifiers that are there, everything kept.

    :param make: whether file systems with ``keep_data: false`` are to be made anew.
    :raises DisksDiffer: listing every difference.
    """
    reals = {disk.device: disk for disk in node.disks}
    differences = [line for disk in layout.disks for line in _disk_differences(disk, reals[disk.device], make)]
    if differences:
        raise DisksDiffer(differences)
    return replace(layout, disks=tuple(_adopted(disk, reals[disk.device], make) for disk in layout.disks))


def _disk_differences(wanted: DiskLayout, found: DiskFacts, make: bool) -> Iterator[str]:
    if found.table != wanted.table:
        yield f"{wanted.device}: expected a gpt table, found {found.table or 'none'}"
        return
    if len(wanted.partitions) != len(found.partitions):
        yield f"{wanted.device}: expected {len(wanted.partitions)} partitions, found {len(found.partitions)}"
    there = {part.number: part for part in found.partitions}
    for part in wanted.partitions:
        if part.number in there:
            yield from _partition_differences(part, there.pop(part.number), make)
        else:
            yield f"{part.device}: expected a partition of {mib(part.size)} at {mib(part.start)}, found none"
    for extra in there.values():
        yield f"{extra.device}: expected no partition, found one of {mib(extra.size)} at {mib(extra.start)}"


def _partition_differences(wanted: PartitionLayout, found: PartitionFacts, make: bool) -> Iterator[str]:
    for what, a, b in (("start", wanted.start, found.start), ("end", wanted.end, found.end)):
        if abs(a - b) > TOLERANCE:
            yield f"{wanted.device}: expected its {what} at {mib(a)}, found {mib(b)}"
    if wanted.type_guid != found.type.upper():
        yield f"{wanted.device}: expected partition type {wanted.type_guid}, found {found.type}"
    if wanted.name and wanted.role == "volume" and wanted.name != found.name:
        yield f"{wanted.device}: expected the name {wanted.name!r}, found {found.name or 'none'!r}"
    if wanted.filesystem:
        yield from _filesystem_differences(wanted.filesystem, found, make)


def _filesystem_differences(wanted: FilesystemLayout, found: PartitionFacts, make: bool) -> Iterator[str]:
    if make and not wanted.wanted.keep_data:
        return  # it is made anew, whatever is in it
    kind = found.content.type if found.content else "nothing"
    label = found.content.label if found.content else None
    if kind != wanted.wanted.type:
        yield f"{wanted.device}: expected {wanted.wanted.type}, found {kind}"
    elif wanted.wanted.label and wanted.wanted.label != label:
        yield f"{wanted.device}: expected the label {wanted.wanted.label!r}, found {label or 'none'!r}"


def _adopted(wanted: DiskLayout, found: DiskFacts, make: bool) -> DiskLayout:
    there = {part.number: part for part in found.partitions}
    return replace(
        wanted,
        partitions=tuple(_adopted_partition(part, there[part.number], make) for part in wanted.partitions),
    )


def _adopted_partition(wanted: PartitionLayout, found: PartitionFacts, make: bool) -> PartitionLayout:
    filesystem = wanted.filesystem
    if filesystem:
        anew = make and not filesystem.wanted.keep_data
        uuid = found.content.uuid if found.content and not anew else None
        filesystem = replace(filesystem, decision="format" if anew else "keep", uuid=uuid or filesystem.uuid)
    return replace(
        wanted,
        device=found.device,
        start=found.start,
        size=found.size,
        guid=found.guid or wanted.guid,
        decision=filesystem.decision if filesystem else "keep",
        filesystem=filesystem,
    )
