# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with an image of a whole disk, brought as trees or as blocks, and what must come of it.

The files are those of :mod:`tests_functional.bench.diskimages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bareon.model.image import Part
from tests_functional.bench.diskimages import FSTABS
from tests_functional.tree_fault_table import IMPATIENT, NO_ROOM, SMALL, Kind, TreeFault

FORMS = ("disk.raw", "disk.qcow2", "packed.qcow2", "disk.raw.gz", "disk.raw.zst")
ONE = SMALL[:1]
BLOCK = (Part("main", form="block"),)

#: Trees are spread over both volumes.
tree = partial(TreeFault, "disk", system=SMALL)
#: Its whole file system comes to one.
block = partial(TreeFault, "block", system=ONE, parts=BLOCK)
BOTH = (tree, block)
NO_PARTS = r"the qcow2 image needs a server that gives parts \(Range\): "


def table() -> list[TreeFault]:
    """Return all faults."""
    return [*_sound(), *_servers(), *_damaged(), *_no_disks(), *_parts(), *_fstabs(), *_kept()]


def _sound() -> Iterator[TreeFault]:
    """Nothing is wrong, or it can be mended."""
    for file in FORMS:
        yield tree(file, digest="right")
        yield block(file, digest="right")
    for row in BOTH:
        # The first one ends the connection of who looks at it.
        cuts = "cut-at-17000000-18000000"
        for words in (cuts, f"norange+nolength+noetag+{cuts}"):
            yield row("disk.raw", words=words, digest="right", connections=2)
        yield row("disk.raw.zst", words="cut-at-300000-700000", digest="right")
        yield row("disk.raw", words="norange", digest="right")
        # Where nothing holds the file to anything, what lies behind the parts is not asked for.
        yield row("disk.raw", words="norange+cut-18000000")
        yield row("disk.raw.gz", words="gzip-encoded", digest="right")
        yield row("disk.qcow2", words="reset-900000", digest="right", connections=2)


def _servers() -> Iterator[TreeFault]:
    """The server does not give the file, or not all of it."""
    zst = "disk.raw.zst"
    for row in BOTH:
        yield row(zst, r"\(404\)$", "404", early=True)
        yield row(zst, r"\(403\)$", "403", early=True)
        yield row(zst, r"answers with an error 500, 3 attempts", "500", early=True)
        yield row(zst, "redirected to file://", "redirect-file", early=True)
        yield row(zst, "silent", "stall-always-0", early=True, settings=IMPATIENT)
        yield row(zst, "longer than 1 s", "slow-20000", early=True, settings={"total_timeout": 1.0})
        # What is looked at beforehand is nearly all of an image that is compressed and so small.
        yield row(zst, "closed the connection after .*, 3 attempts", "norange+cut-300000", early=True)
        yield row(zst, "silent", "norange+stall-always-300000", early=True, settings=IMPATIENT)
        yield row(zst, "closed the connection after .*, 3 attempts", "short", early=True)
        yield row(zst, "stream is damaged", "noetag+changed-300000", early=True)
        yield row("disk.qcow2", NO_PARTS, "norange", early=True)
        yield row("disk.raw", "whole disk|partition", "lying-range", early=True)
        yield row("disk.raw", "changed while it was read", "changed-300000", early=True)
        yield row("disk.raw", "closed the connection after .*, 3 attempts", "short", early=True)
        # By its digest the bytes behind the parts count, too.
        yield row("disk.raw", "closed the connection after .*, 3 attempts", "norange+cut-18000000", digest="right")
        yield row("disk.raw", "silent", "norange+stall-always-18000000", digest="right", settings=IMPATIENT)
        yield row("disk.raw", "somebody has changed it meanwhile$", "norange+noetag+changed-18000000")


def _damaged() -> Iterator[TreeFault]:
    """The bytes come as they are, and are wrong."""
    for row in BOTH:
        yield row("half.raw", "has partition 2 up to byte .*it is cut short", early=True)
        yield row("half.qcow2", "cut off|outside the file|ends", early=True)
        for suffix, form in ((".gz", "gzip"), (".zst", "zstd")):
            yield row(f"half.raw{suffix}", f"the {form} stream does not end|ends in the middle", early=True)
            yield row(f"clipped.raw{suffix}", f"the {form} stream does not end|ends in the middle")
        yield row("short.raw.zst", "it is cut short: it has|it is cut short$|is cut short", early=True)
        yield row("short.raw.gz", "is cut short: it has")
        for file in ("disk.raw", "disk.qcow2", "disk.raw.gz"):
            yield row(file, "its sha256 is .* was wanted$", digest="wrong")
        yield row("header.raw", "the check sum of its header is wrong", early=True)
        yield row("entries.raw", "the check sum of its partitions is wrong", early=True)
        yield row("beyond.raw", "partition 1 lies outside of the disk", early=True)
        yield row("overlap.raw", "partitions 1 and 2 overlap", early=True)
        yield row("behind.raw.zst", "holds more than the .* of its partitions$")
        for name, kind in (("luks", "crypto_LUKS"), ("lvm", "LVM2_member"), ("md", "linux_raid_member")):
            yield row(f"{name}.raw", rf"^partition 1 \(.*'main'.*\): image 'a': it holds {kind}", early=True)
    yield tree("system.raw", "its ext4 file system is damaged")


def _no_disks() -> Iterator[TreeFault]:
    """Something else than a whole disk."""
    for row in BOTH:
        for file, says in (
            ("page", "is a web page: "),
            ("error", "is an XML document, as servers answer with an error: "),
            ("vmdk", "is a VMDK image: convert it"),
            ("cd", "is an ISO 9660 image"),
            ("ext4", "is no whole disk with a partition table: it holds ext"),
            ("small.tar", "is no whole disk with a partition table: it holds tar$"),
            ("zeros", "is no whole disk with a partition table: it holds nothing that is known$"),
            ("zeros.raw.zst", "is no whole disk with a partition table: it holds nothing that is known$"),
            ("empty", "is empty"),
            ("twice.raw.gz", "is compressed twice, zstd inside gzip"),
        ):
            yield row(file, says, early=True)


def _parts() -> Iterator[TreeFault]:
    """What is asked for is not there, or has no room."""
    kinds: tuple[Kind, ...] = ("disk", "block")
    for kind in kinds:
        form = "block" if kind == "block" else "tree"
        for wanted in (7, "swap", "boot"):
            says = rf"no partition is {wanted!r}; there are: 1 \(root of .*'main', 12 MiB, ext.\); 2 \(data, 'data', "
            parts = (Part(wanted, form=form),)  # type: ignore[arg-type]
            yield TreeFault(kind, "disk.raw", says, title=str(wanted), early=True, system=ONE, parts=parts)
        parts = (Part("data", form=form),)  # type: ignore[arg-type]
        says = r"^partition 2 \(data, 'data', 1 MiB\): .*it holds no file system"
        yield TreeFault(kind, "nothing.raw", says, early=True, system=ONE, parts=parts)
    least = (("/", "ext4", 1),)
    yield block("disk.raw", "has 12 MiB, and /dev/loop.* for / holds 1 MiB", early=True, code=4, system=least)
    yield tree("disk.raw", NO_ROOM, code=6, title="too small", system=least)
    # A block beside another volume, which has nothing to do with it.
    yield block("disk.raw.gz", "its sha256 is", digest="wrong", title="beside", system=SMALL, spared=("/usr",))


def _fstabs() -> Iterator[TreeFault]:
    """The image's own fstab leads elsewhere; parts that are given make nothing of it."""
    says = {
        "above": "its fstab mounts PARTLABEL=data at /srv/../../etc, where no volume can be: give parts$",
        "proc": "its fstab mounts PARTLABEL=data at /proc/1, where no volume can be: give parts$",
        "unknown": "its fstab mounts UUID=3.* at /srv, which is none of its partitions: give parts$",
    }
    for name in FSTABS:
        yield tree(f"fstab-{name}.raw", says[name])
        yield tree(f"fstab-{name}.raw", says[name], early=True, kept=True)


def _kept() -> Iterator[TreeFault]:
    """Nothing of what is kept changes where the image is refused, however late that shows."""
    kept = partial(tree, early=True, kept=True)
    yield kept("disk.raw.gz", "its sha256 is .* was wanted$", digest="wrong")
    yield kept("clipped.raw.zst", "the zstd stream does not end|ends in the middle")
    yield kept("system.raw", "its ext4 file system is damaged")
    yield kept("behind.raw.zst", "holds more than the .* of its partitions$")
    yield kept("disk.raw", "closed the connection after .*, 3 attempts", "norange+cut-18000000", digest="right")
    yield tree("disk.raw.zst", kept=True, digest="right")
