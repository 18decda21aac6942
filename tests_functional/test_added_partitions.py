# SPDX-License-Identifier: Apache-2.0
"""Partitions added to a table with others, by the real sfdisk: not a byte of those or of their entries changes.

No virtual machine: the disk is a loop device of this machine, whose kernel makes no partitions of it. It has no
parted either. What these say is in the case ``image_added``.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from bareon.errors import ActionFailed
from bareon.storage import gpt
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.tools import parted, partx, sfdisk, udev
from building.process import run
from tests_functional.bench import loop

MIB = 1 << 20
SIZE = 64 * MIB
#: As other programs may have made it: gaps, an odd name, attributes, a number that is left out, an unaligned start.
SCRIPT = """\
label: gpt
label-id: C0FFEE00-0000-4000-8000-000000000001
first-lba: 34

1 : start=2048, size=8192, type=21686148-6449-6E6F-744E-656564454649, name="bios_grub"
2 : start=10241, size=20000, name="ä b", attrs="RequiredPartition LegacyBIOSBootable GUID:48,63"
4 : start=40960, size=4096, type=E6D6D379-F507-44C2-A23C-238F2A3DF928
"""
ENTRY = 128  # bytes
SECTOR = 512


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A file and its device, random bytes in all that is no table."""
    monkeypatch.setattr(partx, "add", lambda device, first, last: None)
    monkeypatch.setattr(parted, "read", lambda device: ("gpt", _seen(device)))
    monkeypatch.setattr(udev, "wait_for", lambda sizes: None)
    file = tmp_path / "disk"
    file.write_bytes(random.Random(7).randbytes(SIZE))
    run(["sfdisk", "--quiet", "--wipe=always", "--wipe-partitions=never", file], timeout=30, stdin=SCRIPT)
    with loop.attached(file) as device:
        yield file, str(device)


def _seen(device: str) -> tuple[parted.Seen, ...]:
    return tuple(parted.Seen(x.number, x.start, x.size) for x in sfdisk.read(device).entries)


def _step(device: str, *new: tuple[int, int, int]) -> gpt.AddPartitions:
    """The step that adds partitions: number, start and size in MiB."""
    kept = [
        PlannedPartition(f"{device}p{x.number}", x.size, x.number, x.start, "volume", x.guid or "", decision="keep")
        for x in sfdisk.read(device).entries
    ]
    guid = "C0FFEE00-0000-4000-8000-0000000001"
    added = [
        PlannedPartition(f"{device}p{n}", size * MIB, n, start * MIB, "volume", f"{guid}0{n}")
        for n, start, size in new
    ]
    return gpt.AddPartitions("do_partitioning", PlannedDisk(device, SIZE, SECTOR, "", (*kept, *added)))


def _entries(content: bytes, header: int) -> bytes:
    """The entries of a table by its header, which begins at that byte."""
    place, count, size = struct.unpack_from("<QII", content, header + 72)
    assert (content[header : header + 8], size) == (b"EFI PART", ENTRY)
    return content[place * SECTOR : place * SECTOR + count * size]


def test_no_byte_of_what_is_there_changes(disk: tuple[Path, str]) -> None:
    file, device = disk
    before = file.read_bytes()
    step = _step(device, (5, 24, 8), (6, 32, 16))
    step.preflight()
    assert step.run(lambda done, size: None) == {"partitions": 2}
    after = file.read_bytes()
    for header in (SECTOR, SIZE - SECTOR):
        old, new = _entries(before, header), _entries(after, header)
        assert new[: 4 * ENTRY] == old[: 4 * ENTRY]
        assert new[6 * ENTRY :] == old[6 * ENTRY :] == bytes(122 * ENTRY)
    tables = {*range(34), *range(SIZE // SECTOR - 33, SIZE // SECTOR)}
    places = range(0, SIZE, SECTOR)
    changed = {n // SECTOR for n in places if before[n : n + SECTOR] != after[n : n + SECTOR]}
    assert changed <= tables
    assert changed & tables
    guids = [(x.number, x.start, x.size, x.guid) for x in sfdisk.read(device).entries[-2:]]
    assert guids == [
        (5, 24 * MIB, 8 * MIB, "C0FFEE00-0000-4000-8000-000000000105"),
        (6, 32 * MIB, 16 * MIB, "C0FFEE00-0000-4000-8000-000000000106"),
    ]


def test_an_old_signature_in_the_room_of_a_new_one_goes(disk: tuple[Path, str], tmp_path: Path) -> None:
    file, device = disk
    old = tmp_path / "old"
    old.write_bytes(bytes(8 * MIB))
    run(["mkfs.ext4", "-q", "-F", old], timeout=30)
    with file.open("r+b") as opened:
        opened.seek(24 * MIB)
        opened.write(old.read_bytes())
    magic = 24 * MIB + 1080
    assert file.read_bytes()[magic : magic + 2] == b"\x53\xef"
    _step(device, (5, 24, 8)).run(lambda done, size: None)
    assert file.read_bytes()[magic : magic + 2] != b"\x53\xef"


@pytest.mark.parametrize("new", [(5, 20, 8), (5, 60, 8), (2, 24, 8)])
def test_what_has_no_place_changes_nothing(disk: tuple[Path, str], new: tuple[int, int, int]) -> None:
    """Inside another one, beyond the end of the disk, with a number that is taken: as of a table that has changed."""
    file, device = disk
    before = file.read_bytes()
    with pytest.raises(ActionFailed):
        _step(device, new).run(lambda done, size: None)
    assert file.read_bytes() == before
