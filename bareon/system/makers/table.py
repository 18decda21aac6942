# SPDX-License-Identifier: Apache-2.0
"""The list of makers of initial ramdisks. A new one is a module beside this one, a line here, and its command line in
``bareon/tools/initramfs.py``.
"""

from __future__ import annotations

from bareon.system.makers import dracut, initramfs_tools, mkinitcpio, mkinitfs
from bareon.system.makers.maker import Maker
from bareon.system.program import BIN
from bareon.system.tree import Tree

MAKERS: tuple[Maker, ...] = (initramfs_tools.MAKER, dracut.MAKER, mkinitcpio.MAKER, mkinitfs.MAKER)
"""Where a system has several, it uses the first."""


def of(tree: Tree) -> Maker | None:
    """What makes the initial ramdisks of a deployed system; ``None`` where nothing does that is known."""
    return next((x for x in MAKERS if has(tree, x.program) and (x.needs is None or tree.is_file(x.needs))), None)


def has(tree: Tree, program: str) -> bool:
    """True if a deployed system has a program of that name."""
    return any(tree.is_file(f"{place}/{program}") for place in BIN)
