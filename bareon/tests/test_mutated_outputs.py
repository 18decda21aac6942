# SPDX-License-Identifier: Apache-2.0
"""Whatever a program says, its reader gives a value or an error that names the program: never a traceback."""

from __future__ import annotations

import copy
import json
import os
import random
from collections import Counter
from typing import Any

import pytest

from bareon.tests import captured
from bareon.tests.conftest import Record
from bareon.tests.damage import damaged

#: Mutations of each captured call; 320 of each are over 20,000.
TRIES = int(os.environ.get("BAREON_MUTATIONS", "50"))
OUTCOMES: Counter[str] = Counter()
WORDS = (
    "",
    "-1",
    "0",
    "18446744073709551616",
    "1e400",
    "NaN",
    "null",
    "[]",
    "\x00",
    "\udcff",
    "…",
    "a b",
    "/dev/sda",
    "../x",
)


def mutated(text: str, dice: random.Random) -> str:
    """An output with one to three things changed: JSON in its values, any text in its lines, words and bytes."""
    if text[:1] in "{[" and dice.random() < 0.7:
        try:
            return json.dumps(damaged(json.loads(text), dice))
        except ValueError:
            pass
    for _ in range(dice.randint(1, 3)):
        text = dice.choice(MUTATIONS)(text, dice)
    return text


def _cut(text: str, dice: random.Random) -> str:
    return text[: dice.randrange(len(text) + 1)]


def _without_a_line(text: str, dice: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    if lines:
        del lines[dice.randrange(len(lines))]
    return "".join(lines)


def _with_a_line_twice(text: str, dice: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    return "".join([*lines, dice.choice(lines)]) if lines else text


def _with_another_word(text: str, dice: random.Random) -> str:
    lines = [line.split(" ") for line in text.split("\n")]
    line = dice.choice(lines)
    line[dice.randrange(len(line))] = dice.choice(WORDS)
    return "\n".join(map(" ".join, lines))


def _with_another_value(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    number = dice.randrange(len(lines))
    key, sign, _ = lines[number].partition(dice.choice("=:,\t"))
    lines[number] = key + sign + dice.choice(WORDS)
    return "\n".join(lines)


def _with_another_byte(text: str, dice: random.Random) -> str:
    at = dice.randrange(len(text) + 1)
    return text[:at] + chr(dice.choice((0, 9, 10, 34, 44, 58, 92, 123, 127, 0xDCFF, 0x2028))) + text[at + 1 :]


MUTATIONS = (_cut, _without_a_line, _with_a_line_twice, _with_another_word, _with_another_value, _with_another_byte)


def _mutate(entry: dict[str, Any], dice: random.Random) -> None:
    """Change one thing that is read: what a command says, or a file."""
    if entry.get("files") and (not entry["commands"] or dice.random() < 0.5):
        name = dice.choice(list(entry["files"]))
        content = bytearray(entry["files"][name])
        match dice.randint(0, 2):
            case 0:
                del content[dice.randrange(len(content) + 1) :]
            case 1:
                content[dice.randrange(len(content))] = dice.randrange(256)
            case _:
                at = dice.randrange(len(content))
                content[at:at] = dice.randbytes(dice.randint(1, 9))
        entry["files"][name] = bytes(content)
        return
    command = dice.choice(entry["commands"])
    command["stdout"] = mutated(command.get("stdout", ""), dice)
    if dice.random() < 0.1:
        command["code"] = dice.choice((0, 1, 2, 5, 127))


@pytest.mark.parametrize("path", captured.files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_reader_says_what_is_wrong(path: Any) -> None:
    entry = captured.load(path)
    module = captured.MODULES[path.parent.name]
    dice = random.Random(f"{path.parent.name}/{path.stem}")
    for _ in range(TRIES):
        other = copy.deepcopy(entry)
        _mutate(other, dice)
        outcome = captured.read(module, other)  # an exception of another kind is what this looks for
        OUTCOMES["error" if "raises" in outcome else "value"] += 1


def test_both_outcomes_occur(record_property: Record) -> None:
    record_property("mutated outputs", f"{sum(OUTCOMES.values())}: {dict(OUTCOMES)}")
