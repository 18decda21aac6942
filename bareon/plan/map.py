# SPDX-License-Identifier: Apache-2.0
"""A disk as a bar of characters, in scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """An occupied part of a disk, in bytes."""

    start: int
    size: int
    label: str


def draw(size: int, pieces: Sequence[Piece], width: int) -> list[str]:
    """One line of ``width`` characters for a disk of ``size`` bytes, free space as dots.

    Every piece gets its ``|`` even where it is too small for a character of its own, so the small ones push the
    others a little; a label that does not fit is cut.
    """
    if not pieces:
        return ["|" + "free".center(width - 2, ".") + "|"]
    cells = _cells(size, pieces, width - 2)
    bar = "".join(_cell(label, count) for label, count in cells if count)
    return [f"|{bar.removesuffix('|')}|"]


def _cell(label: str | None, count: int) -> str:
    if label is None:
        return "." * (count - 1) + "|"
    return label[: count - 1].center(count - 1) + "|"


def _cells(size: int, pieces: Sequence[Piece], width: int) -> list[tuple[str | None, int]]:
    """(label, characters) of all pieces and the gaps worth showing; the characters sum up to ``width`` + 1."""
    spans: list[tuple[str | None, int]] = []
    at = 0
    for piece in sorted(pieces, key=lambda piece: piece.start):
        if (piece.start - at) * width >= size:
            spans.append((None, piece.start - at))
        spans.append((piece.label, piece.size))
        at = piece.start + piece.size
    if (size - at) * width >= size:
        spans.append((None, size - at))
    least = 2 if len(spans) * 2 <= width + 1 else 1
    free = max(0, width + 1 - least * len(spans))
    total = sum(amount for _, amount in spans) or 1
    # The largest remainder method: whole characters that sum up exactly.
    shares = [amount * free // total for _, amount in spans]
    order = sorted(range(len(spans)), key=lambda i: -(spans[i][1] * free % total))
    for i in order[: free - sum(shares)]:
        shares[i] += 1
    return [(label, least + share) for (label, _), share in zip(spans, shares, strict=True)]
