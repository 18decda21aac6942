# SPDX-License-Identifier: Apache-2.0
"""What md arrays offer, decided beforehand: bareon tells mdadm the data offset, the chunk and the component size."""

from __future__ import annotations

from collections.abc import Sequence

from bareon.model.raid import Level
from bareon.sizes import KIB, MIB, round_down

DATA_OFFSET = 2 * MIB  # bytes at the start of each member: superblock, bitmap
CHUNK = 512 * KIB  # bytes, mdadm's default for striped levels


def component(sizes: Sequence[int]) -> int:
    """What an array uses of each of its members of ``sizes`` bytes: as much as the smallest has, in whole MiB."""
    return max(0, round_down(min(sizes) - DATA_OFFSET))


def array_size(level: Level, sizes: Sequence[int]) -> int:
    """What an array over members of ``sizes`` bytes offers; md(4)."""
    count, each = len(sizes), component(sizes)
    match level:
        case "raid0":
            return sum(max(0, round_down(size - DATA_OFFSET)) for size in sizes)
        case "raid1":
            return each
        case "raid5":
            return each * (count - 1)
        case "raid6":
            return each * (count - 2)
        case "raid10":
            # Two copies of each chunk, laid over the members in turn.
            return each // CHUNK * count // 2 * CHUNK
