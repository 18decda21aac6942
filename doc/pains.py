# SPDX-License-Identifier: Apache-2.0
"""The page of pains: what users of such tools have reported, what bareon does about each, and the tests that hold it.

``pains.yaml`` has the pains. A test says which it proves: in Python by ``@pytest.mark.pain("ID", …)``, on a function
or on one set of its parameters; as a case by the key ``pains``. Marks are read from the sources, since many of
these tests need root, or a machine, merely to be imported.
"""

from __future__ import annotations

import ast
import dataclasses
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
FILE = Path(__file__).parent / "pains.yaml"
#: Folders with tests, by what the names of their files begin with on the page.
FOLDERS = {ROOT / "bareon/tests": "", ROOT / "tests_functional": "tests_functional/"}
HEAD = """\
=====
Pains
=====

.. This page is written by doc/regenerate.py, from doc/pains.yaml and the marks of the tests.

What users of such tools have reported, over the years and of many tools, and what bareon does in each of these
situations. Each has the tests that hold it, or the reason why it is none of bareon's business. Files without a
folder are in ``bareon/tests``.
"""


@dataclasses.dataclass(frozen=True)
class Pain:
    """A pain: its ``name``, the ``kind`` it is of, the situation, what bareon ``does``, or why it is
    ``left_alone``."""

    name: str
    kind: str
    situation: str
    does: str | None
    left_alone: str | None


def load() -> list[Pain]:
    """The pains, in the order of the page.

    :raises ValueError: for one with unknown keys, neither or both of ``does`` and ``left_alone``, or there twice.
    """
    found = [
        Pain(name, kind, entry.pop("pain"), entry.pop("does", None), entry.pop("left_alone", None))
        if set(entry) in ({"pain", "does"}, {"pain", "left_alone"})
        else _refuse(name)
        for kind, entries in yaml.safe_load(FILE.read_text()).items()
        for name, entry in entries.items()
    ]
    if len({pain.name for pain in found}) != len(found):
        raise ValueError(f"{FILE.name}: a name is there twice")
    return found


def _refuse(name: str) -> Pain:
    raise ValueError(f"{FILE.name}: {name} needs pain, and either does or left_alone")


def marks() -> dict[str, list[str]]:
    """The tests of each pain that any of them names, as on the page.

    :raises ValueError: for a mark that is on no test.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for folder, prefix in FOLDERS.items():
        for path in sorted(folder.glob("test_*.py")):
            for name, function in _of_module(path):
                found[name].append(f"{prefix}{path.name}::{function}")
        for path in sorted(folder.glob("cases/*/*.yaml")):
            for name in _of_case(path):
                found[name].append(f"{prefix}{path.relative_to(folder)}")
    return {name: list(dict.fromkeys(tests)) for name, tests in found.items()}


def _of_module(path: Path) -> Iterator[tuple[str, str]]:
    tree = ast.parse(path.read_text(), str(path))
    seen = 0
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
            for decorator in function.decorator_list:
                for name in _names(decorator):
                    seen += 1
                    yield name, function.name
    if seen != len(list(_names(tree))):
        raise ValueError(f"{path}: a mark of a pain that is on no test")


def _names(node: ast.AST) -> Iterator[str]:
    """The pains that marks below a node name; whatever is no plain text there is no name."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.pain":
            for argument in call.args:
                yield argument.value if isinstance(argument, ast.Constant) else ast.unparse(argument)


def _of_case(path: Path) -> list[str]:
    text = path.read_text()
    if "\npains:" not in f"\n{text}":  # most have none, and to read all of them takes seconds
        return []
    found: list[str] = yaml.safe_load(text)["pains"]
    return found


def defects(pains: list[Pain], found: dict[str, list[str]]) -> list[str]:
    """What is wrong with pains and the tests that were found for them, a line each."""
    known = {pain.name for pain in pains}
    return [
        *(f"{pain.name}: no test" for pain in pains if pain.does and not found.get(pain.name)),
        *(f"{pain.name}: tests of what is left alone" for pain in pains if pain.left_alone and found.get(pain.name)),
        *(f"{name}: no such pain, though {', '.join(found[name])} names it" for name in sorted(set(found) - known)),
    ]


def page() -> str:
    """The page.

    :raises ValueError: for a pain without a test or a reason, and for a test of a pain that there is not.
    """
    pains, found = load(), marks()
    if wrong := defects(pains, found):
        raise ValueError("; ".join(wrong))
    text = HEAD
    for kind in dict.fromkeys(pain.kind for pain in pains):
        text += f"\n{kind}\n{'=' * len(kind)}\n\n.. list-table::\n   :header-rows: 1\n   :widths: 34 34 32\n\n"
        text += _row("Reported", "What bareon does", "Tests")
        for pain in (pain for pain in pains if pain.kind == kind):
            tests = ", ".join(f"``{test}``" for test in found.get(pain.name, ()))
            text += _row(pain.situation, pain.does or f"Nothing: {pain.left_alone}", tests)
    return text


def _row(*cells: str) -> str:
    lines = [f"{'* -' if number == 0 else '  -'} {_wrapped(cell)}".rstrip() for number, cell in enumerate(cells)]
    return textwrap.indent("\n".join(lines) + "\n", "   ")


def _wrapped(cell: str) -> str:
    lines = textwrap.wrap(" ".join(cell.split()), 108, break_long_words=False, break_on_hyphens=False)
    return "\n    ".join(lines)
