# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareon.sizes import MIB, UNITS, Absolute, Relative, Remaining, Size, human, mib, parse_size, round_down, round_up


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1 B", Absolute(1)),
        ("1 KB", Absolute(1000)),
        ("1 KiB", Absolute(1024)),
        ("1MB", Absolute(10**6)),
        ("1 MiB", Absolute(MIB)),
        ("7", Absolute(7 * MIB)),
        ("7.5", Absolute(7864320)),
        ("1.5 GiB", Absolute(1610612736)),
        ("0.1 MiB", Absolute(104858)),
        ("1 YB", Absolute(10**24)),
        ("2 YiB", Absolute(2 * 2**80)),
        ("1 ZB", Absolute(10**21)),
        ("1 EiB", Absolute(2**60)),
        ("1 PB", Absolute(10**15)),
        ("3 TiB", Absolute(3 * 2**40)),
        ("40%", Relative(Fraction(2, 5))),
        ("33.3 %", Relative(Fraction(333, 1000))),
        ("100%", Relative(Fraction(1))),
        ("250%", Relative(Fraction(5, 2))),
        ("remaining", Remaining()),
    ],
)
def test_parse(text: str, size: Size) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a size"),
        ("GiB", "is not a size"),
        ("0", "above zero"),
        ("0.0 GiB", "above zero"),
        ("-1 GiB", "above zero"),
        ("-5%", "above zero"),
        ("1 gib", "did you mean GiB?"),
        ("1 G", "did you mean GB or GiB?"),
        ("1 parsec", "unknown unit 'parsec'"),
        ("1  GiB", "is not a size"),
        (" 1 GiB", "is not a size"),
        ("1 GiB\n", "is not a size"),
        ("1e3", "is not a size"),
        ("1,5 GiB", "is not a size"),
        (".5 GiB", "is not a size"),
        ("5. GiB", "is not a size"),
        ("٣ GiB", "is not a size"),
        ("nan", "is not a size"),
        ("inf GiB", "is not a size"),
        ("0x10", "is not a size"),
        ("Remaining", "is not a size"),
        ("9" * 65, "is not a size"),
    ],
)
def test_refuse(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_size(text)
    assert says in str(caught.value)


@given(st.integers(1, 10**12), st.sampled_from(sorted(UNITS)))
def test_whole_numbers_are_exact(number: int, unit: str) -> None:
    assert parse_size(f"{number} {unit}") == Absolute(number * UNITS[unit])


@given(st.decimals(min_value="0.001", max_value=10**6, places=3), st.sampled_from(sorted(UNITS)))
def test_fractions_are_never_less_than_asked_and_less_than_a_byte_more(number: object, unit: str) -> None:
    size = parse_size(f"{number} {unit}")
    assert isinstance(size, Absolute)
    exact = Fraction(str(number)) * UNITS[unit]
    assert 0 <= size.size - exact < 1


@given(st.integers(0, 2**70), st.integers(1, 2**30))
def test_rounding(size: int, unit: int) -> None:
    assert round_down(size, unit) <= size <= round_up(size, unit)
    assert round_up(size, unit) - round_down(size, unit) in (0, unit)
    assert round_up(size, unit) % unit == round_down(size, unit) % unit == 0


@pytest.mark.parametrize(
    ("size", "shown", "table"),
    [
        (MIB, "1 MiB", "1 MiB"),
        (4096 * MIB, "4096 MiB", "4 GiB"),
        (MIB + 1, "1.01 MiB", "1 MiB"),
        (3 * MIB // 2, "1.50 MiB", "1.5 MiB"),
        (999, "0.01 MiB", "999 B"),
        (2**40 * 7, "7340032 MiB", "7 TiB"),
    ],
)
def test_shown(size: int, shown: str, table: str) -> None:
    assert (mib(size), human(size)) == (shown, table)
