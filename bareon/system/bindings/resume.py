# SPDX-License-Identifier: Apache-2.0
"""``RESUME=`` of initramfs-tools, initramfs.conf(5): a device that is not there costs each boot half a minute."""

from __future__ import annotations

import re

from bareon.system.bindings.binding import Binding, Change, shown
from bareon.system.bindings.home import Home

_SETTING = re.compile(r"\s*RESUME=(.*?)(?:\s#.*)?")
#: Tells, when the file is read again, that an initramfs older than it holds another value.
MARK = "# The next line was written by bareon."


class Resume(Binding):
    """The swap area of the layout, or ``none``, where the image names a device that the node lacks.

    What it leaves to initramfs-tools, such as ``auto``, stays.
    """

    files = ("/etc/initramfs-tools/conf.d/*", "/etc/initramfs-tools/initramfs.conf")
    copied = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        if text is None:
            return Change(None)
        lines: list[str] = []
        done = []
        for line in text.split("\n"):
            setting = _SETTING.fullmatch(line)
            value = setting[1].strip().strip("'\"") if setting else ""
            if setting and home.lacks(value):
                new = f"UUID={home.swap.uuid}" if home.swap else "none"
                done.append(f"{path}: RESUME is {new}, since the node lacks {shown(value)}")
                lines += [*([] if lines[-1:] == [MARK] else [MARK]), f"RESUME={new}"]
            else:
                lines.append(line)
        return Change("\n".join(lines), tuple(done))
