# SPDX-License-Identifier: Apache-2.0
"""A disk as a bar: in scale, and free is only what no block covers."""

from __future__ import annotations

from bareon.plan.blocks import Block, draw, gaps


def test_a_bar_is_in_scale() -> None:
    assert draw(100, [Block(50, 25, "b"), Block(0, 25, "a")], 41) == ["|    a    |.........|    b    |.........|"]
    assert draw(100, [], 12) == ["|...free...|"]


def test_every_block_is_seen_however_small() -> None:
    (line,) = draw(1 << 40, [Block(number << 20, 1 << 20, "x") for number in range(8)], 40)
    assert (len(line), line.count("|"), line.count("x")) == (40, 10, 8)


def test_the_gaps_lie_between_the_blocks_and_behind_them() -> None:
    assert list(gaps(100, [Block(60, 10, "b"), Block(10, 20, "a")])) == [(0, 10), (30, 30), (70, 30)]
    assert list(gaps(100, [Block(0, 100, "a")])) == []


def test_nothing_inside_another_block_is_free() -> None:
    """An extended partition covers its logical ones, and what is behind the last of them."""
    blocks = [Block(0, 25, "a"), Block(25, 75, "extended"), Block(30, 20, "b")]
    assert list(gaps(100, blocks)) == []
    assert "." not in draw(100, blocks, 60)[0]
