# SPDX-License-Identifier: Apache-2.0
"""Disks with what earlier systems left on them, cleared and given a new table: nothing of the old is found again.

No virtual machine: the disks are loop devices of this machine.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.errors import ActionFailed, CommandError
from bareon.storage.allocate import FIRST
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.storage.gpt import ClearDisk, entries
from bareon.tools import blkid, lsblk, sfdisk, udev
from building.process import ProgramError, run
from tests_functional.bench.cell import SCRATCH

MIB = 1 << 20
SIZE = 160 * MIB
GUID = "c0ffee00-0000-4000-8000-00000000000{}"


@contextmanager
def disk(file: Path, sector: int = 512) -> Iterator[str]:
    """The file as a disk with such sectors, whose partitions the kernel looks for."""
    found = run(["losetup", "--find", "--show", "--partscan", "--sector-size", str(sector), file], timeout=20)
    device = found.stdout.strip()
    try:
        yield device
    finally:
        with suppress(ProgramError):
            run(["partx", "--delete", device], timeout=20)
        run(["losetup", "--detach", device], timeout=20)


@pytest.fixture
def file() -> Iterator[Path]:
    """A file in memory, of the size of a disk."""
    found = SCRATCH / "stale"
    found.touch()
    os.truncate(found, SIZE)
    yield found
    found.unlink()


def scripted(device: str, text: str) -> None:
    """Write a table by a script of sfdisk's."""
    run(["sfdisk", "--quiet", "--force", "--wipe=always", device], timeout=30, stdin=text)


def poked(place: str, offset: int, data: bytes) -> None:
    """Write bytes somewhere on a disk."""
    with Path(place).open("r+b") as out:
        out.seek(offset)
        out.write(data)


GPT = "label: gpt\nsize=40MiB\nsize=20MiB\n"


