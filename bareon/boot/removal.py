# SPDX-License-Identifier: Apache-2.0
"""Images taken out of the menu of several, in which one of those that stay may run meanwhile."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bareon.boot import bareon_boot
from bareon.boot.renewal import ANEW, menu_on, numbers
from bareon.errors import UnsuitableNode
from bareon.model.layout import Layout
from bareon.step import Outcome, Progress, Step
from bareon.tools import menu, udev

_ENTRY = re.compile(r"^(?:# An older kernel of entry ([0-9]{1,4})\.\n)?(menuentry .*?^\}$)", re.MULTILINE | re.DOTALL)
_DEFAULT = re.compile(r"^set default=([0-9]{1,4})[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Entries:
    """A ``grub.cfg`` of :func:`bareon.boot.menu.configuration` in its parts.

    ``entries`` are those of images by their numbers, ``older`` those of older kernels by the number of their image's.
    ``default`` is the number of the image that boots by default, ``default_older`` whether it does so by the latter.
    """

    head: str
    entries: tuple[str, ...]
    older: Mapping[int, str]
    default: int
    default_older: bool = False

    @property
    def text(self) -> str:
        place = self.default
        if self.default_older:
            place = len(self.entries) + sorted(self.older).index(self.default)
        head = _DEFAULT.sub(f"set default={place}", self.head, count=1)
        marked = [f"# An older kernel of entry {n}.\n{self.older[n]}" for n in sorted(self.older)]
        return "\n\n".join([head, *self.entries, *marked]) + "\n"

    def moved(self, number: int, free: int) -> Entries:
        """With the entries of one image in the place of another's, too."""
        older = {n: x for n, x in self.older.items() if n != free}
        if number in older:
            older[free] = older[number]
        entries = [*self.entries]
        entries[free] = entries[number]
        default = free if self.default == number else self.default
        return replace(self, entries=tuple(entries), older=older, default=default)

    def cut(self, count: int) -> Entries:
        """With the entries of the first so many images alone."""
        older = {n: x for n, x in self.older.items() if n < count}
        return replace(self, entries=self.entries[:count], older=older)


def entries(text: str) -> Entries:
    """The parts of a ``grub.cfg``.

    :raises UnsuitableNode: when somebody has added to it what is none of them.
    """
    found = list(_ENTRY.finditer(text))
    default = _DEFAULT.search(text)
    plain = tuple(x[2] for x in found if x[1] is None)
    older = {int(x[1]): x[2] for x in found if x[1] is not None}
    if found and default:
        whose = [*range(len(plain)), *sorted(older)]
        place = int(default[1])
        if place < len(whose):
            head = text[: found[0].start()].rstrip("\n")
            parts = Entries(head, plain, older, whose[place], place >= len(plain))
            if parts.text.rstrip("\n") == text.rstrip("\n"):
                return parts
    raise UnsuitableNode(f"grub.cfg is not as bareon writes it: {ANEW}")


@dataclass(frozen=True)
class State:
    """The menu and the list of images beside it, as they are together at one time."""

    menu: str
    images: str


def without(there: State, names: Collection[str]) -> list[State]:
    """What menu and list become, one behind the other, until both are without some images.

    Two files cannot be changed at once: each state differs from the one before in one of them, and in each the list
    says of no image a number that starts another one. So an image is never moved: its entry is there twice meanwhile.

    :raises UnsuitableNode: as :func:`entries`.
    """
    parts = entries(there.menu)
    lines = [x for x in there.images.splitlines() if _name(x) not in names]
    states = [there, State(there.menu, _joined(lines))]
    numbered = sorted(numbers(_joined(lines)).values())
    for free, number in enumerate(numbered):
        if free != number:
            parts = parts.moved(number, free)
            states.append(State(parts.text, _joined(lines)))
            lines = [re.sub(rf"^{number}\t", f"{free}\t", x) for x in lines]
            states.append(State(parts.text, _joined(lines)))
    states.append(State(parts.cut(len(numbered)).text, _joined(lines)))
    return [x for n, x in enumerate(states) if n == 0 or x != states[n - 1]]


