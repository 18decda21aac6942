# SPDX-License-Identifier: Apache-2.0
"""Single files of an image's tree, read before anything is written."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bareon.sizes import MIB
from bareon.system.tree import Tree

if TYPE_CHECKING:
    from bareon.drivers.deploy.rsync import FetchTree
    from bareon.tools.rsync import Entry

LARGEST = 64 * MIB  # of a file, a kernel among them with all that may be built into it
_MOST = 16  # paths that links lead to, besides the files that are asked for


@dataclass(frozen=True)
class EarlyFiles:
    """Brings the files that an image would be brought with, links followed inside its tree."""

    fetch: FetchTree

    def __call__(self, paths: Sequence[str]) -> Mapping[str, bytes]:
        with tempfile.TemporaryDirectory(prefix="bareon-") as folder:
            tree, wanted = Tree(folder), dict.fromkeys(paths)
            new = list(wanted)
            while new and len(wanted) <= len(paths) + _MOST:
                self.fetch.some(self.fetch.filters, new, folder)
                # A link leads to what has not come yet.
                ends = dict.fromkeys(_end(path, tree, folder) for path in wanted)
                new = [path for path in ends if path not in wanted]
                wanted |= dict.fromkeys(new)
            found = ((path, tree.content(path, LARGEST)) for path in paths)
            return {path: content for path, content in found if content is not None}

    def folders(self, *paths: str) -> list[str]:
        """The paths of the folders in some folders of the image, links on the way to them not followed."""
        return [here for here, entry in self._contents(*paths) if entry.kind == "d"]

    def sizes(self, path: str) -> Mapping[str, int]:
        """The sizes of the files in a folder of the image, links on the way to it not followed."""
        return {here: entry.size for here, entry in self._contents(path) if entry.kind == "f"}

    def _contents(self, *paths: str) -> Iterator[tuple[str, Entry]]:
        found: list[Entry] = []
        self.fetch.contents(paths, found.append)
        named = ((f"/{entry.path}", entry) for entry in found)
        return ((here, entry) for here, entry in named if posixpath.dirname(here) in paths)


def _end(path: str, tree: Tree, folder: str) -> str:
    """The path that a link leads to; of a file its own."""
    try:
        link = Path(folder, tree.real(path).lstrip("/")).readlink()
    except OSError:
        return path
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
