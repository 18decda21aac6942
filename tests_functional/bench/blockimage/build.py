# SPDX-License-Identifier: Apache-2.0
"""Makes images as files: of tenants, and a small one in every form.

A name tells what an image is: ``small.img.gz``; ``tests_functional/cases/README.rst`` lists them.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path

from building import cache
from building.process import run
from tests_functional.bench.blockimage import damage, signed, wholedisk
from tests_functional.bench.tenant import Tenant

MIB = 1 << 20
#: Label of a tenant's file system.
LABEL = "cloud-root"
SMALL_SIZE = 48 * MIB
#: What is left of the small image where it is cut short.
CUT_SIZE = 32 * MIB
#: Bytes of the small image that no program can compress, so that a stream of it has a middle.
NOISE = 6 * MIB
#: The smallest that mkfs.xfs makes.
XFS_SIZE = 300 * MIB
BTRFS_SIZE = 128 * MIB
#: Seconds for each program; converting the Debian image to qcow2 takes 8 s on two cores.
LIMIT = 600.0
#: What makes each compressed form. Levels are low: this is about the forms, not about bytes saved.
COMPRESSORS = {
    "gz": ("gzip", "--no-name", "-3"),
    "zst": ("zstd", "--quiet", "-3", "-T0"),
    "xz": ("xz", "-1", "-T0"),
    "bz2": ("bzip2", "-1"),
}


@dataclass(frozen=True)
class Images:
    """A directory of images by name."""

    place: Path

    def names(self) -> list[str]:
        """Return the names of all images, in order."""
        return sorted(path.name for path in self.place.iterdir())

    def path(self, name: str) -> Path:
        """Return the file of an image.

        :raises ValueError: when there is none of this name
        """
        if name not in self.names():
            raise ValueError(f"no image {name!r}; there are: {', '.join(self.names())}")
        return self.place / name

    def digest(self, name: str, algorithm: str = "sha256") -> str:
        """Return the digest of an image's bytes as they are served, in hexadecimal."""
        return _digest(self.path(name), algorithm)


@remembered
def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def build(report: cache.Report, systems: Mapping[str, Tenant]) -> Images:
    """Return the images, made if they are not in the cache.

    :raises ProgramError: when a program fails
    """
    code = [Path(x) for x in (__file__, damage.__file__, signed.__file__, wholedisk.__file__)]
    key = cache.digest(*(system.tree.parent.name for system in systems.values()), *code)

    def make(target: Path) -> None:
        place = target / "images"
        place.mkdir()
        scratch = target / "scratch"
        scratch.mkdir()
        files = _files(scratch / "files")
        small = _small(place, files)
        damage.add(place, small)
        _cut(place, small)
        _others(place, scratch, files)
        debian = _system(scratch / "debian12.img", systems["debian12"].tree)
        compress(debian, place / "debian12.img.zst")
        _qcow2(debian, place / "debian12.qcow2", "-c")
        compress(_system(scratch / "cloud.img", systems["cloud"].tree), place / "cloud.img.gz")
        compress(_archive(scratch / "debian12.tar", systems["debian12"].tree), place / "debian12.tar.zst")
        compress(_archive(scratch / "small.tar", files), place / "small.tar.zst")
        _squashfs(systems["debian12"].tree, place / "debian12.squashfs")
        signed.add(place, ("debian12.qcow2", "debian12.squashfs"))
        wholedisk.ext4_disk(scratch, systems["debian12"].tree, place / "disk.qcow2")
        wholedisk.btrfs_disk(scratch, systems["debian12"].tree, place / "disk-btrfs.qcow2")
        run(["rm", "-r", scratch], timeout=60)

    return Images(cache.product("images", key, make, report) / "images")


def _files(place: Path) -> Path:
    """Make the tree of all small images: a few files, some of them noise."""
    (place / "etc").mkdir(parents=True)
    (place / "etc/os-release").write_text('NAME="Small"\nVERSION_ID=1\n')
    (place / "etc/fstab").write_text("")
    (place / "hello").write_text("hello\n")
    (place / "noise").write_bytes(random.Random(4).randbytes(NOISE))
    return place


