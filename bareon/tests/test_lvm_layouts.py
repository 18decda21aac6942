# SPDX-License-Identifier: Apache-2.0
"""Logical volumes that are there and not linear: what verify takes over, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bareon.actions.partitioning import Partitioning
from bareon.decide import decide
from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy.rsync import Rsync
from bareon.errors import DisksDiffer
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.plan.plan import Plan
from bareon.storage.lvm import VolumeGroupFacts
from bareon.tests import cases
from bareon.tests.simulation import after

DOCUMENT = {
    "partitions": [
        {
            "type": "disk",
            "id": {"type": "name", "value": "vda"},
            "volumes": [{"type": "pv", "vg": "os", "size": "1 GiB"}],
        },
        {
            "type": "vg",
            "id": "os",
            "volumes": [{"type": "lv", "name": "srv", "mount": "/srv", "file_system": "ext4", "size": "100 MiB"}],
        },
    ]
}


def deployment(policy: str) -> Deployment:
    return Ironic().parse(cases.json.dumps({**DOCUMENT, "partitions_policy": policy}).encode())


def plan(policy: str, node: NodeFacts) -> Plan:
    return decide(deployment(policy), node, [Partitioning()], Rsync(), cases.SEED).plan


def deployed(layout: str, health: str) -> NodeFacts:
    """The node with its logical volume of another layout, and what LVM says of it."""
    bare = cases.node("two-disks")
    node = after(plan("clean", bare).layout, bare)
    structures = tuple(
        replace(x, volumes=tuple(replace(v, layout=layout, health=health) for v in x.volumes))
        if isinstance(x, VolumeGroupFacts)
        else x
        for x in node.structures
    )
    return replace(node, structures=structures)


@pytest.mark.parametrize(
    ("layout", "health", "warnings"),
    [
        ("linear", "", []),
        ("striped", "", ["/dev/os/srv: expected a linear logical volume, found striped; it is kept"]),
        ("raid,raid1", "", ["/dev/os/srv: expected a linear logical volume, found raid,raid1; it is kept"]),
    ],
)
def test_what_has_its_own_blocks_is_kept(layout: str, health: str, warnings: Sequence[str]) -> None:
    found = plan("verify", deployed(layout, health))
    assert list(found.warnings) == warnings
    assert not [step for step in found.steps if step.description.startswith("Make")]


@pytest.mark.parametrize(
    ("layout", "health", "said"),
    [
        ("thin,sparse", "", "/dev/os/srv: expected a linear logical volume, found one that is thin,sparse"),
        ("thin,pool", "", "/dev/os/srv: expected a linear logical volume, found one that is thin,pool"),
        ("cache", "", "/dev/os/srv: expected a linear logical volume, found one that is cache"),
        ("raid,raid1", "partial", "/dev/os/srv: LVM says that it is not well (partial); mend it first, see lvs(8)"),
        ("linear", "partial", "/dev/os/srv: LVM says that it is not well (partial); mend it first, see lvs(8)"),
    ],
)
@pytest.mark.pain("snapshots")
def test_what_shares_blocks_or_is_not_well_is_refused(layout: str, health: str, said: str) -> None:
    with pytest.raises(DisksDiffer) as caught:
        plan("verify", deployed(layout, health))
    assert list(caught.value.differences) == [said]
    assert plan("clean", deployed(layout, health)).steps
