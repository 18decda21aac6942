# SPDX-License-Identifier: Apache-2.0
"""Room in volume groups for volumes of each segment type: sizes in MiB, extents of 4."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareon.sizes import GIB, KIB, MIB, parse_size
from bareon.storage.allocate import DoesNotFit, Request
from bareon.storage.lvm import pool
from bareon.storage.lvm.room import Asked, grant
from bareon.storage.lvm.segment import EXTENT, SEGMENT_TYPES, segment

Volume = tuple[str, str, int | None, int | None]


def _asked(volumes: Sequence[Volume], count: int) -> list[Asked]:
    return [
        Asked(parse_size(size), f"${number}", segment(kind, stripes, mirrors, count))
        for number, (kind, size, stripes, mirrors) in enumerate(volumes)
    ]


def _granted(rooms: Sequence[int], volumes: Sequence[Volume]) -> list[tuple[int, tuple[int, ...]]]:
    found = grant([room * MIB for room in rooms], _asked(volumes, len(rooms)))
    return [(x.size // MIB, x.on) for x in found]


@pytest.mark.parametrize(
    ("kind", "stripes", "mirrors", "count", "legs", "words"),
    [
        ("linear", None, None, 4, 1, "linear"),
        ("striped", None, None, 4, 4, "striped of 4 stripes"),
        ("striped", 2, None, 4, 2, "striped of 2 stripes"),
        ("striped", None, None, 1, 2, "striped of 2 stripes"),
        ("raid1", None, None, 4, 2, "raid1 of 1 mirror"),
        ("raid1", None, 2, 4, 3, "raid1 of 2 mirrors"),
        ("raid5", None, None, 4, 4, "raid5 of 3 stripes"),
        ("raid5", 2, None, 4, 3, "raid5 of 2 stripes"),
        ("raid10", None, None, 6, 6, "raid10 of 3 stripes, 1 mirror"),
        ("raid10", None, 2, 6, 6, "raid10 of 2 stripes, 2 mirrors"),
        ("raid10", None, None, 5, 4, "raid10 of 2 stripes, 1 mirror"),
        ("raid5", None, None, 80, 64, "raid5 of 63 stripes"),
        ("raid10", None, None, 80, 64, "raid10 of 32 stripes, 1 mirror"),
    ],
)
def test_shapes(kind: str, stripes: int | None, mirrors: int | None, count: int, legs: int, words: str) -> None:
    found = segment(kind, stripes, mirrors, count)
    assert (found.legs, found.words) == (legs, words)


@pytest.mark.parametrize(
    ("rooms", "volumes", "granted"),
    [
        # A linear volume takes any extents, so that only the sum matters.
        ([100, 40], [("linear", "140", None, None)], [(140, ())]),
        # A thin pool takes its metadata beside it, and as much again once in the group.
        ([40, 40], [("thin-pool", "remaining", None, None)], [(72, ())]),
        ([40, 40], [("thin-pool", "20", None, None), ("thin-pool", "remaining", None, None)], [(20, ()), (48, ())]),
        ([44, 44], [("thin-pool", "20", None, None), ("raid1", "remaining", None, None)], [(20, ()), (24, (0, 1))]),
        ([44, 44], [("thin-pool", "20", None, None), ("linear", "remaining", None, None)], [(20, ()), (60, ())]),
        # A mirror takes its size and an extent of metadata of each.
        ([104, 104], [("raid1", "100", None, None)], [(100, (0, 1))]),
        ([104, 104], [("raid1", "remaining", None, None)], [(100, (0, 1))]),
        # The smallest of those with most room decides; the linear one may lie anywhere in what is left.
        ([104, 48, 84], [("raid1", "remaining", None, None)], [(80, (0, 2))]),
        ([104, 104], [("raid1", "remaining", None, None), ("linear", "40", None, None)], [(80, (0, 1)), (40, ())]),
        ([104, 84], [("linear", "remaining", None, None), ("raid1", "80", None, None)], [(20, ()), (80, (0, 1))]),
        # Stripes are of whole extents: an explicit size is rounded up to as many on each, a share down.
        ([100, 100], [("striped", "100", None, None)], [(104, (0, 1))]),
        ([100, 100], [("striped", "50%", None, None)], [(96, (0, 1))]),
        ([100, 60], [("striped", "remaining", None, None)], [(120, (0, 1))]),
        # Parity takes as much as a stripe.
        ([44, 44, 44], [("raid5", "80", None, None)], [(80, (0, 1, 2))]),
        ([44, 44, 44], [("raid5", "remaining", None, None)], [(80, (0, 1, 2))]),
        ([44, 44, 44, 44], [("raid10", "80", None, None)], [(80, (0, 1, 2, 3))]),
        ([44, 44, 64, 64, 44], [("raid10", "remaining", 2, None)], [(80, (0, 1, 2, 3))]),
        # What needs the most physical volumes is placed first, wherever it stands.
        (
            [100, 100, 100],
            [("raid1", "52", None, None), ("raid5", "80", None, None)],
            [(52, (0, 1)), (80, (0, 1, 2))],
        ),
    ],
)
def test_what_fits(rooms: Sequence[int], volumes: Sequence[Volume], granted: object) -> None:
    assert _granted(rooms, volumes) == granted


@pytest.mark.parametrize(
    ("rooms", "volumes", "path", "message"),
    [
        # The group has 200 MiB, and 100 are too much.
        (
            [100, 100],
            [("raid1", "100", None, None)],
            "$0",
            "raid1 of 1 mirror needs 104 MiB on each of 2; of those with most room left one has 100 MiB",
        ),
        (
            [180, 20],
            [("raid1", "40", None, None)],
            "$0",
            "raid1 of 1 mirror needs 44 MiB on each of 2; of those with most room left one has 20 MiB",
        ),
        (
            [100],
            [("raid1", "4", None, None)],
            "$0",
            "raid1 of 1 mirror needs 2 physical volumes in its group; there is 1",
        ),
        (
            [100, 100],
            [("raid5", "4", None, None)],
            "$0",
            "raid5 of 2 stripes needs 3 physical volumes in its group; there are 2",
        ),
        (
            [104, 104],
            [("raid1", "80", None, None), ("linear", "44", None, None)],
            "",
            "the volumes need 44 MiB, 4 MiB more than the 40 MiB that are free",
        ),
        (
            [44, 44],
            [("raid1", "remaining", None, None), ("linear", "84", None, None)],
            "$0",
            "nothing is remaining for raid1 of 1 mirror on 2 physical volumes",
        ),
        (
            [44, 44],
            [("raid1", "remaining", None, None), ("linear", "remaining", None, None)],
            "$1",
            "only one volume can take what is remaining",
        ),
        (
            [40, 40],
            [("thin-pool", "76", None, None)],
            "",
            "the volumes need 76 MiB, 4 MiB more than the 72 MiB that are free,"
            " beside 8 MiB for metadata of thin pools",
        ),
        (
            [8],
            [("thin-pool", "remaining", None, None)],
            "$0",
            "nothing is remaining for a thin pool and its metadata",
        ),
        ([44, 44], [("striped", "1%", None, None)], "$0", "comes to nothing: less than 8 MiB of 88 MiB"),
    ],
)
def test_what_does_not_fit(rooms: Sequence[int], volumes: Sequence[Volume], path: str, message: str) -> None:
    with pytest.raises(DoesNotFit) as caught:
        _granted(rooms, volumes)
    assert (caught.value.path, caught.value.message) == (path, message)


_VOLUMES = st.lists(
    st.tuples(
        st.sampled_from(sorted(set(SEGMENT_TYPES) - {"thin"})),
        st.integers(1, 60).map(lambda size: f"{size * 2} MiB") | st.just("remaining") | st.just("20%"),
        st.none(),
        st.none(),
    ),
    max_size=4,
)


@settings(deadline=None, database=None)
@given(st.lists(st.integers(0, 60).map(lambda extents: extents * EXTENT), min_size=1, max_size=5), _VOLUMES)
def test_nothing_is_given_twice(rooms: list[int], volumes: list[Volume]) -> None:
    asked = _asked(volumes, len(rooms))
    try:
        granted = grant(rooms, asked)
    except DoesNotFit:
        return
    free = list(rooms)
    linear = 0
    for wanted, found in zip(asked, granted, strict=True):
        shape = wanted.segment
        assert found.size > 0 and found.size % (EXTENT * shape.stripes) == 0
        if shape.legs == 1 and shape.kind != "thin":
            linear += found.size
        assert len(set(found.on)) == (0 if shape.legs == 1 else shape.legs)
        for number in found.on:
            free[number] -= found.size // shape.stripes + shape.type.metadata * EXTENT
    assert min(free) >= 0
    pools = [x.size for wanted, x in zip(asked, granted, strict=True) if wanted.segment.kind == "thin-pool"]
    assert linear + pool.beside(pools) <= sum(free)


@pytest.mark.parametrize(
    ("size", "chunk", "metadata"),
    [
        (4 * MIB, 64 * KIB, 4 * MIB),
        (4 * GIB, 64 * KIB, 4 * MIB),
        (4 * GIB + EXTENT, 64 * KIB, 8 * MIB),
        (128 * GIB, 64 * KIB, 128 * MIB),
        (128 * GIB + EXTENT, 128 * KIB, 68 * MIB),
        (1024 * GIB, 512 * KIB, 128 * MIB),
    ],
)
def test_chunks_and_metadata_of_a_thin_pool(size: int, chunk: int, metadata: int) -> None:
    assert (pool.chunk(size), pool.metadata(size)) == (chunk, metadata)


@settings(deadline=None, database=None)
@given(st.integers(0, 2**43), st.lists(st.integers(1, 2**30).map(lambda x: x * EXTENT), max_size=2))
def test_the_largest_thin_pool_fits_and_a_larger_one_would_not(room: int, others: list[int]) -> None:
    there, size = pool.beside(others), pool.largest(room, others)
    assert size % EXTENT == 0
    assert size == 0 or size + pool.beside([*others, size]) - there <= room
    assert size + EXTENT + pool.beside([*others, size + EXTENT]) - there > room


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        (["400 MiB", "1 GiB"], [400, 1024]),
        (["50%", "remaining"], [100, 100]),
        (["1 MiB", "100%"], [4, 200]),
    ],
)
def test_sizes_of_thin_volumes_are_of_their_pool(sizes: Sequence[str], found: Sequence[int]) -> None:
    requests = [Request(parse_size(size), "$") for size in sizes]
    assert pool.thin_sizes(200 * MIB, requests) == [x * MIB for x in found]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (["200 MiB", "remaining"], "nothing is remaining of the 200 MiB of its pool: the other volumes take 200 MiB"),
        (["remaining", "remaining"], "only one volume of a pool can take what is remaining of it"),
    ],
)
def test_what_remains_of_a_pool_may_be_nothing(sizes: Sequence[str], said: str) -> None:
    with pytest.raises(DoesNotFit) as caught:
        pool.thin_sizes(200 * MIB, [Request(parse_size(size), f"${x}") for x, size in enumerate(sizes)])
    assert (caught.value.path, caught.value.message) == ("$1", said)
