# SPDX-License-Identifier: Apache-2.0
"""How many files a file system can hold, by what its mkfs makes with its defaults: mke2fs.conf(5), mkfs.xfs(8)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bareon.sizes import GIB, KIB, MIB

CONFIGURATION = "/etc/mke2fs.conf"
_TIB = 1024 * GIB
_RATIO = 16384
_RATIOS = {"floppy": 8192, "small": 4096, "big": 32768, "huge": 65536}
_SMALLEST_GROUP = 8 * MIB  # of blocks of 1 KiB: as many as a block has bits
_ROUNDED = 40  # inodes at most that a group gets more, to fill a block of its table
_RESERVED = 11  # with lost+found
_XFS_INODE = 512  # bytes
_XFS_CHUNK = 64  # inodes


def at_most(kind: str, size: int) -> int | None:
    """The most files that a file system just made could take, ``None`` where no number is fixed.

    It is never less than there are in truth; that depends on the block size and on what else is in the tables.

    :param size: of its device, in bytes.
    """
    if kind in ("ext2", "ext3", "ext4"):
        groups = -(-size // _SMALLEST_GROUP)
        return -(-size // ext_ratio(kind, size)) + groups * _ROUNDED - _RESERVED
    if kind == "xfs":
        percent = 25 if size < _TIB else 5 if size < 50 * _TIB else 1
        return size * percent // 100 // _XFS_INODE + _XFS_CHUNK
    return None


def ext_ratio(kind: str, size: int) -> int:
    """Bytes of an ext file system for each inode, as its configuration has them for this size."""
    usage = (
        "floppy" if size < 3 * MIB else
        "small" if size < 512 * MIB else
        "default" if size < 4 * _TIB else
        "big" if size < 16 * _TIB else
        "huge"
    )  # fmt: skip
    try:
        text = Path(os.environ.get("MKE2FS_CONFIG", CONFIGURATION)).read_text()
    except (OSError, UnicodeDecodeError):
        return _RATIOS.get(usage, _RATIO)  # mke2fs has the same in itself
    found = _ratios(text)
    # What a later type says holds.
    named = [found[name] for name in ("", kind, usage) if name in found]
    return max(KIB, named[-1]) if named else _RATIO


def _ratios(text: str) -> dict[str, int]:
    """``inode_ratio`` by type of a configuration; that of ``[defaults]`` is the empty one's."""
    found, name = {}, ""
    for line in (x.strip() for x in text.splitlines()):
        if line.startswith("["):
            name = "" if line == "[defaults]" else line
        elif opened := re.fullmatch(r"(\S+)\s*=\s*\{", line):
            name = opened[1]
        elif line.startswith("}"):
            name = "[fs_types]"
        elif ratio := re.fullmatch(r"inode_ratio\s*=\s*([0-9]+)", line):
            found[name] = int(ratio[1])
    return found
