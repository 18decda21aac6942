# SPDX-License-Identifier: Apache-2.0
"""Offer of a block image, held against the volume that it is for, and against what this machine can handle."""

from __future__ import annotations

from bareon.errors import ImageFailed, UnsuitableNode
from bareon.model.image import Image
from bareon.model.layout import Layout
from bareon.run import missing
from bareon.sizes import mib
from bareon.storage.filesystem import Mounted
from bareon.tools import filesystem
from bareon.transfer.superblock import Superblock

_OF_A_SYSTEM = ("/", "/usr", "/var")
_TREES = ("tar", "squashfs")


def programs(kind: str) -> tuple[str, ...]:
    """The programs for a file system that an image brings; none for a type that no system could live on."""
    return filesystem.programs(kind) if kind in filesystem.KINDS else ()


def programs_of(layout: Layout) -> set[str]:
    """The programs for all file systems that arrive with images, of the types that the input describes."""
    arriving = (fs for fs in layout.filesystems() if fs.wanted.from_image and fs.decision != "keep")
    return {name for fs in arriving for name in programs(fs.type)}


def sector_of(layout: Layout, device: str) -> int:
    """The logical sector size of a device in bytes: the largest of the disks that it lies on."""
    found = {part.device: disk.sector for disk in layout.disks for part in disk.partitions}
    for structure in layout.structures():
        largest = max((found.get(member, 512) for member in structure.members), default=512)
        found |= {offered.device: largest for offered in structure.devices}
    return found.get(device, 512)


def unfit(kind: str | None, table: str | None) -> str | None:
    """The reason that a volume of this type, or with a partition table, is none that a system could live on."""
    if kind in filesystem.KINDS:
        return None
    if table:
        return f"it is a whole disk with a partition table ({table}), not a file system"
    if kind in _TREES:
        return f"it holds a tree of files ({kind}), no file system: served as it is, --deploy_driver auto brings it"
    return f"it holds {kind or 'no file system'}, and needs to hold one of {', '.join(filesystem.KINDS)}"


def check_type(image: Image, point: str, found: Superblock) -> None:
    """See that a system can live on what the image brings, and that this machine knows it.

    :raises ImageFailed: when it is of no use at this mount point.
    :raises UnsuitableNode: when programs for it are missing.
    """
    name, kind = f"image {image.name!r}", found.type
    if reason := unfit(kind, found.table):
        raise ImageFailed(f"{name}: {reason}")
    assert kind
    if kind == "vfat" and point in _OF_A_SYSTEM:
        raise ImageFailed(f"{name}: it is vfat, which keeps no owners, modes and links for {point}")
    # What is asked for in the plan are the programs of the type that the input describes.
    if absent := missing(programs(kind)):
        raise UnsuitableNode(f"{name} is {kind}, whose programs are not installed: {', '.join(absent)}")


def check_room(image: Image, place: Mounted, sector: int, found: Superblock | None, size: int | None) -> None:
    """See that an image of ``size`` bytes has room, and that its blocks are no smaller than the volume's sectors.

    :raises UnsuitableNode: otherwise.
    """
    name, where = f"image {image.name!r}", f"{place.device} for {place.point}"
    for inner, what in ((size, ""), (found.size if found else None, "a file system of ")):
        if inner is not None and inner > place.size:
            raise UnsuitableNode(f"{name} has {what}{mib(inner)}, and {where} holds {mib(place.size)}")
    if found and found.type and found.unit < sector:
        blocks = f"{found.type} with blocks of {found.unit} bytes"
        raise UnsuitableNode(f"{name} is {blocks}, and {where} has sectors of {sector}: make it with larger blocks")
