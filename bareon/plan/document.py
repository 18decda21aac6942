# SPDX-License-Identifier: Apache-2.0
"""The plan as JSON values: the promise that programs rely on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bareon.model.layout import DiskLayout, Layout, PartitionLayout
from bareon.plan.step import Plan


def document(plan: Plan) -> dict[str, Any]:
    """The whole plan. Sizes and positions are bytes."""
    return {
        **layout_document(plan.layout),
        "differences": [],
        "steps": [
            {
                "action": step.action,
                "description": step.description,
                "destroys": list(step.destroys),
            }
            for step in plan.steps
        ],
    }


def differing(layout: Layout, differences: Sequence[str]) -> dict[str, Any]:
    """The document of a plan that cannot be, because the disks are not what was described."""
    return {**layout_document(layout), "differences": list(differences), "steps": []}


def layout_document(layout: Layout) -> dict[str, Any]:
    """The decided state of the disks."""
    return {
        "policy": layout.policy,
        "firmware": layout.firmware,
        "disks": [_disk(disk) for disk in layout.disks],
        "arrays": [],
        "volume_groups": [],
    }


def _disk(disk: DiskLayout) -> dict[str, Any]:
    return {
        "device": disk.device,
        "size": disk.size,
        "table": disk.table,
        "guid": disk.guid,
        "partitions": [_partition(partition) for partition in disk.partitions],
    }


def _partition(partition: PartitionLayout) -> dict[str, Any]:
    filesystem = partition.filesystem
    wanted = filesystem.wanted if filesystem else None
    return {
        "number": partition.number,
        "device": partition.device,
        "start": partition.start,
        "size": partition.size,
        "role": partition.role,
        "name": partition.name,
        "guid": partition.guid,
        "mount": wanted.mount if wanted else None,
        "file_system": wanted.type if wanted else None,
        "uuid": filesystem.uuid if filesystem else None,
        "label": wanted.label if wanted else None,
        "images": list(wanted.images) if wanted else [],
        "decision": partition.decision,
    }
