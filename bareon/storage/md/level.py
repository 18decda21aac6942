# SPDX-License-Identifier: Apache-2.0
"""RAID levels and what of their members an array uses; md(4). A new level is a row of :data:`LEVELS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bareon.sizes import KIB, MIB, round_down

DATA_OFFSET = 2 * MIB  # bytes at the start of each member: superblock, bitmap
CHUNK = 512 * KIB  # bytes, mdadm's default for striped levels


@dataclass(frozen=True)
class Level:
    """Properties of a RAID level: the ``fewest`` members that mdadm takes, spares not counted, what members of
    ``component`` bytes each offer together, by which module GRUB reads it beside that for md itself, whether it can
    do without one of its members, so that a spare is of use, and the kernel's module, where that has another name.
    """

    fewest: int
    offers: Callable[[int, int], int]
    grub_module: str | None = None
    redundant: bool = True
    module: str | None = None


LEVELS: dict[str, Level] = {
    "raid0": Level(2, lambda count, component: count * component, redundant=False),
    "raid1": Level(2, lambda count, component: component),
    "raid4": Level(3, lambda count, component: (count - 1) * component, "raid5rec", module="raid456"),
    "raid5": Level(3, lambda count, component: (count - 1) * component, "raid5rec", module="raid456"),
    "raid6": Level(4, lambda count, component: (count - 2) * component, "raid6rec", module="raid456"),
    # Two copies of each chunk, laid over the members in turn.
    "raid10": Level(2, lambda count, component: component // CHUNK * count // 2 * CHUNK),
}


def component(sizes: Sequence[int]) -> int:
    """Component size: bytes that an array uses of each of its members, as much as the smallest has, in whole MiB."""
    return max(0, round_down(min(sizes) - DATA_OFFSET))


def array_size(level: str, sizes: Sequence[int]) -> int:
    """Size in bytes of an array over members of ``sizes`` bytes; md(4)."""
    if level == "raid0":  # the only one that uses all of members of different sizes
        return sum(max(0, round_down(size - DATA_OFFSET)) for size in sizes)
    return LEVELS[level].offers(len(sizes), component(sizes))
