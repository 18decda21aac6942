# SPDX-License-Identifier: Apache-2.0
"""mkinitcpio(8) of Arch: its hooks, in /etc/mkinitcpio.conf and its drop-ins, are all that it puts in.

It is run without its hook ``autodetect``, which would have it leave out what the machine does not use just now.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bareon.system.carried import Needs
from bareon.system.makers.maker import Lines, Maker, others
from bareon.system.tree import Tree

CONF = "/etc/mkinitcpio.conf"
_DROP_INS = "/etc/mkinitcpio.conf.d"  # since version 38; a preset that names CONF leaves them out
_HOOKS = ("/etc/initcpio/install", "/usr/lib/initcpio/install")
#: An assignment, as an array or, as it was before 2014, as one word. bash(1) reads these files.
_ASSIGNED = re.compile(
    r"^[ \t]*HOOKS(?P<more>\+?)="
    r"""(?:\((?P<array>[^()]{0,4096})\)|"(?P<text>[^"\n]{0,4096})"|'(?P<raw>[^'\n]{0,4096})')""",
    re.MULTILINE,
)
_COMMENT = re.compile(r"(?m)(?:^|[ \t])#.*$")
#: By a program that must be carried, the hook that brings it: of lvm2 and of mdadm.
_BRINGS = {"btrfs": "btrfs", "lvm": "lvm2", "mdadm": "mdadm_udev"}


@dataclass(frozen=True)
class Hooks:
    """The hooks of an image, by ``names``. What is added to them goes to the end of the file ``place``."""

    names: tuple[str, ...] = ()
    place: str = CONF
    is_array: bool = True

    def added(self, names: list[str]) -> str:
        """The line that adds hooks, behind all that are there."""
        words = " ".join(names)
        return f"HOOKS+=({words})" if self.is_array else f'HOOKS+=" {words}"'


def hooks(tree: Tree) -> Hooks:
    """The hooks of a deployed system as its settings say, lines of bareon's aside."""
    names = [x for x in tree.names(_DROP_INS) if x.endswith(".conf")]
    found = Hooks()
    for path in (CONF, *(f"{_DROP_INS}/{x}" for x in names)):
        for match in _ASSIGNED.finditer(others(tree.read(path) or "")):
            inside = _COMMENT.sub("", match["array"] or match["text"] or match["raw"] or "")
            new = tuple(re.findall(r"[\w.-]+", inside))
            if match["more"]:
                found = Hooks((*found.names, *new), found.place, found.is_array)
            else:  # which takes back what stands before it
                found = Hooks(new, path, match["array"] is not None)
    return found


def _lines(tree: Tree, needs: Needs) -> Lines:
    there = hooks(tree)
    wanted = ["block", *(_BRINGS[x[0]] for x in needs.programs if x[0] in _BRINGS), "filesystems"]
    new = [x for x in wanted if x not in there.names and any(tree.is_file(f"{place}/{x}") for place in _HOOKS)]
    return {there.place: [there.added(new)]} if new and there.names else {}


MAKER = Maker("mkinitcpio", CONF, (CONF, f"{_DROP_INS}/*.conf"), _lines)
