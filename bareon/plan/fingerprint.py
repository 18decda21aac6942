# SPDX-License-Identifier: Apache-2.0
"""The fingerprint of a saved plan: digests of the input and the disks it was made for. A stale plan is refused.

A plan is not read back into steps: it is made again from the same input, the same seed of identifiers and the node as
it is then, and must come out the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Any

from bareon.errors import UnsuitableNode, UsageError
from bareon.model.node import NodeFacts


@dataclass(frozen=True)
class Fingerprint:
    """``input`` is the SHA-256 of the document, ``disks`` one for each disk of the schema by its device."""

    seed: uuid.UUID
    input: str
    disks: dict[str, str]

    def document(self) -> dict[str, Any]:
        """As JSON values, under the key ``seal`` of a plan."""
        return {"seed": str(self.seed), "input_sha256": self.input, "disks_sha256": self.disks}


def fingerprint(seed: uuid.UUID, given: bytes, node: NodeFacts, disks: list[str]) -> Fingerprint:
    """The fingerprint of a plan for the ``disks`` of ``node``."""
    found = {disk.device: disk for disk in node.disks}
    return Fingerprint(
        seed,
        hashlib.sha256(given).hexdigest(),
        {
            device: _digest(dataclasses.asdict(dataclasses.replace(found[device], **_PASSING)))
            for device in disks
            if device in found
        },
    )


# Another running number after a restart, another answer to the question for its health, or that the ramdisk came from
# it this time, make it no other disk.
_PASSING: dict[str, Any] = {"sequence": None, "health": "unknown", "health_words": (), "boot_medium": False}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def opened(text: bytes) -> tuple[Fingerprint, dict[str, Any]]:
    """The fingerprint of a saved plan, and the plan itself.

    :raises UsageError: when the text is no saved plan.
    """
    try:
        plan = json.loads(text)
        value = plan["seal"]
        found = Fingerprint(uuid.UUID(str(value["seed"])), str(value["input_sha256"]), dict(value["disks_sha256"]))
        return found, plan
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError("--apply_plan: this is no plan saved by --plan --plan_format json") from None


def check(saved: Fingerprint, plan: dict[str, Any], now: Fingerprint, planned_now: dict[str, Any]) -> None:
    """Compare a saved plan with what would be planned now.

    :raises UnsuitableNode: naming what is not as it was.
    """
    if saved.input != now.input:
        raise UnsuitableNode("the saved plan was made for another input (its SHA-256 differs)")
    reasons = [f"{device} is not a disk of the saved plan" for device in now.disks if device not in saved.disks]
    for device, digest in saved.disks.items():
        if device not in now.disks:
            reasons.append(f"{device}, which the plan was made for, is not the disk that the input means now")
        elif digest != now.disks[device]:
            reasons.append(f"{device} is another disk or has changed since it was planned for")
    if not reasons and {**plan, "seal": None} != {**planned_now, "seal": None}:
        keys = sorted(key for key in {*plan, *planned_now} if plan.get(key) != planned_now.get(key))
        reasons.append(f"another plan would be made now: {', '.join(key for key in keys if key != 'seal')} differ")
    if reasons:
        raise UnsuitableNode(*(f"{reason}; plan anew" for reason in reasons))
