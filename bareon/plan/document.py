# SPDX-License-Identifier: Apache-2.0
"""The plan as JSON values: the promise that programs rely on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bareon.model.layout import ArrayLayout, DiskLayout, FilesystemLayout, Layout, PartitionLayout, VolumeGroupLayout
from bareon.plan.step import Plan


def lines(value: dict[str, Any]) -> str:
    """A JSON object as text with a line for each key, and for each item of a list below a key."""
    # json's own indentation costs ten times as much: it leaves the C encoder.
    pieces = []
    for key, item in value.items():
        body = json.dumps(item)
        if isinstance(item, list) and item:
            body = "[\n  " + ",\n  ".join(json.dumps(x) for x in item) + "\n ]"
        pieces.append(f" {json.dumps(key)}: {body}")
    return "{\n" + ",\n".join(pieces) + "\n}"


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
        "warnings": list(plan.warnings),
    }


def differing(layout: Layout, differences: Sequence[str]) -> dict[str, Any]:
    """The document of a plan that cannot be, because the disks are not what was described."""
    return {**layout_document(layout), "differences": list(differences), "steps": [], "warnings": []}


def layout_document(layout: Layout) -> dict[str, Any]:
    """The decided state of the disks."""
    return {
        "policy": layout.policy,
        "firmware": layout.firmware,
        "disks": [_disk(disk) for disk in layout.disks],
        "arrays": [_array(array) for array in layout.arrays],
        "volume_groups": [_group(group) for group in layout.volume_groups],
    }


def _disk(disk: DiskLayout) -> dict[str, Any]:
    return {
        "device": disk.device,
        "size": disk.size,
        "table": disk.table,
        "guid": disk.guid,
        "partitions": [_partition(partition) for partition in disk.partitions],
    }


def _array(array: ArrayLayout) -> dict[str, Any]:
    return {
        "name": array.device,
        "level": array.level,
        "members": list(array.members),
        "size": array.size,
        "md_uuid": array.uuid,
        "volume_group": array.member_of,
        **_filesystem(array.filesystem),
        "decision": array.decision,
    }


def _group(group: VolumeGroupLayout) -> dict[str, Any]:
    return {
        "name": group.name,
        "size": group.size,
        "members": [member.device for member in group.members],
        "decision": group.decision,
        "volumes": [
            {
                "name": volume.name,
                "device": volume.device,
                "size": volume.size,
                **_filesystem(volume.filesystem),
                "decision": volume.decision,
            }
            for volume in group.volumes
        ],
    }


def _filesystem(filesystem: FilesystemLayout | None) -> dict[str, Any]:
    wanted = filesystem.wanted if filesystem else None
    return {
        "mount": wanted.mount if wanted else None,
        "file_system": wanted.type if wanted else None,
        "uuid": filesystem.uuid if filesystem else None,
        "label": wanted.label if wanted else None,
        "images": list(wanted.images) if wanted else [],
    }


def _partition(partition: PartitionLayout) -> dict[str, Any]:
    return {
        "number": partition.number,
        "device": partition.device,
        "start": partition.start,
        "size": partition.size,
        "role": partition.role,
        "name": partition.name,
        "guid": partition.guid,
        "member_of": partition.member_of,
        **_filesystem(partition.filesystem),
        "decision": partition.decision,
    }
