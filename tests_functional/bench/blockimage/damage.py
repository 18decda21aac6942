# SPDX-License-Identifier: Apache-2.0
"""Images with something wrong in them, or that only look so, made from the small one."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from building.process import run

MIB = 1 << 20
#: Behind the end of a stream; long enough for another block of any form, and the start of none.
GARBAGE = b"this is not part of the image\n" * 4096
STREAMS = ("small.img.gz", "small.img.zst", "small.img.xz", "small.img.bz2")
QCOW2 = "small.qcow2"


def add(place: Path, small: Path) -> None:
    """Put the damaged images beside the sound ones."""
    for name in (*STREAMS, QCOW2):
        content = (place / name).read_bytes()
        suffix = name.removeprefix("small")
        (place / f"truncated{suffix}").write_bytes(content[: len(content) // 2])
        if name in STREAMS:
            (place / f"garbage{suffix}").write_bytes(content + GARBAGE)
            # One byte in the middle: the length is right and only a check sum can tell.
            (place / f"flipped{suffix}").write_bytes(_flip(content, len(content) // 2))
            # Right, if unusual: several streams, one after the other, are one.
            (place / f"twice{suffix}").write_bytes(content + content)
            # The end without its last bytes: in most forms that is where the check sum is.
            (place / f"clipped{suffix}").write_bytes(content[:-3])
    (place / "empty.img").touch()
    (place / "empty.img.gz").touch()
    _partitioned(place / "partitioned.img", small)
    _array_member(place / "member.img", small)
    _with_backing_file(place / "backing.qcow2")


def _flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]


def _partitioned(path: Path, small: Path) -> None:
    """Make an image of a whole disk, with a partition table: not what belongs in a volume."""
    with path.open("xb") as file:
        file.seek(MIB)
        with small.open("rb") as source:
            shutil.copyfileobj(source, file, MIB)
        file.truncate(MIB + small.stat().st_size + MIB)
    run(["sfdisk", "--quiet", path], timeout=60, stdin="label: gpt\nstart=2048, size=98304\n")
    run(["fallocate", "--dig-holes", path], timeout=60)


def _array_member(path: Path, small: Path) -> None:
    """Make an image that is told by its end: the member of a mirror of version 1.0, see ``linux/raid/md_p.h``."""
    size = small.stat().st_size + MIB
    sector = (size // 512 - 16) & ~7
    superblock = bytearray(256)
    struct.pack_into("<II", superblock, 0, 0xA92B4EFC, 1)
    struct.pack_into("<QQQ", superblock, 128, 0, sector, sector)
    with path.open("xb") as file:
        file.write(small.read_bytes())
        file.seek(sector * 512)
        file.write(superblock)
        file.truncate(size)
    run(["fallocate", "--dig-holes", path], timeout=60)


def _with_backing_file(path: Path) -> None:
    """Make an image that would hand out a file of the machine that reads it."""
    options = ("-b", "/etc/passwd", "-F", "raw", "-u")
    run(["qemu-img", "create", "-q", "-f", "qcow2", *options, path, "1M"], timeout=60)
