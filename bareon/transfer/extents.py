# SPDX-License-Identifier: Apache-2.0
"""Extents of a file: what alone is fetched of one where nothing is known by which all of it could be checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bareon.sizes import MIB
from bareon.transfer.pipeline import Packer
from bareon.transfer.source import Skippable

_NEAR = MIB  # a request of its own would take longer than the bytes between
_MOST = 64  # requests for one file

#: The first byte, and that behind the last.
Extent = tuple[int, int]


def joined(wanted: Iterable[Extent], head: int) -> list[Extent]:
    """Extents that hold all that is wanted, ascending and apart; the first are the ``head`` bytes that are there."""
    ordered, near = sorted([(0, head), *(x for x in wanted if x[0] < x[1])]), _NEAR
    while True:
        found: list[Extent] = []
        for start, end in ordered:
            if found and start <= found[-1][1] + near:
                found[-1] = found[-1][0], max(found[-1][1], end)
            else:
                found.append((start, end))
        if len(found) <= _MOST:
            return found
        near *= 2


class Ranged:
    """The stream of a source, of which only extents are read; its head was read already."""

    def __init__(self, source: Skippable, extents: Sequence[Extent]) -> None:
        self._source = source
        self._left = list(extents)
        self.length: int | None = sum(end - start for start, end in extents)

    def fill(self, buffer: memoryview) -> int:
        """Read on until the buffer is full, or the last extent or the image ends; 0 is the end."""
        filled = 0
        while filled < len(buffer) and self._left:
            start, end = self._left[0]
            if self._source.offset < start:
                self._source.skip(start)
            if self._source.offset >= end:
                self._left.pop(0)
                continue
            count = self._source.fill(buffer[filled : filled + end - self._source.offset])
            if not count:
                break
            filled += count
        return filled

    def close(self) -> None:
        """End the source."""
        self._source.close()


def located(
    served: Iterable[memoryview], extents: Sequence[Extent] | None = None
) -> Iterator[tuple[int, memoryview]]:
    """The pieces of a stream with their places in the file; without extents it is all of the file."""
    left = iter(extents or [(0, 1 << 63)])
    start, end = next(left)
    for piece in served:
        while piece:
            if start == end:
                start, end = next(left)
            part = piece[: end - start]
            yield start, part
            start += len(part)
            piece = piece[len(part) :]


class Scattered:
    """A :class:`bareon.transfer.pipeline.Reshape` for extents of what is written as it is served."""

    def __init__(self, extents: Sequence[Extent]) -> None:
        self._extents = extents

    def __call__(self, served: Iterator[memoryview], packer: Packer) -> None:
        for offset, data in located(served, self._extents):
            packer.seek(offset)
            packer.feed(data)
