# SPDX-License-Identifier: Apache-2.0
"""Which images of whole disks come as blocks where nobody says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy.asblocks import as_blocks
from bareon.tests.test_parts import BIOS, BOOT, DATA, ESP, ROOT, entry
from bareon.transfer.disk import WholeDisk
from bareon.transfer.image import Offer
from bareon.transfer.partitions import Table
from bareon.transfer.superblock import Superblock

EXT4, XFS = Superblock("ext4"), Superblock("xfs")
MIB = 1 << 20
VOLUMES: list[dict[str, Any]] = [
    {"type": "partition", "mount": "/boot", "size": "200 MiB", "file_system": "ext4"},
    {"type": "pv", "vg": "os", "size": "remaining"},
]
LVS: list[dict[str, Any]] = [
    {"type": "lv", "name": "root", "mount": "/", "size": "2 GiB", "file_system": "xfs"},
    {"type": "lv", "name": "srv", "mount": "/srv", "size": "remaining", "file_system": "ext4"},
]


def disk(*kinds: str, size: int = MIB, **contents: Superblock) -> WholeDisk:
    """An image with partitions of such types; ``contents`` are named ``p1``, ``p2`` and so on."""
    entries = tuple(entry(number, kind) for number, kind in enumerate(kinds, 1))
    entries = tuple(type(x)(x.number, x.start, size, x.type, x.guid) for x in entries)
    found = {int(name[1:]): content for name, content in contents.items()}
    return WholeDisk(Offer(None, None, "raw"), Table("gpt", 512, entries), found, b"")


def parts(
    of: WholeDisk,
    *more: dict[str, Any],
    policy: str = "clean",
    root: dict[str, Any] | None = None,
    boot: dict[str, Any] | None = None,
) -> list[tuple[int | str, str]]:
    """Partitions and targets of what comes as blocks onto that layout, with changes of two of its volumes."""
    volumes = [{**VOLUMES[0], **(boot or {})}, *VOLUMES[1:], *more]
    group = {"type": "vg", "id": "os", "volumes": [{**LVS[0], **(root or {})}, *LVS[1:]]}
    given = {
        "partitions_policy": policy,
        "partitions": [{"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": volumes}, group],
        "images": [{"name": "a", "image_pull_url": "http://server/a.qcow2"}],
    }
    deployment = Ironic().parse(json.dumps(given).encode())
    found = as_blocks(deployment.images[0], deployment, of)
    assert all(x.form == "block" and x.found for x in found)
    return [(x.partition, x.target) for x in found]


VENDOR = disk(BIOS, ESP, ROOT, BOOT, p2=Superblock("vfat"), p3=XFS, p4=EXT4)


def test_each_part_has_a_volume_of_its_own() -> None:
    assert parts(VENDOR) == [(3, "/"), (4, "/boot")]
    assert parts(disk(DATA, p1=XFS)) == [(1, "/")]


@pytest.mark.parametrize(
    "of",
    [
        disk(ROOT, BOOT, p1=EXT4, p2=EXT4),  # another type than that of the volume
        disk(ROOT, BOOT, p1=XFS),  # of which nobody knows what is in it
        disk(ROOT, DATA, p1=XFS, p2=EXT4),  # whose place the fstab alone knows
        disk(ROOT, BOOT, p1=XFS, p2=EXT4, size=201 * MIB),  # with more than the volume holds
        disk(ROOT, BOOT, p1=XFS, p2=EXT4, size=2049 * MIB),
    ],
)
def test_others_come_as_trees(of: WholeDisk) -> None:
    assert parts(of) == []


def test_volumes_that_take_no_blocks() -> None:
    btrfs = disk(ROOT, BOOT, p1=Superblock("btrfs"), p2=EXT4)
    assert parts(btrfs, root={"file_system": "btrfs"}) == []
    assert parts(VENDOR, root={"mkfs_options": ["-i size=1024"]}) == []
    assert parts(VENDOR, boot={"mount": "/other"}) == []
    esp = {"type": "partition", "mount": "/boot/efi", "size": "100 MiB", "file_system": "vfat"}
    assert parts(VENDOR, esp) == []


def test_what_may_be_kept_gets_files() -> None:
    assert parts(VENDOR, policy="verify") == []
    anew = {"keep_data": False}
    assert parts(VENDOR, policy="verify", root=anew) == []
    assert parts(VENDOR, policy="verify", root=anew, boot=anew) == [(3, "/"), (4, "/boot")]
