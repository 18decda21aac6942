# SPDX-License-Identifier: Apache-2.0
"""A node as it would be found after a layout was made on it: a model of disks, for tests of decisions."""

from __future__ import annotations

from dataclasses import replace

from bareon.model.layout import Layout
from bareon.model.node import NodeFacts
from bareon.storage.disk import PartitionFacts, PartitionLayout
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
        structures=tuple(x.found() for kind in sections() for x in layout.structures() if x.kind is kind),
    )


def _partition(part: PartitionLayout) -> PartitionFacts:
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
