# SPDX-License-Identifier: Apache-2.0
"""GRUB's language: words of it, written and read; "Writing full configuration files directly" in GRUB's manual."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

#: What stands for itself: no quote, variable, wildcard, comment or end of a command.
_PLAIN = re.compile(r"[\w.,:=/@%+-]+")
WORD = r"""(?:'[^']*+'|"(?:[^"\\]|\\.)*+"|\\.|\$\{\w*+\}|[^\s'"\\;&|<>{}])++"""
_PIECE = re.compile(
    r"""'(?P<apostrophes>[^']*+)'|"(?P<quotes>(?:[^"\\]|\\.)*+)"|\\(?P<escaped>.)|\$\{(?P<braced>\w*+)\}"""
    r"""|\$(?P<bare>[A-Za-z_]\w*+|[0-9?#@*])|(?P<plain>[^'"\\$]++|.)""",
    re.DOTALL,
)
_QUOTED = re.compile(r"\\(?P<escaped>.)|\$\{(?P<braced>\w*+)\}|\$(?P<bare>[A-Za-z_]\w*+|[0-9?#@*])", re.DOTALL)


def words(command: Sequence[str]) -> str:
    """A command, each of its words by :func:`word`."""
    return " ".join(map(word, command))


def word(text: str) -> str:
    """A text as a word: nothing has a meaning between apostrophes. What cannot be printed is left out."""
    if _PLAIN.fullmatch(text):
        return text
    if "'" not in text:
        return quoted(text)
    return '"' + re.sub(r'(["$\\])', r"\\\1", "".join(filter(str.isprintable, text))) + '"'


def quoted(text: str) -> str:
    """A text as a word in apostrophes; one in it, and what cannot be printed, is left out."""
    return "'" + "".join(char for char in text if char.isprintable() and char != "'") + "'"


def split(text: str) -> list[str]:
    """The words of kernel parameters as GRUB understands them. Variables stay as they are written.

    What ends a command of GRUB's is a character like others here. Where quotes are not closed, nothing is a quote.
    """
    found = [
        match[0] for match in re.finditer(r"""(?:'[^']*+'|"(?:[^"\\]|\\.)*+"|\\.|[^\s'"\\])++""", text, re.DOTALL)
    ]
    if re.sub(r"\s", "", "".join(found)) != re.sub(r"\s", "", text):
        return text.split()
    return ["".join(piece for piece, _ in pieces(x, None)) for x in found]


def expanded(text: str, variables: Mapping[str, str]) -> list[str]:
    """What a word becomes: itself, or several or none where a variable without quotes holds so many."""
    done: list[str] = []
    current: str | None = None
    for piece, whole in pieces(text, variables):
        if whole:
            current = (current or "") + piece
            continue
        parts = re.split(r"(\s+)", piece)
        for part in filter(None, parts):
            if part.isspace():
                done += [current] if current is not None else []
                current = None
            else:
                current = (current or "") + part
    return done + ([current] if current is not None else [])


def pieces(text: str, variables: Mapping[str, str] | None) -> Iterator[tuple[str, bool]]:
    """The pieces of a word, and whether each is whole: a variable without quotes falls into words.

    :param variables: without any, they stay as they are written.
    """
    for found in _PIECE.finditer(text):
        name = found["braced"] if found["braced"] is not None else found["bare"]
        if name is not None:
            yield (found[0], True) if variables is None else (variables.get(name, ""), False)
        elif found["quotes"] is not None:
            yield _in_quotes(found["quotes"], variables), True
        elif found["escaped"] is not None:
            yield found["escaped"].replace("\n", ""), True
        else:
            yield found["apostrophes"] if found["apostrophes"] is not None else found["plain"], True


def _in_quotes(text: str, variables: Mapping[str, str] | None) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found["escaped"] is not None:
            return "" if found["escaped"] == "\n" else found["escaped"] if found["escaped"] in '"$\\' else found[0]
        name = found["braced"] if found["braced"] is not None else found["bare"]
        return found[0] if variables is None else variables.get(name, "")

    return _QUOTED.sub(replaced, text)
