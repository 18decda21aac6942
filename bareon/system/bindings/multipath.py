# SPDX-License-Identifier: Apache-2.0
"""multipathd(8): the names that it gave to disks, and the disks that it makes maps of."""

from __future__ import annotations

from bareon.storage.multipath import SYSTEM
from bareon.system.bindings.binding import Binding, Change, Result
from bareon.system.bindings.home import Home
from bareon.system.program import absent, paths
from bareon.system.tree import Tree

WWIDS = "/etc/multipath/wwids"
_CONF = "/etc/multipath.conf"
_HEADER = "# Multipath wwids, Version : 1.0\n"
#: multipathd is not started without this file in systems of Red Hat and their initramfs.
_SETTINGS = "# Written by bareon: multipathd does not run without this file in some systems. The defaults do.\n"


class Multipath(Binding):
    """An image's are removed: multipathd writes those of this node.

    The WWIDs of maps are listed: by its defaults multipathd makes maps of no other disks. A system without multipathd
    gets no list.
    """

    files = ("/etc/multipath/bindings", WWIDS)
    of_node = True
    copied = True

    def apply(self, tree: Tree, home: Home, result: Result) -> None:
        super().apply(tree, home, result)
        if home.wwids and not absent(SYSTEM.programs, [x for x in paths(SYSTEM.programs) if tree.is_file(x)]):
            text = tree.read(WWIDS)
            self.put(WWIDS, text, _listed(text or _HEADER, home.wwids), tree, result)
            if tree.read(_CONF) is None:
                self.put(_CONF, None, Change(_SETTINGS, (f"{_CONF} was written",)), tree, result)

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        names = any(line.strip() and not line.startswith("#") for line in (text or "").split("\n"))
        if not (names and home.fresh):
            return Change(text)
        return Change(None, (f"{path} was removed: it names disks of another machine",))


def _listed(text: str, wwids: tuple[str, ...]) -> Change:
    there = text.split("\n")
    new = [f"/{x}/" for x in wwids if f"/{x}/" not in there]
    if not new:
        return Change(text)
    start = text if text.endswith("\n") else f"{text}\n"
    return Change(start + "".join(f"{x}\n" for x in new), (f"{WWIDS}: {', '.join(new)} was added",))