def _small(place: Path, files: Path) -> Path:
    """Make the small image in every form."""
    small = place / "small.img"
    make_ext4(small, files, SMALL_SIZE, label="small")
    for form in COMPRESSORS:
        compress(small, place / f"small.img.{form}")
    _qcow2(small, place / "small.qcow2")
    _qcow2(small, place / "small-compressed.qcow2", "-c")
    return small


def _cut(place: Path, small: Path) -> None:
    """Make an image that is shorter than its file system, in every form: each of them is whole by itself."""
    cut = place / "cut.img"
    with cut.open("xb") as target, small.open("rb") as source:
        target.write(source.read(CUT_SIZE))
    run(["fallocate", "--dig-holes", cut], timeout=60)
    for form in COMPRESSORS:
        compress(cut, place / f"cut.img.{form}")
    _qcow2(cut, place / "cut.qcow2")


def _others(place: Path, scratch: Path, files: Path) -> None:
    """Make other file systems. Only compressed: nearly all of them is empty."""
    xfs, btrfs = scratch / "xfs.img", scratch / "btrfs.img"
    _sparse(xfs, XFS_SIZE)
    # The prototype's first three words are from the time of boot blocks.
    prototype = scratch / "prototype"
    prototype.write_text(f"/ 0 0\nd--755 0 0\nhello ---644 0 0 {files / 'hello'}\n$\n")
    run(["mkfs.xfs", "-q", "-L", "small-xfs", "-p", prototype, xfs], timeout=LIMIT)
    _sparse(btrfs, BTRFS_SIZE)
    run(["mkfs.btrfs", "--quiet", "--label", "small-btrfs", "--rootdir", files, btrfs], timeout=LIMIT)
    for image in (xfs, btrfs):
        compress(image, place / f"{image.name}.zst")


def _system(image: Path, tree: Path) -> Path:
    """Make the image of a tenant: tight, so that growing it shows."""
    used = int(run(["du", "--summarize", "--block-size=1M", tree], timeout=LIMIT).stdout.split()[0])
    make_ext4(image, tree, (used * 6 // 5 + 64) * MIB, label=LABEL)
    return image


def _archive(target: Path, tree: Path) -> Path:
    """Make an archive of a tree, with all that its file system keeps."""
    whole = ("--acls", "--xattrs", "--xattrs-include=*", "--sparse", "--numeric-owner", "--format=pax")
    run(["tar", *whole, "-C", tree, "-cf", target, "."], timeout=LIMIT)
    return target


def _squashfs(tree: Path, target: Path) -> None:
    how = ("-comp", "zstd", "-Xcompression-level", "3", "-xattrs", "-quiet", "-no-progress")
    run(["mksquashfs", tree, target, *how], timeout=LIMIT)


def make_ext4(image: Path, tree: Path, size: int, *, label: str) -> None:
    """Make an ext4 file system with the contents, owners and modes of a tree."""
    _sparse(image, size)
    run(["mke2fs", "-q", "-t", "ext4", "-m", "1", "-L", label, "-d", tree, image], timeout=LIMIT)


def compress(source: Path, target: Path) -> None:
    """Write a compressed copy; the end of the target's name chooses the form."""
    argv: Sequence[str] = COMPRESSORS[target.suffix[1:]]
    line = 'out=$1; shift; exec "$@" > "$out"'
    run(["sh", "-c", line, "compress", target, *argv, "--stdout", source], timeout=LIMIT)


def _qcow2(source: Path, target: Path, *options: str) -> None:
    # Out of order and with several coroutines, compressing takes half the time.
    parallel = ("-W", "-m", "8")
    run(["qemu-img", "convert", *parallel, *options, "-f", "raw", "-O", "qcow2", source, target], timeout=LIMIT)


def _sparse(path: Path, size: int) -> None:
    with path.open("xb") as file:
        os.truncate(file.fileno(), size)
