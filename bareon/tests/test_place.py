# SPDX-License-Identifier: Apache-2.0
"""What the model says in general and only some inputs ask for: volumes of several places, room for any firmware."""

from __future__ import annotations

from typing import Any

import pytest

from bareon.layout.bootplace import placed
from bareon.layout.build import build
from bareon.model.deployment import Deployment, InterfaceName
from bareon.model.node import NodeFacts
from bareon.sizes import MIB, Absolute
from bareon.storage.disk import Disk, DiskFacts, DiskId, DiskIds, Partition
from bareon.storage.filesystem import Filesystem, Mount
from bareon.storage.identifier import NoIdentifiers
from bareon.system.bindings import interface
from bareon.tools import lvm

BOOT = Partition(Absolute(MIB), Filesystem("ext4", (Mount("/boot"),)), one_of=True)
OTHER = Partition(Absolute(MIB), Filesystem("ext4", (Mount("/"),)))


def deployment(*volumes: tuple[Partition, ...]) -> Deployment:
    return Deployment("clean", tuple(Disk(DiskId("name", str(i)), None, x) for i, x in enumerate(volumes)))


def test_nothing_to_place() -> None:
    wanted = deployment((OTHER,))
    assert placed(wanted) is wanted


def test_a_disk_that_is_left_without_volumes_is_none() -> None:
    found = placed(deployment((BOOT,), (OTHER, BOOT), (BOOT,)))
    assert [(disk.id, len(disk.volumes)) for disk in found.disks] == [(DiskId("name", "1"), 2)]
    assert not any(x.one_of for x in found.disks[0].volumes)


def test_two_places_on_one_disk() -> None:
    found = placed(deployment((BOOT, OTHER, BOOT)))
    assert [fs.point for fs in found.filesystems()] == ["/boot", "/"]


@pytest.mark.parametrize(
    ("firmware", "sector", "expected"),
    [
        ("bios", 512, [("bios_grub", 24), ("volume", 200)]),
        ("uefi", 512, [("bios_grub", 24), ("esp", 200)]),
        ("uefi", 4096, [("bios_grub", 24), ("esp", 260)]),
        ("bios", 4096, [("bios_grub", 24), ("volume", 260)]),
    ],
)
def test_room_for_any_firmware(firmware: Any, sector: int, expected: list[tuple[str, int]]) -> None:
    disk = Disk(DiskId("name", "a"), None, (), any_firmware=True)
    node = NodeFacts(firmware, (DiskFacts("/dev/a", 1000 * MIB, logical_sector=sector),))
    layout = build(Deployment("clean", (disk,)), node, NoIdentifiers())
    assert [(x.role, x.size) for x in layout.disks[0].partitions] == [(role, size * MIB) for role, size in expected]


def test_identities_in_words() -> None:
    ids = DiskIds(((DiskId("path", "a"), DiskId("path", "b")), (DiskId("name", "sda"),)))
    assert str(ids) == "path 'a' or path 'b', else name 'sda'"


def test_names_of_interfaces() -> None:
    text = interface.render([InterfaceName("08:00:27:79:da:80", "eth0")])
    assert text.splitlines()[1:] == [
        'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{type}=="1", ATTR{address}=="08:00:27:79:da:80",'
        ' NAME="eth0"'
    ]


@pytest.mark.parametrize(("backup", "expected"), [(0, "29184k"), (28 * MIB, "28672k --metadatacopies 2")])
def test_copies_of_metadata(backup: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(lvm, "run", lambda argv: seen.extend(argv[1:]))
    lvm.create_physical_volume("/dev/x", 29 * MIB, backup)
    words = seen[seen.index("--metadatasize") + 1], *seen[7 : seen.index("--metadatasize")]
    assert " ".join(words) == expected
