# SPDX-License-Identifier: Apache-2.0
"""A node as it would be found after a layout was made on it: a model of disks, for tests of decisions."""

from __future__ import annotations

from dataclasses import replace

from bareon.model.layout import Layout
from bareon.model.node import NodeFacts
from bareon.storage.disk import PartitionFacts, PlannedPartition
from bareon.storage.kind import UNKNOWN, Found
from bareon.storage.kinds import sections


def after(layout: Layout, node: NodeFacts) -> NodeFacts:
    """The node of ``layout``, with nothing running, as after a restart of the ramdisk."""
    made = {disk.device: disk for disk in layout.disks}
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
        structures=_structures(layout),
    )


def _structures(layout: Layout) -> tuple[Found, ...]:
    """What is found but for what lies in something closed, in the order of the facts."""
    hidden: set[str] = set()
    found = []
    for structure in layout.structures():
        if hidden.issuperset(structure.members):
            hidden |= {device.device for device in structure.devices}
            continue
        found.append(structure.found())
        hidden |= {device for device, content in found[-1].offers if content == UNKNOWN}
    return tuple(x for kind in sections() for x in found if type(x) is kind.found)


def _partition(part: PlannedPartition) -> PartitionFacts:
    return PartitionFacts(
        number=part.number,
        device=part.device,
        start=part.start,
        size=part.size,
        type=part.type_guid,
        guid=part.guid,
        name=part.name,
        content=part.content.signature if part.content else None,
    )