def hybrid(device: str) -> None:
    """A GPT whose MBR lists one of its partitions besides."""
    scripted(device, GPT)
    poked(device, 446 + 16, struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\0\2\0", 2048, 81920))


def without_primary(device: str) -> None:
    scripted(device, GPT)
    poked(device, 512, b"\xff" * 512)


def without_backup(device: str) -> None:
    scripted(device, GPT)
    poked(device, SIZE - 512, b"\xff" * 512)


def many(device: str) -> None:
    """A GPT with room for more entries than is usual, in use beyond those."""
    entries = "".join(f"{number}: start={2048 + number * 64}, size=32\n" for number in (1, 2, 129, 200))
    scripted(device, f"label: gpt\ntable-length: 256\nfirst-lba: 2048\n{entries}")


def zfs(device: str) -> None:
    """The labels of a pool: four of them, each with its uberblocks; zfs_vdev_label in OpenZFS."""
    for start in (0, 256 << 10, SIZE - (512 << 10), SIZE - (256 << 10)):
        for number in range(8):
            poked(device, start + (128 << 10) + number * 1024, struct.pack("<QQQ", 0x00BAB10C, 5000, number + 1))


def btrfs(device: str) -> None:
    """A file system whose second superblock lies at 64 MiB."""
    run(["mkfs.btrfs", "-q", "-f", device], timeout=60)


def luks(device: str) -> None:
    """A container with both of its headers."""
    command = [
        "cryptsetup",
        "luksFormat",
        "--batch-mode",
        "--type=luks2",
        "--pbkdf=pbkdf2",
        "--pbkdf-force-iterations=1000",
    ]
    run([*command, "--key-file=-", device], timeout=60, stdin="key")


STALE: dict[str, tuple[Callable[[str], None], int]] = {
    "hybrid-mbr": (hybrid, 512),
    "corrupt-primary": (without_primary, 512),
    "corrupt-backup": (without_backup, 512),
    "large-sectors": (lambda device: scripted(device, GPT), 4096),
    "many-entries": (many, 512),
    "zfs": (zfs, 512),
    "btrfs": (btrfs, 512),
    "luks": (luks, 512),
}


def partitions(device: str) -> tuple[str, ...]:
    """The partitions that the table has now, in any form that sfdisk reads."""
    with suppress(CommandError):
        return tuple(entry.device for entry in sfdisk.read(device).entries)
    return ()


def cleared(device: str) -> ClearDisk:
    now = lsblk.size(device), lsblk.sequence(device)
    return ClearDisk("do_partitioning", device, partitions(device), (), False, *now)


def write(device: str) -> None:
    """Write a new table as bareon does; the kernel of this machine may look for no partitions by itself."""
    parts = (
        PlannedPartition(f"{device}p1", 24 * MIB, number=1, start=MIB, role="bios_grub", guid=GUID.format(1)),
        PlannedPartition(f"{device}p2", 100 * MIB, number=2, start=25 * MIB, role="volume", guid=GUID.format(2)),
    )
    disk = PlannedDisk(device, SIZE, 512, GUID.format(9), parts)
    sfdisk.write(device, sfdisk.script(disk.guid, disk.sector, FIRST, entries(disk.partitions)))
    run(["partx", "--update", device], timeout=20)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("hybrid-mbr", marks=pytest.mark.pain("hybrid-mbr")),
        pytest.param("corrupt-primary", marks=pytest.mark.pain("corrupt-tables")),
        pytest.param("corrupt-backup", marks=pytest.mark.pain("corrupt-tables")),
        pytest.param("large-sectors", marks=pytest.mark.pain("tables-of-other-sectors")),
        pytest.param("many-entries", marks=pytest.mark.pain("many-partitions")),
        pytest.param("zfs", marks=pytest.mark.pain("bcache-and-zfs")),
        pytest.param("btrfs", marks=pytest.mark.pain("old-content-returns")),
        pytest.param("luks", marks=pytest.mark.pain("open-containers")),
    ],
)
def test_nothing_of_it_is_there_afterwards(name: str, file: Path) -> None:
    make, sector = STALE[name]
    with disk(file, sector) as device:
        make(device)
        os.sync()
        assert sector != 512 or blkid.probe([device]).get(device), "there was nothing to begin with"
    with disk(file) as device:  # as another controller shows it, whose sectors may be others
        cleared(device).run(lambda done, total: None)
        write(device)
        parts = [f"{device}p1", f"{device}p2"]
        assert partitions(device) == tuple(parts)
        assert not any(blkid.probe(parts).values())
        assert blkid.probe([device])[device].get("PTTYPE") == "gpt"
        verified = run(["sfdisk", "--verify", device], timeout=20)
        assert "corrupt" not in verified.stdout + verified.stderr
    if sector != 512:
        with disk(file, sector) as device:  # nor as the old one showed it, but for what protects the new table
            assert blkid.probe([device]).get(device, {}).get("PTTYPE") != "gpt"
            assert [entry.type for entry in sfdisk.read(device).entries] == ["ee"]


@pytest.mark.pain("stale-link")
def test_another_disk_under_the_name_is_not_cleared(file: Path) -> None:
    with disk(file) as device:
        btrfs(device)
        step = cleared(device)
    content = file.read_bytes()
    with disk(file) as again:  # which may have another name here, and has another number as after any such change
        now = lsblk.sequence(again)
        assert now and now != step.sequence
        with pytest.raises(ActionFailed, match="is another disk than when the plan was made"):
            replace(step, device=again).run(lambda done, total: None)
    assert file.read_bytes() == content


@pytest.mark.pain("settle-is-not-enough", "slow-udev")
def test_a_partition_that_is_late_is_waited_for(file: Path) -> None:
    with disk(file) as device:
        scripted(device, GPT)
        with suppress(ProgramError):
            run(["partx", "--delete", device], timeout=20)
        late = threading.Timer(1.5, run, [["partx", "--add", device]], {"timeout": 20})
        started = time.monotonic()
        late.start()
        udev.wait_for({f"{device}p1": 40 * MIB, f"{device}p2": 20 * MIB}, seconds=20.0)
        assert 1.0 < time.monotonic() - started < 20.0
        late.join()
        for wrong in ({f"{device}p1": 41 * MIB}, {f"{device}p3": None}):
            with pytest.raises(ActionFailed, match=r"not there, or not of its size, after 1 s: /dev/loop\d+p[13]$"):
                udev.wait_for(wrong, seconds=1.0)
