# SPDX-License-Identifier: Apache-2.0
"""Thin pools: what they take beside their data, and the sizes of the volumes in them; lvmthin(7)."""

from __future__ import annotations

from collections.abc import Sequence

from bareon.sizes import GIB, KIB, MIB, Remaining, mib, round_down, round_up
from bareon.storage.allocate import DoesNotFit, Request, fixed_size
from bareon.storage.lvm.segment import EXTENT

# From lib/metadata/thin_manip.c of LVM: the smallest chunk, and the metadata that it keeps to by larger ones.
_LEAST_CHUNK, _LARGEST_CHUNK = 64 * KIB, GIB
_ENTRY = 64  # bytes of metadata for each chunk
_LEAST_METADATA, _MOST_METADATA = 2 * MIB, 128 * MIB

METADATA_PART = "_metadata"
"""What follows the name of a pool in that of its metadata until it is made; LVM gives them another then."""


def chunk(size: int) -> int:
    """The bytes of a chunk, the unit that a pool with ``size`` bytes for data gives to its volumes."""
    found = _LEAST_CHUNK
    while size // found * _ENTRY > _MOST_METADATA and found < _LARGEST_CHUNK:
        found *= 2
    return found


def metadata(size: int) -> int:
    """The bytes of its metadata, in whole extents."""
    return round_up(max(_LEAST_METADATA, size // chunk(size) * _ENTRY), EXTENT)


def spare(sizes: Sequence[int]) -> int:
    """The bytes that LVM keeps free in a group with pools of such sizes, to mend the metadata of any of them in."""
    return max(map(metadata, sizes), default=0)


def beside(sizes: Sequence[int]) -> int:
    """All bytes that pools of such sizes take of their group beside their data."""
    return sum(map(metadata, sizes)) + spare(sizes)


def largest(room: int, others: Sequence[int]) -> int:
    """The bytes for data of the largest pool that fits into ``room`` bytes with its metadata.

    What lies beside the data of ``others`` is there already.

    :returns: 0 for none.
    """
    there = beside(others)
    size = round_down(room, EXTENT)
    size = max(0, size - 2 * metadata(size))
    while size + EXTENT + beside([*others, size + EXTENT]) - there <= room:
        size += EXTENT
    while size and size + beside([*others, size]) - there > room:
        size -= EXTENT
    return size


def thin_sizes(size: int, requests: Sequence[Request]) -> list[int]:
    """The bytes of each volume in a pool with ``size`` bytes for data, in order.

    Percentages are of the pool. All together may be larger than that; what remains is what the others leave of it.

    :raises DoesNotFit: where nothing remains, or for two that want it.
    """
    fixed = [None if isinstance(x.size, Remaining) else fixed_size(x, size, EXTENT) for x in requests]
    open_ended = [request for request, found in zip(requests, fixed, strict=True) if found is None]
    if len(open_ended) > 1:
        raise DoesNotFit(open_ended[1].path, "only one volume of a pool can take what is remaining of it")
    taken = sum(found for found in fixed if found is not None)
    if open_ended and taken >= size:
        message = f"nothing is remaining of the {mib(size)} of its pool: the other volumes take {mib(taken)}"
        raise DoesNotFit(open_ended[0].path, message)
    return [size - taken if found is None else found for found in fixed]
