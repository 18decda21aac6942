# SPDX-License-Identifier: Apache-2.0
"""The inputs of the case files, and copies of them with something changed."""

from __future__ import annotations

import copy
import random
from typing import Any

from bareon.tests.cases import cases, load

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
