# SPDX-License-Identifier: Apache-2.0
"""Room in a volume group: which physical volumes have it for what, in whole extents.

A linear volume takes any extents of the group. The legs of any other one, its stripes, copies and parity, must be on
physical volumes of their own, and each may have metadata beside it. So such volumes are given theirs first, those on
the most physical volumes before the others; then any linear one fits that fits by its size.

A thin pool takes any extents, too, for its data and its metadata. The thin volumes in it take none of the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bareon.sizes import Relative, Remaining, Size, mib, round_down
from bareon.storage.allocate import DoesNotFit, Request, allocate, fixed_size
from bareon.storage.lvm import pool
from bareon.storage.lvm.segment import EXTENT, Segment


@dataclass(frozen=True)
class Asked:
    """A wanted size, where it was asked for (a JSON path), and the shape."""

    size: Size
    path: str
    segment: Segment


@dataclass(frozen=True)
class Granted:
    """The bytes that a volume gets; ``on`` are the indices of its physical volumes, of a linear one none."""

    size: int
    on: tuple[int, ...] = ()


def grant(rooms: Sequence[int], asked: Sequence[Asked]) -> list[Granted]:
    """What each volume gets, in order.

    :param rooms: bytes in whole extents that each physical volume offers. Percentages are of all of them together;
        sizes are those that a volume has for its users, without copies and parity.
    :raises DoesNotFit: naming by how much.
    """
    free, whole = list(rooms), sum(rooms)
    found: dict[int, Granted] = {}
    apart = [number for number, x in enumerate(asked) if x.segment.legs > 1]
    open_ended = [number for number, x in enumerate(asked) if isinstance(x.size, Remaining)]
    if len(open_ended) > 1:
        raise DoesNotFit(asked[open_ended[1]].path, "only one volume can take what is remaining")
    for number in sorted(apart, key=lambda x: -asked[x].segment.legs):
        if number not in open_ended:
            found[number] = _placed(free, asked[number], whole)
    linear = [number for number in range(len(asked)) if number not in apart]
    sizes, beside = _anywhere([asked[number] for number in linear], whole, sum(free))
    found |= {number: Granted(size) for number, size in zip(linear, sizes, strict=True)}
    for number in set(open_ended) & set(apart):
        found[number] = _remaining(free, asked[number], sum(sizes) + beside)
    return [found[number] for number in range(len(asked))]


def _anywhere(asked: Sequence[Asked], whole: int, free: int) -> tuple[list[int], int]:
    """The sizes of linear volumes and thin pools, in order, and what pools take beside that.

    :raises DoesNotFit: naming by how much.
    """
    requests = [Request(x.size, x.path) for x in asked]
    pools = [number for number, x in enumerate(asked) if x.segment.kind == "thin-pool"]
    last = next((number for number in pools if isinstance(asked[number].size, Remaining)), None)
    given = [fixed_size(requests[number], whole, EXTENT) for number in pools if number != last]
    beside = pool.beside(given)
    try:
        sizes = allocate(whole, max(0, free - beside), requests, EXTENT)
    except DoesNotFit as error:
        if not beside:
            raise
        message = f"{error.message}, beside {mib(beside)} for metadata of thin pools"
        raise DoesNotFit(error.path, message, error.have, uneven=error.uneven) from None
    if last is not None:
        sizes[last] = pool.largest(sizes[last], given)
        beside = pool.beside([*given, sizes[last]])
        if not sizes[last]:
            raise DoesNotFit(asked[last].path, "nothing is remaining for a thin pool and its metadata")
    return sizes, beside


def _placed(free: list[int], asked: Asked, whole: int) -> Granted:
    """A volume of a given size on the physical volumes with most room, whose room is taken."""
    segment = asked.segment
    size = fixed_size(Request(asked.size, asked.path), whole, EXTENT * segment.stripes)
    leg = size // segment.stripes + segment.type.metadata * EXTENT
    on = _most(free, asked)
    if free[on[-1]] < leg:
        have = f"of those with most room left one has {mib(free[on[-1]])}"
        message = f"{segment.words} needs {mib(leg)} on each of {segment.legs}; {have}"
        raise DoesNotFit(asked.path, message, uneven=isinstance(asked.size, Relative))
    for number in on:
        free[number] -= leg
    return Granted(size, tuple(sorted(on)))


def _remaining(free: Sequence[int], asked: Asked, taken: int) -> Granted:
    """A volume that gets what remains, when ``taken`` bytes are taken by linear ones, wherever they lie."""
    segment = asked.segment
    on = _most(free, asked)
    leg = min(free[on[-1]], round_down((sum(free) - taken) // segment.legs, EXTENT))
    size = (leg - segment.type.metadata * EXTENT) * segment.stripes
    if size <= 0:
        raise DoesNotFit(asked.path, f"nothing is remaining for {segment.words} on {segment.legs} physical volumes")
    return Granted(size, tuple(sorted(on)))


def _most(free: Sequence[int], asked: Asked) -> list[int]:
    """The indices of as many physical volumes as a volume needs, those with most room, the most first."""
    legs = asked.segment.legs
    if legs > len(free):
        there = f"there {'is' if len(free) == 1 else 'are'} {len(free)}"
        raise DoesNotFit(asked.path, f"{asked.segment.words} needs {legs} physical volumes in its group; {there}")
    return sorted(range(len(free)), key=lambda number: -free[number])[:legs]
