# SPDX-License-Identifier: Apache-2.0
"""The grammar of makers of initial ramdisks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bareon.system.carried import Needs
from bareon.system.tree import Tree

HEADER = "# Written by bareon: what the initramfs needs for the root file system of this node."
END = "# End of bareon's lines."
Lines = Mapping[str, Sequence[str]]
"""Lines at the end of files, by the paths of these."""


def _nothing(tree: Tree, needs: Needs) -> Lines:
    return {}


def _as_they_are(tree: Tree) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Maker:
    """A program that makes initial ramdisks, and what its settings have to do with what these must carry.

    It is one of :mod:`bareon.tools.initramfs`, which runs it. ``needs`` is a file without which it makes none.

    ``settings`` are those files in which lines of bareon's may stand; the last part of one may be a pattern.
    ``lines`` gives those that must stand there, so that what it makes carries what it must, now and whenever the
    system makes another. It looks at the files as they are without lines of bareon's.

    ``instead`` gives texts that the program is shown in the place of files: settings that go by the machine, which it
    does not see in the sandbox.
    """

    program: str
    needs: str | None = None
    settings: tuple[str, ...] = ()
    lines: Callable[[Tree, Needs], Lines] = _nothing
    instead: Callable[[Tree], Mapping[str, str]] = _as_they_are


def others(text: str) -> str:
    """A file without the lines of bareon's at its end."""
    before, _, behind = text.partition(f"{HEADER}\n")
    ours, end, after = behind.partition(f"{END}\n")
    return before + (after if end else ours)  # without the end nobody knows which are bareon's


def appended(text: str | None, lines: Sequence[str]) -> str | None:
    """A file with those lines at its end, in the place of those that bareon has written before."""
    rest = others(text or "")
    if not lines:
        return None if text is None else rest
    gap = "" if not rest or rest.endswith("\n") else "\n"
    return rest + gap + "".join(f"{line}\n" for line in (HEADER, *lines, END))
