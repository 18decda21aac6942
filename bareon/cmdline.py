# SPDX-License-Identifier: Apache-2.0
"""The kernel's command line: words with names and values, as next_arg() in lib/cmdline.c of the kernel reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from bareon.errors import Defect, InvalidInput

#: COMMAND_LINE_SIZE of x86 and arm64, less the byte that ends it.
_KEPT = 2047
#: The longest word that is thought of: a key of RSA with 2048 bits in base64url.
_LONGEST_WORD = 511
#: A word, which may have blanks within quotes.
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')


def read(root: Path) -> str:
    """The command line of the kernel that runs, whatever bytes are on it; ``root`` is the folder with ``proc``."""
    return (root / "proc/cmdline").read_text("latin-1")


def cut(root: Path) -> str | None:
    """Why the end of the command line may be missing, for people; ``None`` where it is all there.

    A kernel keeps so many bytes, and says nothing to whom it starts. Its EFI stub drops whole words, so that the line
    that is left ends like any other: it may be shorter by the first word that was dropped.

    :param root: the folder with ``proc`` and ``sys``.
    """
    size = len(read(root).removesuffix("\n"))
    if size >= _KEPT:
        return f"has {size} bytes: a kernel keeps {_KEPT} and drops the rest; make it shorter"
    if size > _KEPT - _LONGEST_WORD and (root / "sys/firmware/efi").is_dir():
        most = f"{_KEPT - _LONGEST_WORD} at most are sure to be all"
        return f"has {size} bytes: a kernel that UEFI starts drops the last words of a line that is too long; {most}"
    return None


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
