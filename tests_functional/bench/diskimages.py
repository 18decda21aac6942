# SPDX-License-Identifier: Apache-2.0
"""Small images of whole disks, sound and damaged, with the tree of :mod:`tests_functional.bench.treeimages`."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from backports import zstd

from building.process import run
from tests_functional.bench.treeimages import FILES, MIB, PACKERS, ZEROS

SIZE = 20 * MIB
TABLE = """\
label: gpt
start=2048, size=24576, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name="main"
start=26624, size=2048, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name="data"
"""
#: Places of the partitions and their bytes.
ROOT, LENGTH = MIB, 12 * MIB
DATA, SMALL = 13 * MIB, MIB
UUID = "11111111-2222-4333-8444-555555555555"
#: Lines that an image's own fstab may have.
FSTABS = {
    "above": f"UUID={UUID} / ext4 defaults 0 1\nPARTLABEL=data /srv/../../etc ext4 defaults 0 2\n",
    "proc": f"UUID={UUID} / ext4 defaults 0 1\nPARTLABEL=data /proc/1 ext4 defaults 0 2\n",
    "unknown": "UUID=31111111-2222-4333-8444-555555555555 /srv ext4 defaults 0 2\n",
}
#: Signatures that a partition has in place of a file system, by their offsets.
MEMBERS = {"luks": (0, b"LUKS\xba\xbe"), "lvm": (512, b"LABELONE"), "md": (4096, b"\xfc\x4e\x2b\xa9")}


def build(place: Path, served: Path) -> None:
    """Put all files into a folder; ``place`` is for what they are made of."""
    bare = _at(_bare(place), DATA, _made(place, SMALL, {}))
    disk = _at(bare, ROOT, _made(place, LENGTH, FILES, "-U", UUID))
    raw = served / "disk.raw"
    raw.write_bytes(disk)
    for name, options in (("disk.qcow2", ()), ("packed.qcow2", ("-c",))):
        run(["qemu-img", "convert", *options, "-O", "qcow2", raw, served / name], timeout=60)
        run(["qemu-img", "compare", raw, served / name], timeout=60)
    for suffix in (".gz", ".zst"):
        packed = PACKERS[suffix](disk)
        (served / f"disk.raw{suffix}").write_bytes(packed)
        (served / f"half.raw{suffix}").write_bytes(packed[: len(packed) // 2])
        (served / f"clipped.raw{suffix}").write_bytes(packed[:-3])
        (served / f"short.raw{suffix}").write_bytes(PACKERS[suffix](disk[: ROOT + LENGTH // 2]))
    (served / "half.raw").write_bytes(disk[: ROOT + LENGTH // 2])
    qcow2 = (served / "disk.qcow2").read_bytes()
    (served / "half.qcow2").write_bytes(qcow2[: len(qcow2) // 2])
    (served / "behind.raw.zst").write_bytes(PACKERS[".zst"](disk) + zstd.compress(ZEROS) * 20)
    (served / "zeros.raw.zst").write_bytes(zstd.compress(ZEROS) * 64)
    (served / "twice.raw.gz").write_bytes(gzip.compress(PACKERS[".zst"](disk), 1))
    for name, changed in _damaged(disk).items():
        (served / f"{name}.raw").write_bytes(changed)
    for name, fstab in FSTABS.items():
        tree = {**FILES, "etc/fstab": fstab.encode()}
        (served / f"fstab-{name}.raw").write_bytes(_at(bare, ROOT, _made(place, LENGTH, tree, "-U", UUID)))


def _bare(place: Path) -> bytes:
    """A disk with a table and nothing else."""
    file = place / "bare"
    with file.open("wb") as made:
        made.truncate(SIZE)
    run(["sfdisk", "--quiet", file], timeout=60, stdin=TABLE)
    return file.read_bytes()


def _made(place: Path, size: int, tree: Mapping[str, bytes], *options: str) -> bytes:
    """A file system with such files."""
    folder, part = place / f"tree{len(list(place.iterdir()))}", place / "part"
    folder.mkdir()
    for name, content in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    part.unlink(missing_ok=True)
    with part.open("wb") as made:
        made.truncate(size)
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", *options, "-d", folder, part], timeout=60)
    return part.read_bytes()


def _at(disk: bytes, place: int, content: bytes) -> bytes:
    return disk[:place] + content + disk[place + len(content) :]


def _damaged(disk: bytes) -> dict[str, bytes]:
    """The disk with one thing wrong each."""
    blank = _at(disk, ROOT, bytes(8192))  # no superblock of the file system
    return {
        "header": _at(disk, 512 + 24, b"\2"),
        "entries": _at(disk, 1024 + 40, b"\2"),
        # The last sector of the first partition, by a table whose check sums are right.
        "beyond": _resummed(_at(disk, 1024 + 40, struct.pack("<Q", SIZE // 512 + 2048))),
        "overlap": _resummed(_at(disk, 1024 + 40, struct.pack("<Q", 27000))),
        "nothing": _at(disk, DATA, bytes(SMALL)),
        "system": _at(disk, ROOT + 4096, bytes(MIB)),
        **{name: _at(blank, ROOT + place, magic) for name, (place, magic) in MEMBERS.items()},
    }


def _resummed(disk: bytes) -> bytes:
    """The disk with the check sums that its table and header have."""
    entries = disk[1024 : 1024 + 128 * 128]
    disk = _at(disk, 512 + 88, struct.pack("<I", zlib.crc32(entries)))
    header = _at(disk[512 : 512 + 92], 16, bytes(4))
    return _at(disk, 512 + 16, struct.pack("<I", zlib.crc32(header)))
