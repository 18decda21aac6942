# SPDX-License-Identifier: Apache-2.0
"""Disks that say odd things of themselves: of their I/O, their health, and whether they can be written."""

from __future__ import annotations

import uuid

import pytest

from bareon import tools
from bareon.facts import SECTORS
from bareon.sizes import GIB, MIB, Absolute
from bareon.storage import gpt
from bareon.storage.allocate import FIRST
from bareon.storage.disk import Disk, DiskFacts, DiskId, Partition
from bareon.storage.filesystem import allocation_groups
from bareon.storage.identifier import Identifiers


@pytest.mark.parametrize("sector", SECTORS)
def test_field_51_a_table_says_where_its_first_partition_may_start(sector: int) -> None:
    """Else that would be a matter of the disk's optimal I/O size. UEFI 5.3.2: two sectors, then the 128 entries."""
    wanted = Disk(DiskId("name", "vda"), None, (Partition(Absolute(100 * MIB), None),))
    disk = gpt.disk_layout(wanted, DiskFacts("/dev/vda", GIB, logical_sector=sector), Identifiers(uuid.UUID(int=7)))
    lines = tools.sfdisk.script(disk.guid, disk.sector, FIRST, gpt.entries(disk)).splitlines()
    (first,) = (int(line.removeprefix("first-lba: ")) for line in lines if line.startswith("first-lba: "))
    assert first * sector == disk.partitions[0].start
    assert first >= 2 + -(-gpt.MAX_PARTITIONS * 128 // sector)


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
