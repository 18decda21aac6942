# SPDX-License-Identifier: Apache-2.0
"""Settings of what makes the initramfs: what it must carry for the root file system, and does not find by itself."""

from __future__ import annotations

from bareon.system.bindings.binding import Binding, Change, Result
from bareon.system.bindings.home import Home
from bareon.system.makers import table
from bareon.system.makers.maker import Lines, appended
from bareon.system.tree import Tree


class MakerSettings(Binding):
    """Lines of bareon's in the settings of the program that makes the initramfs; see ``bareon/system/makers``.

    They stay with the system, which makes its next initramfs by them too.
    """

    files = tuple(path for maker in table.MAKERS for path in maker.settings)
    copied = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        return Change(text)  # that depends on other files

    def apply(self, tree: Tree, home: Home, result: Result) -> None:
        maker = table.of(tree)
        lines: Lines = maker.lines(tree, home.needs) if maker else {}
        for path in dict.fromkeys([*self.paths(tree), *lines]):
            text = tree.read(path)
            ours = lines.get(path, ())
            change = Change(appended(text, ours), tuple(f"{path}: {line}, for the initramfs" for line in ours))
            self.put(path, text, change if change.text != text else Change(text), tree, result)
