# SPDX-License-Identifier: Apache-2.0
"""The base class of bindings: files by which a system is bound to the machine that it was made on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import ClassVar

from bareon.system.bindings.home import Home
from bareon.system.tree import Tree
from bareon.text import visible

#: Stands before a line that was taken out: whoever misses it finds it, and no program reads it.
TAKEN_OUT = "# Taken out by bareon: "
_ETC = PurePosixPath("/etc")
_SHOWN = 200  # characters of a line of an image that a message shows


def shown(line: str) -> str:
    """A piece of a file for a message."""
    text = visible(line.strip())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"


@dataclass(frozen=True)
class Change:
    """What one file is to be: ``None`` for no such file. ``done`` and ``warnings`` are lines for people."""

    text: str | None
    done: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass
class Result:
    """What was found and done in one tree.

    ``stale`` are the files of which an initramfs may hold a copy that is not theirs any more.
    """

    done: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)


class Binding(ABC):
    """One thing that an image knows of a machine.

    ``files`` are its paths; the last part of one may be a pattern. ``of_node`` says that they hold nothing else, so
    that on a root that is kept those of the node stay, and the image's are not brought. ``copied`` says that an
    initramfs holds a copy.
    """

    files: ClassVar[tuple[str, ...]]
    of_node: ClassVar[bool] = False
    copied: ClassVar[bool] = False

    @abstractmethod
    def bound(self, path: str, text: str | None, home: Home) -> Change:
        """The file as it must be on this node.

        :param text: as it is now, ``None`` where there is none.
        """

    def paths(self, tree: Tree) -> list[str]:
        """Its files; of those with a pattern what is there."""
        found = []
        for path in map(PurePosixPath, self.files):
            if "*" in path.name:
                names = tree.names(str(path.parent))
                found += [str(path.parent / name) for name in names if PurePosixPath(name).match(path.name)]
            else:
                found.append(str(path))
        return found

    def apply(self, tree: Tree, home: Home, result: Result) -> None:
        """Change the files in a tree."""
        for path in self.paths(tree):
            self.applied(path, tree, home, result)

    def applied(self, path: str, tree: Tree, home: Home, result: Result) -> None:
        """Change one file in a tree."""
        text = tree.read(path)
        self.put(path, text, self.bound(path, text, home), tree, result)

    def put(self, path: str, text: str | None, change: Change, tree: Tree, result: Result) -> None:
        """Make a change of a file in a tree, and tell of it.

        :param text: the file as it is.
        """
        # Names of files are the image's too.
        result.done += map(visible, change.done)
        result.warnings += map(visible, change.warnings)
        if change.text != text:
            _put(tree, path, change.text)
            result.stale += [path] if self.copied else []


def _put(tree: Tree, path: str, text: str | None) -> None:
    if PurePosixPath(path).parent != _ETC:  # which must be a folder
        path = tree.real(path)
    if text is None:
        tree.remove(path)
    else:
        tree.write(path, text)
