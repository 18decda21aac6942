# SPDX-License-Identifier: Apache-2.0
"""Sizes as people write them, as exact values: ``10 GiB``, ``40%``, ``remaining``.

Everything here is integer arithmetic on bytes; a float never takes part.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3

_PREFIXES: Final = "KMGTPEZY"
UNITS: Final[dict[str, int]] = {
    "B": 1,
    **{f"{p}B": 1000 ** (i + 1) for i, p in enumerate(_PREFIXES)},
    **{f"{p}iB": 1024 ** (i + 1) for i, p in enumerate(_PREFIXES)},
}

_NUMBER: Final = re.compile(r"(?P<number>[+-]?[0-9]+(?:\.[0-9]+)?)[ ]?(?P<unit>%|[A-Za-z]*)", re.ASCII)
_LONGEST: Final = 64


@dataclass(frozen=True)
class Absolute:
    """An explicit size in bytes, already rounded up to a whole number of bytes."""

    size: int


@dataclass(frozen=True)
class Relative:
    """A share of the containing disk or volume group; ``Fraction(2, 5)`` is 40%."""

    share: Fraction


@dataclass(frozen=True)
class Remaining:
    """The room that is left after all the others."""


Size = Absolute | Relative | Remaining


@functools.lru_cache(maxsize=1024)
def parse_size(text: str) -> Size:
    """Parse a size.

    :raises ValueError: with a message for people, when ``text`` is not a size above zero.
    """
    if text == "remaining":
        return Remaining()
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(
            f"{text[:_LONGEST]!r} is not a size: write a number and a unit such as '10 GiB', a share such as "
            "'40%', or 'remaining'"
        )
    number, unit = Fraction(match["number"]), match["unit"]
    if number <= 0:
        raise ValueError(f"{text!r} is not a size: it must be above zero")
    if unit == "%":
        return Relative(number / 100)
    if unit and unit not in UNITS:
        raise ValueError(f"{text!r} has an unknown unit {unit!r}{_like(unit)}; known are {', '.join(UNITS)} and %")
    return Absolute(-((-number * UNITS[unit or "MiB"]) // 1))


def _like(unit: str) -> str:
    same = [known for known in UNITS if known.lower() == unit.lower()]
    near = same or [known for known in UNITS if unit.upper() == known[0]]
    return f", did you mean {' or '.join(near)}?" if near else ""


def round_up(size: int, unit: int = MIB) -> int:
    """The smallest multiple of ``unit`` that is at least ``size`` (bytes)."""
    return -(-size // unit) * unit


def round_down(size: int, unit: int = MIB) -> int:
    """The largest multiple of ``unit`` that is at most ``size`` (bytes)."""
    return size // unit * unit


def mib(size: int) -> str:
    """``size`` (bytes) for messages: whole MiB where it is one, else two decimals, rounded up."""
    whole, rest = divmod(size, MIB)
    if not rest:
        return f"{whole} MiB"
    hundredths = -(-size * 100 // MIB)
    return f"{hundredths // 100}.{hundredths % 100:02} MiB"


def human(size: int) -> str:
    """``size`` (bytes) for tables: at most one decimal and a binary unit, rounded down."""
    tenths, unit = size * 10, "B"
    for prefix in _PREFIXES:
        if tenths < 10240:
            break
        tenths, unit = tenths // 1024, f"{prefix}iB"
    whole, tenth = divmod(tenths, 10)
    return f"{whole}.{tenth} {unit}" if tenth else f"{whole} {unit}"
