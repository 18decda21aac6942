# SPDX-License-Identifier: Apache-2.0
"""From sizes to extents on a disk, in whole MiB.

A disk with a GPT keeps its first MiB and, at its end, the backup of the table. The *budget* is what percentages refer
to and what all partitions together may take: the declared size, or the real one where none is declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bareon.sizes import MIB, Absolute, Relative, Remaining, Size, mib, round_down, round_up

FIRST = MIB  # where the first partition starts, bytes
_GPT_ENTRIES = 128 * 128  # bytes


@dataclass(frozen=True)
class Request:
    """A wanted size and where it was asked for (a JSON path, or words for an implicit partition)."""

    size: Size
    path: str


class DoesNotFit(Exception):
    """The requests cannot all be granted. ``path`` is the request to blame, or empty for all of them together.

    ``have`` are the bytes there are, where that is what is too little. ``uneven`` says that the same percentages
    might fit on devices of other sizes.
    """

    def __init__(self, path: str, message: str, have: int | None = None, *, uneven: bool = False) -> None:
        self.path = path
        self.message = message
        self.have = have
        self.uneven = uneven
        super().__init__(message)


def usable_end(size: int, sector: int) -> int:
    """The first byte after the last whole MiB that partitions of a GPT may take, on a disk of ``size`` bytes."""
    return round_down(size - sector - round_up(_GPT_ENTRIES, sector))


def allocate(budget: int, available: int, requests: Sequence[Request], unit: int = MIB) -> list[int]:
    """The size in bytes that each request gets, in order.

    :param budget: bytes that percentages refer to and that the sum may not exceed.
    :param available: bytes that are really there for them; ``remaining`` stops at it.
    :param unit: what sizes are rounded to: explicit ones up, relative ones down.
    :raises DoesNotFit: naming by how much.
    """
    fixed = [None if isinstance(x.size, Remaining) else fixed_size(x, budget, unit) for x in requests]
    total = sum(size for size in fixed if size is not None)
    open_ended = [request for request in requests if isinstance(request.size, Remaining)]
    if len(open_ended) > 1:
        raise DoesNotFit(open_ended[1].path, "only one volume can take what is remaining")
    if total > budget:
        raise DoesNotFit(
            "",
            f"the volumes need {mib(total)}, {mib(total - budget)} more than the {mib(budget)} there are",
            budget,
        )
    if total > available:
        raise DoesNotFit(
            "",
            f"the volumes need {mib(total)}, {mib(total - available)} more than the {mib(available)} that are free",
            available,
        )
    rest = round_down(min(budget, available) - total, unit)
    if open_ended and not rest:
        raise DoesNotFit(
            open_ended[0].path, f"nothing is remaining: the other volumes take all of {mib(total)}", total
        )
    return [rest if size is None else size for size in fixed]


def fixed_size(request: Request, budget: int, unit: int = MIB) -> int:
    """The size in bytes of a request for anything but what remains; see :func:`allocate`.

    :raises DoesNotFit: when that is nothing.
    """
    size = _fixed(request.size, budget, unit)
    if size == 0:
        raise DoesNotFit(request.path, f"comes to nothing: less than {mib(unit)} of {mib(budget)}")
    return size


def _fixed(size: Size, budget: int, unit: int) -> int:
    match size:
        case Absolute():
            return round_up(size.size, unit)
        case Relative():
            return round_down(int(size.share * budget), unit)
        case Remaining():
            raise TypeError("what remains has no fixed size")
