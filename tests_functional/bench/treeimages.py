# SPDX-License-Identifier: Apache-2.0
"""Trees in one file, sound and damaged: archives in every packing, squashfs, and what is served in their place."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

from backports import zstd

from building.process import run

MIB = 1 << 20
#: Bytes of the one large file: no multiple of any block, and found nowhere else in an image.
NOISE = MIB + 77777
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda plain: gzip.compress(plain, 1),
    ".zst": lambda plain: zstd.compress(plain, options={zstd.CompressionParameter.checksum_flag: 1}),
    ".xz": lambda plain: lzma.compress(plain, preset=0),
    ".bz2": lambda plain: bz2.compress(plain, 1),
}
ZEROS = bytes(64 * MIB)
PACKED = tuple(x for x in PACKERS if x)
FILES = {
    "etc/os-release": b"NAME=Small\n",
    "usr/noise": random.Random(7).randbytes(NOISE),
    "hello": b"hello\n",
}


def build(place: Path) -> Path:
    """Put all files into a folder."""
    tree = place / "tree"
    for name, content in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    served = place / "served"
    served.mkdir()
    for suffix, pack in PACKERS.items():
        (served / f"small.tar{suffix}").write_bytes(pack(_archive()))
    squashfs = _squashfs(tree, served / "small.squashfs", "-noI", "-no-fragments")
    for name in (*(f"small.tar{x}" for x in PACKERS), "small.squashfs"):
        _damage(served, name, (served / name).read_bytes())
    _others(served)
    _bombs(place, served)
    _lies(served, squashfs)
    return served


def _archive(*more: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info, content in more:
            archive.addfile(info)
            archive.fileobj.write(content)
    return file.getvalue()


def sparse_archive() -> bytes:
    """An archive with a file whose hole has no end that any file system has room behind."""
    sparse = tarfile.TarInfo("etc/sparse")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 60)}
    sparse.size = 1024
    holes = f"1\n{1 << 59}\n512\n".encode().ljust(512, b"\0") + bytes(512)
    return _archive((sparse, holes))


def _squashfs(tree: Path, place: Path, *options: str) -> bytes:
    run(["mksquashfs", tree, place, "-quiet", "-no-progress", *options], timeout=120)
    return place.read_bytes()


def _damage(served: Path, name: str, content: bytes) -> None:
    """The same, cut off, changed in the middle, and with something behind it."""
    suffix = name.removeprefix("small")
    middle = len(content) // 2
    (served / f"truncated{suffix}").write_bytes(content[:middle])
    (served / f"clipped{suffix}").write_bytes(content[:-3])
    (served / f"flipped{suffix}").write_bytes(
        content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :]
    )
    (served / f"garbage{suffix}").write_bytes(content + b"this is not part of the image\n" * 4096)


def _others(served: Path) -> None:
    """What is no tree at all."""
    (served / "page").write_bytes(b"<!DOCTYPE html>\n<title>Sign in</title>\n")
    (served / "error").write_bytes(b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>\n')
    (served / "zip").write_bytes(b"PK\x03\x04" + bytes(100000))
    (served / "vmdk").write_bytes(b"KDMV\1\0\0\0" + bytes(100000))
    (served / "cd").write_bytes(bytes(32769) + b"CD001" + bytes(100000))
    (served / "qcow2").write_bytes(b"QFI\xfb\0\0\0\3" + bytes(100000))
    (served / "zeros").write_bytes(bytes(200000))
    (served / "empty").touch()
    (served / "twice.tar.gz").write_bytes(gzip.compress((served / "small.tar.xz").read_bytes()))
    with (served / "ext4").open("wb") as file:
        file.truncate(8 * MIB)
    run(["mkfs.ext4", "-q", "-F", served / "ext4"], timeout=60)


def _bombs(place: Path, served: Path) -> None:
    """Little that becomes much: a file of zeros, zeros behind the end, a file that is one hole, names without end."""
    info = tarfile.TarInfo("zeros")
    info.size = 96 * MIB
    many = [(tarfile.TarInfo(f"{number}"), b"") for number in range(20000)]
    for suffix in PACKED:
        pack = PACKERS[suffix]
        (served / f"bomb.tar{suffix}").write_bytes(pack(_archive((info, bytes(info.size)))))
        (served / f"behind.tar{suffix}").write_bytes(pack(_archive()) + pack(ZEROS) * 20)
    (served / "inodes.tar.gz").write_bytes(gzip.compress(_archive(*many), 1))
    for suffix in PACKED:
        pack = PACKERS[suffix]
        (served / f"padded.squashfs{suffix}").write_bytes(
            pack((served / "small.squashfs").read_bytes()) + pack(ZEROS) * 20
        )
    tree = place / "zeros"
    tree.mkdir()
    with (tree / "zeros").open("wb") as file:
        file.truncate(256 * MIB)
    _squashfs(tree, served / "bomb.squashfs")


def _lies(served: Path, squashfs: bytes) -> None:
    """Sizes that are not true."""
    info = tarfile.TarInfo("etc/long")
    info.size = 1 << 40
    (served / "lying.tar.gz").write_bytes(gzip.compress(_archive((info, bytes(4096))), 1))
    (served / "sparse.tar.gz").write_bytes(gzip.compress(sparse_archive(), 1))
    size = struct.pack("<I", NOISE)
    assert squashfs.count(size) == 1, "the inode of the large file is not found by its size"
    (served / "lying.squashfs").write_bytes(squashfs.replace(size, struct.pack("<I", 0xFFFFF000)))
    # The bytes that all of it takes, in the superblock.
    (served / "longer.squashfs").write_bytes(squashfs[:40] + struct.pack("<Q", 1 << 50) + squashfs[48:])
    # How many inodes there are, and how long a block is.
    (served / "inodes.squashfs").write_bytes(squashfs[:4] + struct.pack("<I", 0xFFFFFFFF) + squashfs[8:])
    (served / "block.squashfs").write_bytes(squashfs[:12] + struct.pack("<I", 1 << 30) + squashfs[16:])
