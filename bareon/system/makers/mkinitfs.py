# SPDX-License-Identifier: Apache-2.0
"""mkinitfs(1) of Alpine: its features, in /etc/mkinitfs, are all that it puts in.

Each is a list of files and one of modules, in patterns of the shell. Which of them have what is needed is seen there:
what they are called, and hold, has changed over the years, and an image may have some of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from bareon.system.carried import Needs, index_of
from bareon.system.makers.maker import Lines, Maker, others
from bareon.system.module import module_paths
from bareon.system.tree import Tree

CONF = "/etc/mkinitfs/mkinitfs.conf"
_FEATURES = "/etc/mkinitfs/features.d"
#: sh(1) reads the file.
_ASSIGNED = re.compile(r"""^[ \t]*features=(?:"([^"\n]{0,4096})"|'([^'\n]{0,4096})'|([\w.-]+))""", re.MULTILINE)
_ITSELF = ("$features", "${features}")
#: What may stand in a line that sh(1) reads, whatever else a file is called.
_WORD = re.compile(r"[\w.-]+", re.ASCII)


def features(tree: Tree) -> tuple[str, ...]:
    """The features of a deployed system as its settings say, lines of bareon's aside."""
    found: tuple[str, ...] = ()
    for match in _ASSIGNED.finditer(others(tree.read(CONF) or "")):
        words = next(filter(None, match.groups()), "").split()
        found = tuple(x for word in words for x in (found if word in _ITSELF else (word,)))
    return found


def _lines(tree: Tree, needs: Needs) -> Lines:
    there = features(tree)
    new: list[str] = []
    for having in _wanted(tree, needs):
        if having and not {*having} & {*there, *new}:
            new.append(having[0])
    return {CONF: [f'features="$features {" ".join(new)}"']} if new and there else {}


def _wanted(tree: Tree, needs: Needs) -> Iterator[Sequence[str]]:
    """For each thing that is needed, the features that have it, the one that is called as it is first."""
    names = sorted({x for file in tree.names(_FEATURES) if _WORD.fullmatch(x := file.rpartition(".")[0])})
    modules, files = ({x: _patterns(tree, f"{x}.{kind}") for x in names} for kind in ("modules", "files"))
    wanted = dict.fromkeys([*needs.modules, *(x.name for x in needs.drivers)])
    for release in tree.names("/lib/modules"):
        paths = module_paths(index_of(tree, release))
        for name in wanted:
            if name in paths:
                having = [x for x in names if any(_means(pattern, paths[name]) for pattern in modules[x])]
                yield sorted(having, key=lambda x: (x != name, x))
    for program in needs.programs:
        yield [x for x in names if any(PurePosixPath(path).name in program for path in files[x])]


def _patterns(tree: Tree, name: str) -> list[str]:
    lines = (line.strip() for line in (tree.read(f"{_FEATURES}/{name}") or "").split("\n"))
    return [line.lstrip("/") for line in lines if line and not line.startswith("#")]


def _means(pattern: str, path: str) -> bool:
    """True if a pattern of the shell means a file, or a folder that it is in."""
    parts, wanted = path.split("/"), pattern.rstrip("/").split("/")
    return len(wanted) <= len(parts) and all(map(fnmatchcase, parts, wanted))


MAKER = Maker("mkinitfs", CONF, (CONF,), _lines)
