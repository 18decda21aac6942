# SPDX-License-Identifier: Apache-2.0
"""bareon's own lines in a file that others add to: known by where they stand, not by what they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

END = "# End of bareon's lines: those above are written anew each time, those below are kept."


def outside(text: str, header: str, own: Callable[[str], bool]) -> list[str]:
    """The lines of a file that are not bareon's, empty ones left out.

    :param own: tells whether a line has the form in which bareon writes it. A line in the block that has not was put
        there by somebody else. Files of earlier versions have no end of the block: there it ends with such a line.
    """
    return _parted(text, header, own)[1]


def within(text: str, header: str, own: Callable[[str], bool]) -> list[str]:
    """The lines of a file that are bareon's own; ``own`` as in :func:`outside`."""
    return _parted(text, header, own)[0]


def _parted(text: str, header: str, own: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    lines = text.split("\n")
    ended, inside = END in lines, False
    mine: list[str] = []
    kept: list[str] = []
    for line in lines:
        if line in (header, END):
            inside = line == header
        elif line and inside and own(line):
            mine.append(line)
        elif line:
            inside = inside and ended
            kept.append(line)
    return mine, kept


def joined(header: str, ours: Sequence[str], others: Sequence[str]) -> str:
    """The whole file: the block, then the lines of others."""
    return "".join(f"{line}\n" for line in (header, *ours, END, *others))
