# SPDX-License-Identifier: Apache-2.0
"""Segment types: how logical volumes lie on physical ones; lvmraid(7). A new one is a row."""

from __future__ import annotations

from dataclasses import dataclass, field

from bareon.sizes import KIB, MIB
from bareon.storage.kind import System

EXTENT = 4 * MIB  # bytes, LVM's default
# Bytes of each stripe on one physical volume, twice LVM's default: the first, by which a RAID volume is looked at,
# then has all that tells what is in it. That of Btrfs begins at 64 KiB.
STRIPE = 128 * KIB
THIN_CHECK = "thin_check"
"""The program that LVM calls whenever it activates a thin pool; thin_check(8)."""


@dataclass(frozen=True)
class SegmentType:
    """Properties of a segment type.

    ``striped`` and ``mirrored`` say what of it can be asked for, ``parity`` how many physical volumes hold parity,
    ``metadata`` how many extents each has beside its data (``rmeta``). ``legs``, all of its parts, and ``mirrors``
    are the most that lvcreate takes: tools/lvcreate.c of LVM. ``layout`` is LVM's word for it among those of
    ``lv_layout``, of what is thin all of them; lvs(8). ``grub`` says whether GRUB reads it: grub-core/disk/lvm.c
    there knows no others.
    """

    layout: str
    striped: bool = False
    mirrored: bool = False
    parity: int = 0
    metadata: int = 0
    legs: int = 64
    mirrors: int = 0
    grub: bool = True
    system: System = field(default_factory=System)


SEGMENT_TYPES: dict[str, SegmentType] = {
    "linear": SegmentType("linear"),
    "striped": SegmentType("striped", striped=True),
    "raid1": SegmentType("raid1", mirrored=True, metadata=1, mirrors=9, system=System(modules=("dm_raid", "raid1"))),
    "raid5": SegmentType(
        "raid5", striped=True, parity=1, metadata=1, system=System(("raid5rec",), modules=("dm_raid", "raid456"))
    ),
    "raid10": SegmentType(
        "raid10",
        striped=True,
        mirrored=True,
        metadata=1,
        mirrors=1,
        grub=False,
        system=System(modules=("dm_raid", "raid10")),
    ),
    "thin-pool": SegmentType("thin,pool", grub=False),
    # LVM has the program check the metadata of a pool whenever it is activated.
    "thin": SegmentType(
        "thin,sparse", grub=False, system=System(modules=("dm_thin_pool",), programs=((THIN_CHECK,),))
    ),
}


@dataclass(frozen=True)
class Segment:
    """The shape of a logical volume: ``stripes`` that hold data, and ``mirrors`` of each besides the first copy."""

    kind: str = "linear"
    stripes: int = 1
    mirrors: int = 0

    @property
    def type(self) -> SegmentType:
        """Its segment type."""
        return SEGMENT_TYPES[self.kind]

    @property
    def legs(self) -> int:
        """The number of physical volumes that it lies on, each of them another one; of a linear one it is any."""
        return (self.stripes + self.type.parity) * (self.mirrors + 1)

    @property
    def words(self) -> str:
        """The type and the figures that belong to it, as ``raid10 of 2 stripes, 1 mirror``."""
        figures = [f"{self.stripes} stripes"] if self.type.striped else []
        if self.type.mirrored:
            figures.append(f"{self.mirrors} mirror{'s' if self.mirrors > 1 else ''}")
        return self.kind + (f" of {', '.join(figures)}" if figures else "")


LINEAR = Segment()


def segment(kind: str, stripes: int | None, mirrors: int | None, physical: int) -> Segment:
    """The shape of a volume of that kind: what is ``None`` is as on a group of so many physical volumes it can be."""
    form = SEGMENT_TYPES[kind]
    copies = (mirrors or 1) if form.mirrored else 0
    room = min(physical, form.legs) // (copies + 1) - form.parity
    return Segment(kind, (stripes or max(2, room)) if form.striped else 1, copies)
