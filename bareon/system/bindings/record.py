# SPDX-License-Identifier: Apache-2.0
"""bareon's own record of the initramfs that it had made; see :mod:`bareon.system.initramfs`."""

from __future__ import annotations

from bareon.system.bindings.binding import Binding, Change
from bareon.system.bindings.home import Home
from bareon.system.initramfs import RECORD


class Record(Binding):
    """That of a machine which bareon deployed, and an image was made of, says nothing of this one."""

    files = (RECORD,)
    of_node = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        return Change(None if home.fresh else text)
