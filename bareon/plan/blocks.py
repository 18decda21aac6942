# SPDX-License-Identifier: Apache-2.0
"""A disk or a volume group as a bar of blocks, in scale: here in characters, in ``report/picture.py`` as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """An occupied part of a bar, such as a partition of a disk; ``start`` and ``size`` are bytes."""

    start: int
    size: int
    label: str


def gaps(size: int, blocks: Iterable[Block]) -> Iterator[tuple[int, int]]:
    """Start and size, in bytes, of each free part of a bar of ``size`` bytes."""
    at = 0
    for start, end in [*sorted((block.start, block.start + block.size) for block in blocks), (size, size)]:
        if start > at:
            yield at, start - at
        at = max(at, end)


def draw(size: int, blocks: Sequence[Block], width: int) -> list[str]:
    """One line of ``width`` characters for a disk of ``size`` bytes, free space as dots.

    Every block gets its ``|``, even one too small for a character, so that the others move a little. A label that
    does not fit is cut.
    """
    if not blocks:
        return ["|" + "free".center(width - 2, ".") + "|"]
    cells = _cells(size, blocks, width - 2)
    bar = "".join(_cell(label, count) for label, count in cells if count)
    return [f"|{bar.removesuffix('|')}|"]


def _cell(label: str | None, count: int) -> str:
    if label is None:
        return "." * (count - 1) + "|"
    return label[: count - 1].center(count - 1) + "|"


def _cells(size: int, blocks: Sequence[Block], width: int) -> list[tuple[str | None, int]]:
    """(label, characters) of all blocks and the gaps worth showing; the characters sum up to ``width`` + 1."""
    spans: list[tuple[int, int, str | None]] = [(block.start, block.size, block.label) for block in blocks]
    spans += [(start, amount, None) for start, amount in gaps(size, blocks) if amount * width >= size]
    spans.sort(key=lambda span: span[0])
    least = 2 if len(spans) * 2 <= width + 1 else 1
    free = max(0, width + 1 - least * len(spans))
    total = sum(amount for _, amount, _ in spans) or 1
    # The largest remainder method: whole characters that sum up exactly.
    shares = [amount * free // total for _, amount, _ in spans]
    order = sorted(range(len(spans)), key=lambda i: -(spans[i][1] * free % total))
    for i in order[: free - sum(shares)]:
        shares[i] += 1
    return [(label, least + share) for (_, _, label), share in zip(spans, shares, strict=True)]
