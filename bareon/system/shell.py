# SPDX-License-Identifier: Apache-2.0
"""Assignments in a piece of shell, such as ``/etc/default/grub``: read, and never run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

COMMAND = "\0"
"""Stands in a value for what only a shell could tell: the output of a command, or an expression."""

LONGEST = 4096
"""Characters of a line and of a value that are looked at: values can double in each line."""

_MOST = 10_000  # lines of a file
_JOINED = 50  # lines of a statement
_BARE = r"""(?:\\.|`[^`]*+`|\$\([^)]*+\)+|[^\s'"\\;&|<>()`])++"""
_PIECE = rf"""(?P<apostrophes>'[^']*+')|(?P<quotes>"(?:[^"\\]|\\.)*+")|(?P<bare>{_BARE})"""
_WORD = re.sub(r"\?P<\w+>", "?:", _PIECE)
_STATEMENT = re.compile(
    rf"\s*+(?:export[ \t]++)?([A-Za-z_]\w*+)(\+?=)((?:{_WORD})*+)[ \t]*+(?:;[ \t;]*+)?(?:(?<=[ \t;])#.*)?", re.DOTALL
)
_BEGUN = re.compile(r"\s*+(?:export[ \t]++)?[A-Za-z_]\w*+\+?=.*", re.DOTALL)
_TOKEN = re.compile(_PIECE, re.DOTALL)
_INSIDE = re.compile(r"\\(.)|`[^`]*+`|\$\([^)]*+\)+|\$\{(\w+)\}|\$\{[^}]*+\}|\$([A-Za-z_]\w*+)", re.DOTALL)


@dataclass(frozen=True)
class Statement:
    """An assignment as it stands in a file, several lines where it goes on; ``text`` is all of it.

    ``name`` is empty for a line that is none, or that only a shell could read.
    """

    text: str
    name: str = ""
    appends: bool = False
    word: str = ""


def statements(text: str) -> Iterator[Statement]:
    """The lines of a file, those joined that belong to one assignment."""
    lines = text.split("\n", _MOST)
    rest = lines.pop() if len(lines) > _MOST else None
    number = 0
    while number < len(lines):
        found, number = _statement(lines, number)
        yield found
    if rest is not None:
        yield Statement(rest)


def _statement(lines: list[str], number: int) -> tuple[Statement, int]:
    """The statement that begins with a line, and the number of the line behind it."""
    whole = lines[number]
    if not _BEGUN.fullmatch(whole):
        return Statement(whole), number + 1
    for end in range(number + 1, min(number + _JOINED, len(lines)) + 1):
        if len(whole) > LONGEST:
            break
        match = _STATEMENT.fullmatch(whole)
        if match:
            return Statement(whole, match[1], match[2] == "+=", match[3]), end
        if end < len(lines):
            whole += "\n" + lines[end]
    return Statement(lines[number]), number + 1


def assignments(text: str) -> dict[str, str]:
    """The values that the assignments of a file lead to, one after the other."""
    found: dict[str, str] = {}
    for statement in statements(text):
        if statement.name:
            value = (found.get(statement.name, "") if statement.appends else "") + _value(statement.word, found)
            if len(value) <= LONGEST:
                found[statement.name] = value
    return found


def _value(word: str, known: dict[str, str]) -> str:
    """What a shell would make of a word, with :data:`COMMAND` for what it would have to run."""
    pieces = []
    for token in _TOKEN.finditer(word.replace(COMMAND, "")):
        if token["apostrophes"]:
            pieces.append(token[0][1:-1])
        elif token["quotes"]:
            pieces.append(_expanded(token[0][1:-1], known, '$`"\\'))
        else:
            pieces.append(_expanded(token[0], known))
        if sum(map(len, pieces)) > LONGEST:
            break
    return "".join(pieces)


def _expanded(text: str, known: dict[str, str], special: str = "") -> str:
    """A text with its variables and escapes replaced; with ``special``, only these can be escaped."""

    def replaced(found: re.Match[str]) -> str:
        escaped, braced, bare = found.groups()
        if escaped:
            return "" if escaped == "\n" else escaped if not special or escaped in special else found[0]
        return known.get(braced or bare, "") if braced or bare else COMMAND

    return _INSIDE.sub(replaced, text)
