# SPDX-License-Identifier: Apache-2.0
"""The plan as JSON values: the promise that programs rely on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bareon.model.image import Origin
from bareon.model.layout import Layout
from bareon.plan.plan import Plan
from bareon.storage import filesystem
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.storage.kinds import sections
from bareon.storage.multipath import MapFacts


def lines(value: dict[str, Any]) -> str:
    """A JSON object as text with a line for each key, and for each item of a list below a key."""
    # json's own indentation costs ten times as much: it leaves the C encoder.
    pieces = []
    for key, item in value.items():
        if isinstance(item, list) and item:
            body = "[\n  " + ",\n  ".join(map(json.dumps, item)) + "\n ]"
        else:
            body = json.dumps(item)
        pieces.append(f" {json.dumps(key)}: {body}")
    return "{\n" + ",\n".join(pieces) + "\n}"


def document(plan: Plan) -> dict[str, Any]:
    """The whole plan. Sizes and positions are bytes."""
    return {
        **layout_document(plan.layout),
        "differences": [],
        **({"images": [_image(x) for x in plan.origins]} if plan.origins else {}),
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


def _image(origin: Origin) -> dict[str, Any]:
    held = list(origin.held_to)
    return {"name": origin.name, "taken_for": origin.taken_for, "seen": origin.seen, "held_to": held}


def differing(layout: Layout, differences: Sequence[str]) -> dict[str, Any]:
    """The document of a refused plan: the disks differ from their description."""
    return {**layout_document(layout), "differences": list(differences), "steps": [], "warnings": []}


def layout_document(layout: Layout) -> dict[str, Any]:
    """The decided state of the disks."""
    found = {kind.section: [x.document() for x in layout.structures() if x.kind is kind] for kind in sections()}
    return {
        "policy": layout.policy,
        "firmware": layout.firmware,
        "disks": [_disk(disk) for disk in layout.disks],
        **{kind.section: found[kind.section] for kind in sections() if kind.always or found[kind.section]},
        **({"subvolumes": parts} if (parts := [part for fs in layout.filesystems() for part in fs.parts]) else {}),
    }


def _disk(disk: PlannedDisk) -> dict[str, Any]:
    return {
        "device": disk.device,
        "size": disk.size,
        "table": disk.table,
        "guid": disk.guid,
        **({"rule": disk.rule.document()} if disk.rule else {}),
        **({"erase": disk.erase} if disk.erase else {}),
        **({"multipath": _map(disk.multipath)} if disk.multipath else {}),
        "partitions": [_partition(partition) for partition in disk.partitions],
    }


def _map(found: MapFacts) -> dict[str, Any]:
    return {"name": found.name, "wwid": found.wwid, "paths": [path.device for path in found.paths]}


def _partition(partition: PlannedPartition) -> dict[str, Any]:
    return {
        "number": partition.number,
        "device": partition.device,
        "start": partition.start,
        "size": partition.size,
        "role": partition.role,
        "name": partition.name,
        "guid": partition.guid,
        "member_of": partition.member_of,
        **filesystem.document(partition.content),
        "decision": partition.decision,
    }
