# SPDX-License-Identifier: Apache-2.0
"""Whatever machines say of their disks, an identity means one disk and the same one each time, or none."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from bareon import probe
from bareon.errors import UnsuitableNode
from bareon.layout.match import match_disks
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.storage.disk import Disk, DiskFacts, DiskId, DiskRule
from bareon.tests import cases
from bareon.tools import lsblk

NODE = cases.node("eight-disks")
ROW = {
    **{"type": "disk", "size": 1 << 30, "ro": False, "rm": False, "maj:min": "8:0"},
    **dict.fromkeys(("log-sec", "phy-sec", "model", "serial", "wwn", "hctl", "tran", "pkname")),
}


def _found(node: NodeFacts, *wanted: DiskId | DiskRule) -> list[DiskFacts]:
    disks = tuple(Disk(x, None, (), f"$.disks[{i}]") for i, x in enumerate(wanted))
    return list(match_disks(Deployment("clean", disks), node))


def _started_again(node: NodeFacts, dice: random.Random) -> NodeFacts:
    """The node as it may be after its next start: its SCSI disks have each other's names and addresses."""
    scsi = [disk for disk in node.disks if disk.scsi]
    others = dice.sample(scsi, len(scsi))
    names = {one.device: (other.device, other.scsi) for one, other in zip(scsi, others, strict=True)}
    disks = [
        replace(disk, device=names[disk.device][0], scsi=names[disk.device][1]) if disk.device in names else disk
        for disk in node.disks
    ]
    return replace(node, disks=tuple(dice.sample(disks, len(disks))))


@pytest.mark.pain("names-that-change")
@pytest.mark.parametrize("start", range(20))
def test_a_disk_is_the_same_whatever_it_is_called(start: int) -> None:
    wanted = (
        DiskId("serial", "S-2"),
        DiskId("wwn", "0x5000c500a0000001"),
        DiskId("path", "disk/by-path/pci-0000:00:17.0-ata-2"),
        DiskRule(transport="sata", rotational=False, pick="first"),
        DiskRule(transport="nvme", pick="largest"),
    )
    found = _found(_started_again(NODE, random.Random(start)), *wanted)
    assert [(disk.serial, disk.wwn) for disk in found] == [
        ("S-2", "0x55cd2e41500000a2"),
        ("T-1", "0x5000c500a0000001"),
        ("T-2", "0x5000c500a0000002"),
        ("S-1", "0x55cd2e41500000a1"),
        ("N-1", "eui.00253800000000a2"),
    ]


def _read(*rows: dict[str, Any]) -> list[lsblk.BlockDevice]:
    full = [{**ROW, "path": f"/dev/{row['kname']}", **row} for row in rows]
    return lsblk.parse(json.dumps({"blockdevices": full}))


@pytest.mark.pain("blanks-in-serials")
def test_blanks_around_a_serial_number_do_not_count() -> None:
    read = _read(
        {"kname": "sda", "serial": "     WD-WCC4N1", "model": "WDC WD40   "},
        {"kname": "sdb", "serial": "WD WCC4N2     ", "wwn": " "},
        {"kname": "sdc", "serial": "      "},
    )
    assert [(x.serial, x.model, x.wwn) for x in read] == [
        ("WD-WCC4N1", "WDC WD40", None),
        ("WD WCC4N2", None, None),
        (None, None, None),
    ]
    node = NodeFacts("bios", tuple(DiskFacts(x.path, x.size, serial=x.serial) for x in read))
    for wanted, device in (("     WD-WCC4N1", "/dev/sda"), ("WD-WCC4N1 ", "/dev/sda"), ("WD WCC4N2  ", "/dev/sdb")):
        assert [disk.device for disk in _found(node, DiskId("serial", wanted))] == [device]


@pytest.mark.pain("blanks-in-serials", "another-than-named", "no-serial")
@pytest.mark.parametrize("wanted", ["WD  WCC4N2", "WDWCC4N2", " ", "WD", "none", "None"])
def test_no_other_serial_number_is_the_same(wanted: str) -> None:
    disks = (DiskFacts("/dev/sda", 1 << 30, serial="WD WCC4N2"), DiskFacts("/dev/sdb", 1 << 30))
    with pytest.raises(UnsuitableNode, match=r"no disk with serial .*/dev/sda \(1 GiB, serial WD WCC4N2\)"):
        _found(NodeFacts("bios", disks), DiskId("serial", wanted))


@pytest.mark.pain("installers-own-disk", "no-disk-at-all")
def test_memory_and_floppies_are_not_even_read() -> None:
    names = ("ram0", "ram15", "zram0", "fd0", "sda", "nvme0n1", "vda", "mmcblk0", "pmem0")
    assert [x.name for x in _read(*({"kname": x} for x in names)) if not probe.is_passed_over(x)] == list(names[4:])
