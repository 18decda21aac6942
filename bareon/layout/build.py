# SPDX-License-Identifier: Apache-2.0
"""The layout that a deployment asks for on a node, as if nothing were there yet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bareon.errors import Defect, UnsuitableNode
from bareon.facts.node import DiskFacts, NodeFacts
from bareon.layout.allocate import DoesNotFit, Request, allocate
from bareon.layout.filesystem import filesystem_layout
from bareon.layout.identifier import Identifiers, NoIdentifiers
from bareon.layout.match import match_disks
from bareon.layout.raid import DATA_OFFSET, array_size, component
from bareon.layout.table import disk_layout
from bareon.model.deployment import Deployment
from bareon.model.layout import (
    ArrayLayout,
    DiskLayout,
    Firmware,
    Layout,
    LogicalVolumeLayout,
    PartitionLayout,
    PhysicalVolumeLayout,
    Role,
    VolumeGroupLayout,
)
from bareon.model.lvm import EXTENT, METADATA, LogicalVolume, VolumeGroup
from bareon.model.raid import Array
from bareon.sizes import MIB, mib, round_down

_UNKNOWN = 1 << 70  # bytes; stands for a disk whose size only the node knows


@dataclass(frozen=True)
class _Problem:
    """Something does not fit: where in the input, on which disk if on one, and why."""

    path: str
    device: str | None
    message: str


def build(deployment: Deployment, node: NodeFacts, identifiers: Identifiers) -> Layout:
    """Decide the whole layout; everything in it is to be created.

    :param deployment: without :func:`declared_defects`.
    :raises UnsuitableNode: when this node has no such disk, or it is too small.
    """
    layout, problems = _lay_out(deployment, match_disks(deployment, node), node.firmware, identifiers)
    if problems:
        raise UnsuitableNode(*(f"{p.path}{f' on {p.device}' if p.device else ''}: {p.message}" for p in problems))
    return layout


def declared_defects(deployment: Deployment) -> list[Defect]:
    """What is wrong with the sizes whatever the node: disks and volume groups that cannot hold their volumes.

    A BIOS node is assumed, whose implicit partitions are the smaller ones.
    """
    disks = [
        DiskFacts(f"/dev/disk{i}", (_UNKNOWN if disk.size is None else disk.size) + 2 * MIB)
        for i, disk in enumerate(deployment.disks)
    ]
    _, problems = _lay_out(deployment, disks, "bios", NoIdentifiers())
    open_ended = {f"{disk.path}.volumes" for disk in deployment.disks if disk.size is None}
    whole = (
        "the volumes need more than the whole disk, however large it is: bareon adds a partition in front of them;"
        " write 'remaining' for what is left"
    )
    return [Defect(x.path, whole if x.path in open_ended and _of_unknown(x.message) else x.message) for x in problems]


def _of_unknown(message: str) -> bool:
    """Whether figures in it, in MiB, are those of the size that stands for an unknown one."""
    return any(int(figure) >= _UNKNOWN // MIB // 2 for figure in re.findall("[0-9]+", message))


def _lay_out(
    deployment: Deployment, reals: Sequence[DiskFacts], firmware: Firmware, identifiers: Identifiers
) -> tuple[Layout, list[_Problem]]:
    """The layout, and what does not fit in it. Arrays and groups are left out when a disk has a problem already."""
    problems: list[_Problem] = []
    disks: list[DiskLayout] = []
    arrays: list[ArrayLayout] = []
    groups: list[VolumeGroupLayout] = []
    for number, (wanted, real) in enumerate(zip(deployment.disks, reals, strict=True)):
        multiboot = number == 0 and deployment.multiboot
        try:
            disks.append(disk_layout(wanted, real, firmware, identifiers, multiboot=multiboot))
        except DoesNotFit as error:
            problems.append(_Problem(error.path or f"{wanted.path}.volumes", real.device, error.message))
    if not problems:
        for array in deployment.arrays:
            try:
                arrays.append(_array(array, _members(disks, "raid", array.name), identifiers))
            except DoesNotFit as error:
                problems.append(_Problem(error.path, None, error.message))
        for group in deployment.volume_groups if not problems else ():
            try:
                groups.append(_group(group, _physical_volumes(deployment, group, disks, arrays), identifiers))
            except DoesNotFit as error:
                problems.append(_Problem(error.path or f"{group.path}.volumes", None, error.message))
    return Layout(deployment.policy, firmware, tuple(disks), tuple(arrays), tuple(groups)), problems


def _members(disks: Sequence[DiskLayout], role: Role, name: str) -> list[PartitionLayout]:
    return [part for disk in disks for part in disk.partitions if part.role == role and part.member_of == name]


def _array(wanted: Array, members: Sequence[PartitionLayout], identifiers: Identifiers) -> ArrayLayout:
    sizes = [member.size for member in members]
    size = array_size(wanted.level, sizes) if sizes else 0
    if size <= 0:
        raise DoesNotFit(wanted.path, f"its members have no room beside {mib(DATA_OFFSET)} of metadata each")
    device = f"/dev/md/{wanted.name}"
    return ArrayLayout(
        name=wanted.name,
        level=wanted.level,
        members=tuple(member.device for member in members),
        component=component(sizes),
        size=size,
        uuid=identifiers.array(wanted.name),
        decision="create",
        filesystem=filesystem_layout(wanted.filesystem, device, size, f"{wanted.path}.size", identifiers),
        member_of=wanted.vg,
    )


def _physical_volumes(
    deployment: Deployment, group: VolumeGroup, disks: Sequence[DiskLayout], arrays: Sequence[ArrayLayout]
) -> list[PhysicalVolumeLayout]:
    on_arrays = {array.name: array.metadata for array in deployment.arrays}
    found = [(part.device, part.size, part.metadata, part.backup) for part in _members(disks, "pv", group.name)]
    found += [(x.device, x.size, on_arrays[x.name], 0) for x in arrays if x.member_of == group.name]
    return [
        PhysicalVolumeLayout(device, size, METADATA if metadata is None else metadata, backup)
        for device, size, metadata, backup in found
    ]


def _group(
    wanted: VolumeGroup, members: Sequence[PhysicalVolumeLayout], identifiers: Identifiers
) -> VolumeGroupLayout:
    rooms = (member.size - member.metadata - member.backup for member in members)
    size = sum(max(0, round_down(room, EXTENT)) for room in rooms)
    requests = [Request(volume.size, f"{volume.path}.size") for volume in wanted.volumes]
    sizes = allocate(size, size, requests, EXTENT)
    return VolumeGroupLayout(
        name=wanted.name,
        size=size,
        extent=EXTENT,
        members=tuple(members),
        volumes=tuple(_volume(wanted.name, x, y, identifiers) for x, y in zip(wanted.volumes, sizes, strict=True)),
        decision="create",
    )


def _volume(group: str, wanted: LogicalVolume, size: int, identifiers: Identifiers) -> LogicalVolumeLayout:
    device = f"/dev/{group}/{wanted.name}"
    filesystem = filesystem_layout(wanted.filesystem, device, size, f"{wanted.path}.size", identifiers)
    return LogicalVolumeLayout(wanted.name, device, size, "create", filesystem)
