# SPDX-License-Identifier: Apache-2.0
"""Arrays with spares, compared with what is found later."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from bareon.errors import DisksDiffer
from bareon.layout.build import build
from bareon.layout.compare import adopt
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.sizes import MIB, Absolute
from bareon.storage.disk import Disk, DiskFacts, DiskId, Partition
from bareon.storage.identifier import Identifiers
from bareon.storage.md import Array, ArrayFacts, RaidMember
from bareon.tests.simulation import after

NODE = NodeFacts("bios", tuple(DiskFacts(f"/dev/vd{x}", 1024 * MIB) for x in "abc"))
WANTED = Deployment(
    "verify",
    tuple(
        Disk(DiskId("name", f"vd{x}"), None, (Partition(Absolute(100 * MIB), RaidMember("data", spare=x == "a")),))
        for x in "abc"
    ),
    (Array("data"),),
)


def _found() -> tuple[NodeFacts, ArrayFacts]:
    node = after(build(WANTED, NODE, Identifiers(uuid.UUID(int=1))), NODE)
    (array,) = node.structures
    assert isinstance(array, ArrayFacts)
    return node, array


def test_a_spare_is_a_member_that_is_not_in_use() -> None:
    layout = build(WANTED, NODE, Identifiers(uuid.UUID(int=1)))
    node, array = _found()
    assert (array.count, array.members) == (2, ("/dev/vda2", "/dev/vdb2", "/dev/vdc2"))
    adopted, _ = adopt(layout, node, make=False, copy=False)
    assert [x.decision for x in adopted.aggregates] == ["keep"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 3}, "expected 2 members in use, found a place for 3"),
        ({"members": ("/dev/vdb2", "/dev/vdc2")}, "expected the members /dev/vda2, /dev/vdb2, /dev/vdc2, found"),
    ],
)
def test_an_array_whose_spare_is_none(change: dict[str, object], words: str) -> None:
    layout = build(WANTED, NODE, Identifiers(uuid.UUID(int=1)))
    node, array = _found()
    changed = replace(node, structures=(replace(array, **change),))  # type: ignore[arg-type]
    with pytest.raises(DisksDiffer) as caught:
        adopt(layout, changed, make=True, copy=False)
    assert any(words in line for line in caught.value.differences)
