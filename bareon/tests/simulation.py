# SPDX-License-Identifier: Apache-2.0
"""A node as it would be found after a layout was made on it: a model of disks, for tests of decisions."""

from __future__ import annotations

from dataclasses import replace

from bareon.facts.node import (
    ArrayFacts,
    Content,
    LogicalVolumeFacts,
    NodeFacts,
    PartitionFacts,
    VolumeGroupFacts,
)
from bareon.model.layout import FilesystemLayout, Layout, PartitionLayout

_SIGNATURES = {"pv": "LVM2_member", "raid": "linux_raid_member"}


def after(layout: Layout, node: NodeFacts) -> NodeFacts:
    """The node of ``layout``, with nothing running, as after a restart of the ramdisk."""
    made = {disk.device: disk for disk in layout.disks}
    pv = {member.device for group in layout.volume_groups for member in group.members}
    return replace(
        node,
        disks=tuple(
            replace(
                disk,
                table="gpt",
                content=None,
                partitions=tuple(_partition(part) for part in made[disk.device].partitions),
            )
            if disk.device in made
            else disk
            for disk in node.disks
        ),
        arrays=tuple(
            ArrayFacts(
                name=array.name,
                uuid=array.uuid,
                level=array.level,
                count=len(array.members),
                members=tuple(sorted(array.members)),
                alias=array.device,
                size=array.size,
                content=Content("LVM2_member") if array.device in pv else _content(array.filesystem),
            )
            for array in layout.arrays
        ),
        volume_groups=tuple(
            VolumeGroupFacts(
                name=group.name,
                uuid=f"uuid of {group.name}",
                size=group.size,
                extent=group.extent,
                members=tuple(sorted(member.device for member in group.members)),
                volumes=tuple(
                    LogicalVolumeFacts(x.name, x.device, x.size, False, _content(x.filesystem)) for x in group.volumes
                ),
            )
            for group in layout.volume_groups
        ),
    )


def _content(filesystem: FilesystemLayout | None) -> Content | None:
    if filesystem is None:
        return None
    return Content(filesystem.wanted.type, filesystem.uuid, filesystem.wanted.label)


def _partition(part: PartitionLayout) -> PartitionFacts:
    signature = _SIGNATURES.get(part.role)
    return PartitionFacts(
        number=part.number,
        device=part.device,
        start=part.start,
        size=part.size,
        type=part.type_guid,
        guid=part.guid,
        name=part.name,
        content=Content(signature) if signature else _content(part.filesystem),
    )
