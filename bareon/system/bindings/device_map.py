# SPDX-License-Identifier: Apache-2.0
"""GRUB's list of disks, device.map: with one, ``grub-install`` knows no disk that is not in it."""

from __future__ import annotations

from bareon.system.bindings.binding import Binding, Change
from bareon.system.bindings.home import Home


class DeviceMap(Binding):
    """An image's is removed: without one GRUB takes the disks that are there."""

    files = ("/boot/grub/device.map", "/boot/grub2/device.map")
    of_node = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        if text is None or not home.fresh:
            return Change(text)
        return Change(None, (f"{path} was removed: it names disks of another machine",))
