# SPDX-License-Identifier: Apache-2.0
"""The quick answer never says yes where the library says no."""

from __future__ import annotations

import copy
import random
from collections import Counter
from typing import Any

import pytest

from bareon.drivers.data import document
from bareon.drivers.data.fit import plainly_fits
from bareon.errors import InvalidInput
from bareon.tests.cases import cases, load
from bareon.tests.conftest import Record

DOCUMENTS = 6000
ODD = (
    None,
    True,
    0,
    1,
    1.0,
    -1,
    1 << 60,
    "",
    "x",
    "1 GiB",
    "40%",
    "remaining",
    "/",
    "a\n",
    [],
    {},
    ["a", "a"],
    {"type": "pv"},
)


SCHEMAS = ("ironic", "nailgun")


def inputs(dialect: str) -> list[Any]:
    """The inputs of all case files of this dialect."""
    found = (load(path) for kind in ("plan", "error") for path in cases(kind))
    return [case["input"] for case in found if "input" in case and case.get("driver", "ironic") == dialect]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def damaged(value: Any, chance: random.Random) -> Any:
    """A copy with one to three places changed."""
    value = copy.deepcopy(value)
    for _ in range(1 + (chance.random() < 0.2)):
        found = places(value)
        if not found:
            break
        container, key = chance.choice(found)
        match chance.randint(0, 2):
            case 0:
                del container[key]
            case 1:
                container[key] = copy.deepcopy(chance.choice(ODD))
            case _:
                other, there = chance.choice(found)
                container[key] = copy.deepcopy(other[there])
    return value


def library_says_yes(value: Any, dialect: str) -> bool:
    return not any(document._validator(f"{dialect}.json").iter_errors(value))


@pytest.mark.parametrize("dialect", SCHEMAS)
def test_quick_yes_is_the_librarys_yes(dialect: str, record_property: Record) -> None:
    chance = random.Random(1)
    originals = inputs(dialect)
    schema = document._inlined(f"{dialect}.json")
    answers: Counter[tuple[bool, bool]] = Counter()
    for number in range(DOCUMENTS):
        value = originals[number % len(originals)]
        value = damaged(value, chance) if number >= len(originals) else value
        answer = (plainly_fits(value, schema), library_says_yes(value, dialect))
        assert answer != (True, False), value
        answers[answer] += 1
    record_property(f"answers compared with the library's, {dialect}", str(dict(answers)))
    assert answers[True, True] > DOCUMENTS / 20 and answers[False, False] > DOCUMENTS / 10
    # A quick answer that is seldom given would be of no use.
    assert answers[False, True] < answers[True, True] / 5


@pytest.mark.parametrize("dialect", SCHEMAS)
def test_check_without_the_quick_answer(dialect: str) -> None:
    for value in inputs(dialect):
        fits = library_says_yes(value, dialect)
        try:
            document.check(value, f"{dialect}.json")
        except InvalidInput:
            assert not fits
        else:
            assert fits
