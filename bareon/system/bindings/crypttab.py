# SPDX-License-Identifier: Apache-2.0
"""``/etc/crypttab``, crypttab(5): systemd waits for every device in it."""

from __future__ import annotations

from collections.abc import Callable

from bareon.system.bindings import block
from bareon.system.bindings.binding import TAKEN_OUT, Binding, Change, shown
from bareon.system.bindings.home import Home, normal

PLACE = "/etc/crypttab"
HEADER = "# Written by bareon. Lines for other names are kept when the node is deployed again."


class Crypttab(Binding):
    """What the volumes of the layout lie in."""

    files = (PLACE,)
    of_node = True
    copied = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        ours = home.layout.crypttab(home.image)
        names = {line.split()[0] for line in ours}
        others, done, warnings = [], [], []
        for line in block.outside(text or "", HEADER, _own(text or "", home)):
            fields = [] if line.startswith("#") else line.split()
            if names & set(fields[:1]):
                continue
            if not home.lacking(fields[1:2]):
                others.append(line)
            elif home.fresh:
                others.append(TAKEN_OUT + line)
                done.append(f"{path}: {shown(line)!r} was taken out, since the node lacks {shown(fields[1])}")
            else:
                others.append(line)
                warnings.append(f"{path}: {shown(line)!r} is kept, and the node lacks {shown(fields[1])}")
        lines = block.joined(HEADER, ours, others) if ours else "".join(f"{line}\n" for line in others)
        unchanged = lines == "".join(f"{line}\n" for line in (text or "").split("\n") if line)
        return Change(text if unchanged else lines, tuple(done), tuple(warnings))


def written(text: str, home: Home) -> list[str]:
    """The lines that bareon has written on an earlier day."""
    return block.within(text, HEADER, _own(text, home))


def _own(text: str, home: Home) -> Callable[[str], bool]:
    names = {line.split()[0] for line in home.layout.crypttab(home.image)}
    ended, gone = block.END in text.split("\n"), home.gone

    def own(line: str) -> bool:
        # Of earlier versions nobody knows where the block ended; only what is gone is certainly not in use.
        fields = line.split()
        was = ended or names & set(fields[:1]) or any(normal(x) in gone for x in fields[1:2])
        return bool(was) and not line.startswith("#")

    return own
