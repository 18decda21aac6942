# SPDX-License-Identifier: Apache-2.0
"""Disks that say odd things of themselves: of their I/O, their health, and whether they can be written."""

from __future__ import annotations

import json
import uuid
from contextlib import nullcontext
from dataclasses import replace

import pytest

from bareon import probe, tools
from bareon.actions.base import Action
from bareon.actions.copyimage import CopyImage
from bareon.actions.partitioning import Partitioning
from bareon.actions.reboot import Reboot
from bareon.decide import decide
from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy.rsync import Rsync
from bareon.errors import UnsuitableNode
from bareon.facts import SECTORS, from_json
from bareon.plan.fingerprint import fingerprint
from bareon.sizes import GIB, MIB, Absolute
from bareon.storage import gpt
from bareon.storage.allocate import FIRST
from bareon.storage.disk import Disk, DiskFacts, DiskId, Partition
from bareon.storage.filesystem import allocation_groups
from bareon.storage.identifier import Identifiers
from bareon.tests import cases
from bareon.tests.cases import HERE, SEED, load


@pytest.mark.parametrize("sector", SECTORS)
@pytest.mark.pain("optimal-io-size")
def test_field_51_a_table_says_where_its_first_partition_may_start(sector: int) -> None:
    """Else that would be a matter of the disk's optimal I/O size. UEFI 5.3.2: two sectors, then the 128 entries."""
    wanted = Disk(DiskId("name", "vda"), None, (Partition(Absolute(100 * MIB), None),))
    disk = gpt.disk_layout(wanted, DiskFacts("/dev/vda", GIB, logical_sector=sector), Identifiers(uuid.UUID(int=7)))
    lines = tools.sfdisk.script(disk.guid, disk.sector, FIRST, gpt.entries(disk.partitions)).splitlines()
    (first,) = (int(line.removeprefix("first-lba: ")) for line in lines if line.startswith("first-lba: "))
    assert first * sector == disk.partitions[0].start
    assert first >= 2 + -(-gpt.MAX_PARTITIONS * 128 // sector)


def test_field_51_facts_of_an_older_bareon_say_nothing_of_health() -> None:
    disk = from_json({"format": 1, "firmware": "bios", "disks": [{"device": "/dev/sda", "size": GIB}]}).disks[0]
    assert (disk.health, disk.health_words, disk.read_only, disk.zoned) == ("unknown", (), False, "none")
    assert disk.unwritable is None


def test_field_51_health_is_one_of_three_words() -> None:
    with pytest.raises(ValueError, match=r"\$\.disks\[0\]\.health: expected one of ok, failing, unknown"):
        from_json({"format": 1, "firmware": "bios", "disks": [{"device": "/dev/sda", "size": GIB, "health": "bad"}]})


@pytest.mark.parametrize(("action", "refused"), [(Partitioning(), True), (CopyImage(), True), (Reboot(), False)])
def test_field_51_who_makes_nothing_may_have_failing_disks(action: Action, refused: bool) -> None:
    case = load(HERE / "cases/plan/verify-keeps.yaml")
    node = cases.node(case["node"])
    node = replace(node, disks=tuple(replace(disk, health="failing") for disk in node.disks))
    deployment = Ironic().parse(json.dumps(case["input"]).encode())
    decision = decide(deployment, node, [action], Rsync(), SEED)
    with pytest.raises(UnsuitableNode, match=r"^/dev/sda .*is failing") if refused else nullcontext():
        assert decision.check_health(allowed=False).plan.warnings == decision.plan.warnings


def test_field_51_health_is_no_part_of_a_saved_plan() -> None:
    node = cases.node("failing")
    worse = replace(node, disks=tuple(replace(disk, health="failing", health_words=("x",)) for disk in node.disks))
    disks = [disk.device for disk in node.disks]
    assert fingerprint(SEED, b"{}", node, disks) == fingerprint(SEED, b"{}", worse, disks)


@pytest.mark.parametrize(
    ("kind", "size", "striped", "groups"),
    [
        ("xfs", 300 * MIB, False, 4),
        ("xfs", 4096 * GIB - MIB, False, 4),
        ("xfs", 4096 * GIB, False, None),  # a group has 1 TiB less a block
        ("xfs", 100 * GIB, True, None),
        ("ext4", 100 * GIB, False, None),
    ],
)
def test_field_51_xfs_has_no_group_for_each_processor(
    kind: str, size: int, striped: bool, groups: int | None
) -> None:
    assert allocation_groups(kind, size, striped=striped) == groups


def test_field_51_without_smartctl_nothing_is_known_of_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert probe.health(["/dev/null"]) == {}
