# SPDX-License-Identifier: Apache-2.0
"""A saved plan is carried out as it was, or not at all."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest

from bareon.errors import UnsuitableNode, UsageError
from bareon.model.node import NodeFacts
from bareon.plan.fingerprint import Fingerprint, check, fingerprint, opened
from bareon.tests import cases

DISKS = ["/dev/vda", "/dev/vdb"]


def _sealed(node: NodeFacts, given: bytes = b"{}", disks: list[str] = DISKS) -> Fingerprint:
    return fingerprint(uuid.UUID(int=1), given, node, disks)


def _saved(plan: dict[str, Any]) -> tuple[Fingerprint, dict[str, Any]]:
    """Through JSON and back, as a file does it."""
    sealed = _sealed(cases.node("two-disks"))
    return opened(json.dumps({**plan, "seal": sealed.document()}).encode())


def test_the_same_again() -> None:
    saved, plan = _saved({"steps": [1]})
    now = _sealed(cases.node("two-disks"))
    assert saved == now
    check(saved, plan, now, {"steps": [1], "seal": now.document()})


def test_another_input() -> None:
    saved, plan = _saved({})
    with pytest.raises(UnsuitableNode, match="another input"):
        check(saved, plan, _sealed(cases.node("two-disks"), b"{ }"), {"seal": None})


@pytest.mark.parametrize(
    "change", [{"serial": "other"}, {"partitions": ()}, {"size": 1 << 33}, {"users": ("mounted at /x",)}]
)
@pytest.mark.pain("names-that-change")
def test_a_disk_that_changed(change: dict[str, Any]) -> None:
    saved, plan = _saved({})
    node = cases.node("two-disks")
    changed = replace(node, disks=(node.disks[0], replace(node.disks[1], **change)))
    with pytest.raises(UnsuitableNode, match=r"^/dev/vdb is another disk or has changed"):
        check(saved, plan, _sealed(changed), {"seal": None})


def test_other_disks() -> None:
    saved, plan = _saved({})
    with pytest.raises(UnsuitableNode) as caught:
        check(saved, plan, _sealed(cases.node("two-disks"), disks=["/dev/vda"]), {"seal": None})
    assert "/dev/vdb, which the plan was made for" in str(caught.value)


def test_a_plan_edited_by_hand() -> None:
    saved, plan = _saved({"policy": "verify", "steps": []})
    with pytest.raises(UnsuitableNode, match="another plan would be made now: policy differ"):
        check(saved, plan, saved, {"policy": "clean", "steps": [], "seal": None})


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"seal": {}}', b'{"seal": {"seed": 1}}', b"\xff", b"[" * 100000]
)
def test_no_saved_plan(text: bytes) -> None:
    with pytest.raises(UsageError, match="this is no plan saved by"):
        opened(text)
