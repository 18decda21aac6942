# SPDX-License-Identifier: Apache-2.0
"""Partition tables of images, from their bytes: as sfdisk writes them, and such that nobody should believe."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from bareon.errors import ImageFailed
from bareon.model.image import Digest, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer.disk import Transfer, stage_parts, survey
from bareon.transfer.format import HEAD
from bareon.transfer.partitions import Entry, Table, read_table

MIB = 1 << 20
SIZE = 64 * MIB
ROOT = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
sfdisk = pytest.mark.skipif(not shutil.which("sfdisk"), reason="needs sfdisk")


def table(data: bytes, size: int | None = SIZE) -> Table | None:
    return read_table(lambda offset, length: data[offset : offset + length], size)


def refused(data: bytes, size: int | None = SIZE) -> str:
    with pytest.raises(ImageFailed) as caught:
        table(data, size)
    return str(caught.value)


def made(place: Path, script: str) -> bytearray:
    """A disk that sfdisk has made."""
    disk = place / "disk"
    with disk.open("wb") as file:
        file.truncate(SIZE)
    program = shutil.which("sfdisk") or "sfdisk"
    subprocess.run([program, "--quiet", str(disk)], input=script, text=True, check=True)
    return bytearray(disk.read_bytes())


def gpt(*entries: tuple[int, int], sector: int = 512, count: int = 128, each: int = 128, last: int = 0) -> bytearray:
    """The beginning of a disk with partitions from one sector to another."""
    listed = bytearray(count * each)
    for index, (first, end) in enumerate(entries):
        name = f"p{index + 1}".encode("utf-16-le")
        struct.pack_into(
            "<16s16sQQQ72s", listed, index * each, b"\1" * 16, bytes([index + 1]) * 16, first, end, 0, name
        )
    head = bytearray(92)
    last = last or SIZE // sector - 34
    values = (b"EFI PART", 1 << 16, 92, 0, 0, 1, SIZE // sector - 1, 34, last, bytes(16), 2, count, each)
    struct.pack_into("<8sIIIIQQQQ16sQIII", head, 0, *values, zlib.crc32(listed))
    head[16:20] = struct.pack("<I", zlib.crc32(head))
    return bytearray(sector) + head + bytes(sector - 92) + listed


def mbr(*entries: tuple[int, int, int]) -> bytes:
    block = bytearray(512)
    for index, (kind, start, count) in enumerate(entries):
        struct.pack_into("<B3xB3xII", block, 446 + 16 * index, 0, kind, start, count)
    return bytes(block[:510]) + b"\x55\xaa"


@sfdisk
def test_a_gpt_of_sfdisk(tmp_path: Path) -> None:
    script = (
        f"label: gpt\nsize=8MiB, type={ROOT}, name=röot, uuid=11111111-2222-3333-4444-55555555555a\n15: size=4MiB\n"
    )
    found = table(bytes(made(tmp_path, script)))
    assert found
    assert (found.kind, found.sector) == ("gpt", 512)
    first, second = found.partitions
    assert first == Entry(1, MIB, 8 * MIB, ROOT, "11111111-2222-3333-4444-55555555555A", "röot")
    assert (second.number, second.start, second.size, second.name) == (15, 9 * MIB, 4 * MIB, "")
    assert found.end == 13 * MIB


@sfdisk
def test_an_mbr_of_sfdisk(tmp_path: Path) -> None:
    script = "label: dos\nlabel-id: 0xdeadbeef\nsize=4MiB, type=ef\nsize=32MiB, type=5\n"
    script += "5: size=8MiB\n6: size=4MiB, type=82\n"
    found = table(bytes(made(tmp_path, script)))
    assert found
    assert [(x.number, x.type, x.size, x.guid) for x in found.partitions] == [
        (1, "0xef", 4 * MIB, "DEADBEEF-01"),
        (5, "0x83", 8 * MIB, "DEADBEEF-05"),
        (6, "0x82", 4 * MIB, "DEADBEEF-06"),
    ]
    assert found.partitions[1].start == 6 * MIB


@pytest.mark.parametrize("data", [b"", bytes(8192), bytes(510) + b"\x55\xaa" + bytes(4096)])
def test_no_table(data: bytes) -> None:
    assert table(data) is None


def changed(data: bytearray, offset: int, content: bytes) -> bytes:
    return bytes(data[:offset]) + content + bytes(data[offset + len(content) :])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (changed(gpt((40, 80)), 512 + 30, b"\1"), "the check sum of its header is wrong"),
        (changed(gpt((40, 80)), 1024 + 60, b"\1"), "the check sum of its partitions is wrong"),
        (changed(gpt((40, 80)), 512 + 12, b"\xff\xff"), "no such length of a header"),
        (bytes(gpt((40, 80))[:1500]), "cannot be read whole"),
        (bytes(gpt((40, 80))[:520]), "is cut off"),
        (bytes(gpt((40, 80), count=4096)), "larger than any honest one"),
        (bytes(gpt(each=64)), "larger than any honest one"),
        (bytes(gpt((80, 40))), "partition 1 lies outside of the disk"),
        (bytes(gpt((10, 40))), "partition 1 lies outside of the disk"),
        (bytes(gpt((40, SIZE))), "partition 1 lies outside of the disk"),
        (bytes(gpt((40, 80), (80, 90))), "partitions 1 and 2 overlap"),
        (bytes(gpt((40, 80), (50, 60))), "partitions 1 and 2 overlap"),
        (bytes(gpt((40, SIZE), last=SIZE)), "it is cut short"),
        (mbr((0xEE, 1, 100)), "says that a GPT follows"),
        (mbr((0x83, 0, 100)), "partition 1 has no place"),
        (mbr((0x83, 10, 0)), "partition 1 has no place"),
        (mbr((0x83, 10, 100), (0x83, 109, 1)), "partitions 1 and 2 overlap"),
        (mbr((0x83, 10, SIZE)), "it is cut short"),
        (mbr((5, 1, 100), (5, 200, 100)), "two extended partitions"),
        (mbr((5, 100, 100)), "cannot be read before the image is brought"),
        (mbr((5, 1, 100)) + bytes(512), "a logical partition has no table"),
        (mbr((5, 1, 100)) + mbr((0x83, 1, 200)), "lies outside of the extended one"),
        (mbr((5, 1, 100)) + mbr((0x83, 1, 10), (5, 200, 10)), "lies outside of the extended one"),
        (mbr((5, 1, 100)) + mbr((0x83, 1, 10), (5, 0, 10)), "in a circle"),
    ],
)
def test_what_is_not_believed(data: bytes, said: str) -> None:
    assert said in refused(data)


def test_sectors_of_4096_bytes() -> None:
    found = table(bytes(gpt((40, 80), sector=4096)))
    assert found
    assert (found.sector, found.partitions[0].start, found.partitions[0].size) == (4096, 40 * 4096, 41 * 4096)
    assert found.partitions[0].name == "p1"


def test_the_size_may_be_unknown() -> None:
    found = table(mbr((0x83, 10, SIZE)), None)
    assert found
    assert found.end == (SIZE + 10) * 512


def logical(first: int) -> bytes:
    """A disk whose only partition, at a sector of the extended one, has its table behind the first bytes."""
    begin = MIB // 512
    return bytes(mbr((0x0F, begin, 3 * MIB // 512)).ljust(MIB, b"\0") + mbr((0x83, first, 8)))


def far(first: int) -> bytes:
    """A disk whose GPT has its entries at 1 MiB."""
    disk = gpt((first, first + 7))
    listed = bytes(disk[1024:])
    struct.pack_into("<Q", disk, 512 + 72, MIB // 512)
    struct.pack_into("<I", disk, 512 + 88, zlib.crc32(listed))
    disk[512 + 16 : 512 + 20] = bytes(4)
    struct.pack_into("<I", disk, 512 + 16, zlib.crc32(disk[512 : 512 + 92]))
    return bytes(disk[:1024]).ljust(MIB, b"\0") + listed


@pytest.mark.parametrize(
    ("seen", "brought"),
    [
        (logical(4096), logical(2048)),
        (far(4096), far(4096)[:-1] + b"x"),
    ],
)
def test_a_table_that_is_another_when_the_image_is_brought(seen: bytes, brought: bytes, tmp_path: Path) -> None:
    """The digest is that of what is brought, and so says nothing of the table that was looked at."""
    file, location = tmp_path / "disk", Location(f"file://{tmp_path}/disk")
    file.write_bytes(seen.ljust(4 * MIB, b"\0"))
    disk = survey(location, TransferSettings())
    assert seen[:HEAD] == brought[:HEAD]

    def staged(content: bytes) -> None:
        file.write_bytes(content.ljust(4 * MIB, b"\0"))
        digest = Digest("sha256", hashlib.sha256(file.read_bytes()).hexdigest())
        wanted = Transfer(location, digest, Published(), TransferSettings(), None, lambda done, total: None)
        with (tmp_path / "part").open("wb") as part:
            stage_parts(wanted, disk, {disk.table.partitions[0]: part.fileno()})

    staged(seen)
    with pytest.raises(ImageFailed, match="is another than when it was looked at"):
        staged(brought)
