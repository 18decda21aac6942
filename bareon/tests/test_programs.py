# SPDX-License-Identifier: Apache-2.0
"""The programs that a run demands are those that its steps start, and no others."""

from __future__ import annotations

import json

import pytest

from bareon.actions.copyimage import CopyImage
from bareon.decide import decide
from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy.rsync import Rsync
from bareon.tests.cases import HERE, SEED, load, node, plan_of
from bareon.tests.simulation import after


@pytest.mark.parametrize(
    ("name", "first", "demanded"),
    [("raid1-root", "Start array /dev/md/boot", "mdadm"), ("lvm-two-disks", "Activate volume group os", "lvm")],
)
def test_what_is_started_demands_its_own_programs(name: str, first: str, demanded: str) -> None:
    case = load(HERE / "cases" / "plan" / f"{name}.yaml")
    stopped = after(plan_of(case).layout, node(case["node"]))
    case["input"]["images"] = [{"name": "debian", "image_pull_url": "rsync://server/debian"}]
    deployment = Ironic().parse(json.dumps(case["input"]).encode())
    decision = decide(deployment, stopped, [CopyImage()], Rsync(), SEED)
    assert decision.plan.steps[0].description == first
    assert decision.programs & {"lvm", "mdadm", "udevadm"} == {demanded, "udevadm"}
