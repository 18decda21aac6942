# SPDX-License-Identifier: Apache-2.0
"""File systems in files, as their own programs make them, for tests of images."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from bareon.sizes import MIB

#: The size that each is made with here; the smallest that its mkfs takes, or a bit more.
SIZES = {
    "ext2": 8 * MIB,
    "ext3": 8 * MIB,
    "ext4": 8 * MIB,
    "xfs": 300 * MIB,
    "btrfs": 128 * MIB,
    "vfat": 8 * MIB,
}
_QUIET = {"vfat": (), "xfs": ("-q", "-f"), "btrfs": ("-q", "-f")}


def made(path: Path, kind: str, *options: str, size: int | None = None) -> Path:
    """A file system in a new file; ``bindep.txt`` has the packages with the programs."""
    program = f"mkfs.{kind}"
    with path.open("wb") as file:
        file.truncate(SIZES[kind] if size is None else size)
    subprocess.run([program, *_QUIET.get(kind, ("-q", "-F")), *options, str(path)], check=True, capture_output=True)
    return path


def with_ext2(content: bytes) -> bytes:
    """The same bytes but for the superblock of an ext2 that has this size, as far as anybody reads it beforehand."""
    superblock = bytearray(1024)
    struct.pack_into("<I", superblock, 4, len(content) // 1024)
    superblock[56:58] = b"\x53\xef"
    return content[:1024] + bytes(superblock) + content[2048:]
