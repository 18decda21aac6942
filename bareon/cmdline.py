# SPDX-License-Identifier: Apache-2.0
"""The kernel's command line: words with names and values, as next_arg() in lib/cmdline.c of the kernel reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from bareon.errors import Defect, InvalidInput

#: A word, which may have blanks within quotes.
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')


def read(root: Path) -> str:
    """The command line of the kernel that runs, whatever bytes are on it; ``root`` is the folder with ``proc``."""
    return (root / "proc/cmdline").read_text("latin-1")


def parameters(text: str) -> Iterator[tuple[str, str | None]]:
    """Name and value of each word; a word without ``=`` has the value ``None``."""
    for word in _WORD.findall(text):
        name, equals, value = _unquoted(word).partition("=")
        yield name, _unquoted(value) if equals else None


def unambiguous(pairs: Iterable[tuple[str, str]], where: str) -> dict[str, str]:
    """The values by their names.

    :param where: what they stand on, for errors.
    :raises InvalidInput: when one is there twice with two values.
    """
    found: dict[str, str] = {}
    defects = []
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            defects.append(Defect(name, f"is there twice on {where}, with two values: leave one"))
    if defects:
        raise InvalidInput(defects)
    return found


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] == '"' else word
