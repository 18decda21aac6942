# SPDX-License-Identifier: Apache-2.0
"""Superblock of what an image holds: a file system with its own size, or something that no system could live on.

Only the first bytes are looked at, and nothing in them is trusted: what makes no sense is not recognised, and left to
``blkid``, which sees all of the volume. Types have the names that ``blkid`` gives them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

#: Bytes of an image within which all that is recognised here shows itself; that of Btrfs is the last, at 64 KiB.
SEEN = 72 * 1024


@dataclass(frozen=True)
class Superblock:
    """What the first bytes of an image tell.

    ``type`` is the content's, or ``table`` that of a partition table: ``gpt``, ``dos``. ``size`` is the bytes that
    the file system says it has on its device, ``unit`` the bytes that it reads and writes at once at least.
    ``lacking`` says what of it is not in this image.
    """

    type: str | None = None
    table: str | None = None
    size: int | None = None
    unit: int = 512
    lacking: str | None = None


def read(head: bytes) -> Superblock:
    """The superblock in the first :data:`SEEN` bytes of an image; with fewer of them, what these hold of it."""
    # mkfs of Btrfs clears all before its own superblock, others do not clear that: what is in front of it is newer.
    for reader in (_ext, _xfs, _btrfs, _vfat):
        if found := reader(head):
            return found
    if table := _table(head):
        return Superblock(table=table)
    return Superblock(next((kind for kind, places in _OTHERS.items() if _is_at(head, places)), None))


def _unpacked(layout: str, head: bytes, offset: int) -> tuple[int, ...] | None:
    return struct.unpack_from(layout, head, offset) if offset + struct.calcsize(layout) <= len(head) else None


# struct ext4_super_block, fs/ext4/ext4.h of the kernel.
_EXT = 1024
_EXT_JOURNAL = 1 << 2  # compatible
_EXT_IS_JOURNAL, _EXT_64BIT = 1 << 3, 1 << 7  # incompatible
_EXT2_INCOMPATIBLE, _EXT2_READ_ONLY = 1 << 1 | 1 << 4, 1 << 0 | 1 << 1 | 1 << 2
_EXT3_INCOMPATIBLE = _EXT2_INCOMPATIBLE | 1 << 2  # whose journal must be replayed
_EXT_LARGEST_BLOCK = 6  # 64 KiB


def _ext(head: bytes) -> Superblock | None:
    if head[_EXT + 56 : _EXT + 58] != b"\x53\xef" or len(head) < _EXT + 1024:
        return None
    (low,), (log,) = struct.unpack_from("<I", head, _EXT + 4), struct.unpack_from("<I", head, _EXT + 24)
    compatible, incompatible, read_only = struct.unpack_from("<III", head, _EXT + 92)
    (high,) = struct.unpack_from("<I", head, _EXT + 336) if incompatible & _EXT_64BIT else (0,)
    if log > _EXT_LARGEST_BLOCK or not low | high:
        return None
    if incompatible & _EXT_IS_JOURNAL:
        return Superblock("jbd")
    journal = compatible & _EXT_JOURNAL
    if incompatible & ~_EXT3_INCOMPATIBLE or read_only & ~_EXT2_READ_ONLY:
        kind = "ext4"
    else:
        kind = "ext3" if journal else "ext2"
    (inode,) = struct.unpack_from("<I", head, _EXT + 224)
    lacking = "its journal is on another device" if journal and not inode else None
    return Superblock(kind, None, (high << 32 | low) << 10 + log, 1 << 10 + log, lacking)


# struct xfs_dsb, fs/xfs/libxfs/xfs_format.h of the kernel.
_XFS_NEEDS_REPAIR = 1 << 4


def _xfs(head: bytes) -> Superblock | None:
    if head[:4] != b"XFSB" or (fields := _unpacked(">IQQ", head, 4)) is None or len(head) < 512:
        return None
    block, blocks, realtime = fields
    if block & block - 1 or not 512 <= block <= 65536 or not 0 < blocks < 1 << 52:
        return None
    version, (sector,) = head[101] & 15, struct.unpack_from(">H", head, 102)
    incompatible = struct.unpack_from(">I", head, 216)[0] if version == 5 else 0
    reasons = {
        "its log is on another device": not any(head[48:56]),
        "a part of it is on a realtime device": bool(realtime),
        "its mkfs did not come to its end": bool(head[126]),
        "it is marked as in need of xfs_repair": bool(incompatible & _XFS_NEEDS_REPAIR),
    }
    lacking = next((text for text, true in reasons.items() if true), None)
    return Superblock("xfs", None, block * blocks, sector, lacking)


# struct btrfs_super_block, include/uapi/linux/btrfs_tree.h of the kernel.
_BTRFS = 64 * 1024
_BTRFS_SEED = 1 << 32


def _btrfs(head: bytes) -> Superblock | None:
    if head[_BTRFS + 64 : _BTRFS + 72] != b"_BHRfS_M" or len(head) < _BTRFS + 4096:
        return None
    place, flags = struct.unpack_from("<QQ", head, _BTRFS + 48)
    (devices,) = struct.unpack_from("<Q", head, _BTRFS + 136)
    number, size = struct.unpack_from("<QQ", head, _BTRFS + 201)  # of this device; all devices' is another field
    if place != _BTRFS or not devices or not number or not size:
        return None
    lacking = None
    if devices > 1:
        lacking = f"it is one of the {devices} devices of a btrfs"
    elif flags & _BTRFS_SEED:
        lacking = "it is the seed of a btrfs, which cannot be written to"
    (sector,) = struct.unpack_from("<I", head, _BTRFS + 144)
    return Superblock("btrfs", None, size, sector, lacking)


# The BIOS parameter block; fatgen103, "Microsoft Extensible Firmware Initiative FAT32 File System Specification".
_NOT_FAT = (b"NTFS    ", b"EXFAT   ", b"-FVE-FS-")


def _vfat(head: bytes) -> Superblock | None:
    fields = _unpacked("<HBHBHHB", head, 11)
    if fields is None or len(head) < 512 or head[3:11] in _NOT_FAT:
        return None
    sector, cluster, reserved, copies, _, short, media = fields
    (long,) = struct.unpack_from("<I", head, 32)
    powers = all(value and not value & value - 1 for value in (sector, cluster))
    starts = head[0] in (0xEB, 0xE9) or head[510:512] == b"\x55\xaa" or b"FAT" in head[54:90]
    if not (powers and starts and 512 <= sector <= 4096 and reserved and copies and media >= 0xF0):
        return None
    if not (short or long):
        return None
    return Superblock("vfat", None, sector * (short or long), sector)


def _table(head: bytes) -> str | None:
    """The type of partition table: GPT of either size of sectors, or an MBR with an entry that makes sense."""
    if any(head[sector : sector + 8] == b"EFI PART" for sector in (512, 4096)):
        return "gpt"
    if head[510:512] != b"\x55\xaa":
        return None
    entries = [struct.unpack_from("<B3xB3xII", head, 446 + 16 * number) for number in range(4)]
    used = [entry for entry in entries if any(entry)]
    sound = all(flag in (0, 0x80) and kind and start and size for flag, kind, start, size in used)
    return "dos" if used and sound else None


_Places = tuple[tuple[int, bytes], ...]
#: By type, the places at one of which such bytes stand.
_OTHERS: dict[str, _Places] = {
    "crypto_LUKS": ((0, b"LUKS\xba\xbe"),),
    "LVM2_member": tuple((sector, b"LABELONE") for sector in (0, 512, 1024, 1536)),
    "linux_raid_member": ((0, b"\xfc\x4e\x2b\xa9"), (4096, b"\xfc\x4e\x2b\xa9")),
    "bcache": ((4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),),
    "bcachefs": ((4096 + 24, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),),
    "squashfs": ((0, b"hsqs"),),
    "erofs": ((1024, b"\xe2\xe1\xf5\xe0"),),
    "cramfs": ((0, b"\x45\x3d\xcd\x28"),),
    "f2fs": ((1024, b"\x10\x20\xf5\xf2"),),
    "udf": ((32769, b"BEA01"),),
    "ntfs": ((3, b"NTFS    "),),
    "exfat": ((3, b"EXFAT   "),),
    "BitLocker": ((3, b"-FVE-FS-"),),
    "reiserfs": ((65536 + 52, b"ReIsEr"),),
    "jfs": ((32768, b"JFS1"),),
    "apfs": ((32, b"NXSB"),),
    "swap": tuple((page - 10, b"SWAPSPACE2") for page in (4096, 16384, 65536)),
    "tar": ((257, b"ustar"),),
}


def _is_at(head: bytes, places: _Places) -> bool:
    return any(head[offset : offset + len(magic)] == magic for offset, magic in places)