def refused(status: Mapping[str, Any], default: int, names: Collection[str], kept: Collection[str]) -> list[str]:
    """Why images cannot be taken out of a menu now.

    :param status: as ``bareon-boot status --json`` says it.
    :param default: the number of the image that boots by default, be it with an older kernel.
    :param kept: the names of all images that the document has.
    """
    number = {x["name"]: x["number"] for x in status["images"]}
    going = {number[x]: x for x in names if number.get(x) is not None}
    reasons = []
    if status["running"] in going:
        reasons.append(f"image {going[status['running']]!r} is the one that runs: start another one before")
    elif default in going:
        switch = "make another one the default, by bareon-boot switch"
        reasons.append(f"image {going[default]!r} is the one that boots by default: {switch}")
    if status["next"] is not None:
        reasons.append("an image is to start the next time only: start it, or make one the default, before")
    elif status["tried"] is not None and status["failed"] is None:
        reasons.append("the image that was started once is not confirmed yet")
    if strange := sorted(number.keys() - {*names, *kept}):
        listed = ", ".join(map(repr, strange))
        reasons.append(f"the menu also has image {listed}, which the document has not: name it, or describe it")
    return reasons


@dataclass(frozen=True)
class RemoveEntries(Step):
    """Take images out of the menu; what their volumes hold stays.

    ``kept`` are the names of all images of the document, ``document`` its text, which lies beside each copy of the
    menu then; without one, an older one goes.
    """

    images: tuple[str, ...]
    kept: tuple[str, ...]
    layout: Layout
    document: str | None

    @property
    def description(self) -> str:
        names = ", ".join(map(repr, self.images))
        return f"Take image {names} out of the menu on {self._device}; the volumes and other entries stay"

    def preflight(self) -> None:
        """See that none of them runs or boots by default, and that the document has all others."""
        self._states()

    def run(self, progress: Progress) -> Outcome:
        udev.settle()
        states = self._states()
        with tempfile.TemporaryDirectory(prefix="bareon-") as folder:
            write(states, Path(folder))
            if self.document is not None:
                (Path(folder) / "document").write_text(self.document, errors="surrogateescape")
            menu.remove(self._script, folder)
        before, after = (numbers(x.images) for x in (states[0], states[-1]))
        listed = {_name(x) for x in states[0].images.splitlines()}
        gone = [x for x in self.images if x in listed]
        missing = [x for x in self.images if x not in listed]
        moved = [f"{x} is {after[x]}" for x in after if before[x] != after[x]]
        told = {"removed": gone, "not in the menu": missing, "numbers": moved}
        left = {"menu": f"{len(after)} of {len(before)} images"}
        return {**left, **{key: ", ".join(x) for key, x in told.items() if x}}

    @property
    def _device(self) -> str:
        return next(iter(self.layout.menus.values())).device

    @property
    def _script(self) -> str:
        return bareon_boot.script([x.uuid for x in self.layout.menus.values()])

    def _states(self) -> list[State]:
        there = State(*menu_on(self._device))
        states = without(there, self.images)
        if reasons := refused(menu.status(self._script), entries(there.menu).default, self.images, self.kept):
            raise UnsuitableNode(*reasons)
        return states


def write(states: Sequence[State], folder: Path) -> None:
    """Write a folder for each state, from 0: in the first both files, in each other what is another one there."""
    for number, state in enumerate(states):
        place = folder / str(number)
        place.mkdir()
        before = states[number - 1] if number else State("", "")
        for name, text, old in (("menu", state.menu, before.menu), ("images", state.images, before.images)):
            if text != old:
                (place / name).write_text(text, errors="surrogateescape")


def _name(line: str) -> str:
    """The name of an image in its line of the list."""
    return line.split("\t")[1] if "\t" in line else ""


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{x}\n" for x in lines)
