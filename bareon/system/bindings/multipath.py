# SPDX-License-Identifier: Apache-2.0
"""Names that multipathd(8) gave to disks by their serial numbers."""

from __future__ import annotations

from bareon.system.bindings.binding import Binding, Change
from bareon.system.bindings.home import Home


class Multipath(Binding):
    """An image's are removed: multipathd writes those of this node."""

    files = ("/etc/multipath/bindings", "/etc/multipath/wwids")
    of_node = True
    copied = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        names = any(line.strip() and not line.startswith("#") for line in (text or "").split("\n"))
        if not (names and home.fresh):
            return Change(text)
        return Change(None, (f"{path} was removed: it names disks of another machine",))
