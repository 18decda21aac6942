# SPDX-License-Identifier: Apache-2.0
"""What LVM may look at: ``/etc/lvm/devices``, lvmdevices(8), and the filters of lvm.conf(5)."""

from __future__ import annotations

import re

from bareon.system.bindings.binding import TAKEN_OUT, Binding, Change, shown
from bareon.system.bindings.home import Home
from bareon.tools import lvm

_STRING = r"""(?:"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""  # LVM takes either
_FILTER = re.compile(
    rf"^[ \t]*+(?:devices/)?(global_filter|filter)[ \t]*+=[ \t\n]*+(\[(?:{_STRING}|[\s,]++|\#[^\n]*+)*+\]|{_STRING})",
    re.MULTILINE,
)


class DevicesFiles(Binding):
    """Lists of the disks that LVM uses, by serial numbers and the like: without one it uses all that it finds.

    So none is written: what identifies a disk best is not the same in the ramdisk and in the system.
    """

    files = ("/etc/lvm/devices/*.devices",)
    of_node = True
    copied = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        if text is None or not home.physical_volumes:
            return Change(text)
        if home.fresh:
            return Change(None, (f"{path} was removed: it lists disks of another machine; without it LVM uses all",))
        if home.new_group:
            words = f"{path} is kept: LVM uses {home.new_group} only once lvmdevices --adddev has added its disks"
            return Change(text, (), (words,))
        return Change(text)


class Filters(Binding):
    """Filters that hide physical volumes of the layout are taken out, as LVM itself judges them."""

    files = ("/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf")
    copied = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        if text is None or not home.physical_volumes:
            return Change(text)
        done = []

        def judged(found: re.Match[str]) -> str:
            tokens = re.findall(rf"{_STRING}|#[^\n]*", found[2])
            patterns = [x for x in tokens if not x.startswith("#")]
            if not patterns or lvm.passes(patterns, home.physical_volumes):
                return found[0]
            value = shown(" ".join(found[2].split()))
            done.append(f"{path}: {found[1]} = {value} was taken out, since it hides disks of this node from LVM")
            return "\n".join(TAKEN_OUT + line for line in found[0].split("\n"))

        return Change(_FILTER.sub(judged, text), tuple(done))
