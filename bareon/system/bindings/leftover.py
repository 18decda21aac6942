# SPDX-License-Identifier: Apache-2.0
"""Files that may name a device and are not bareon's to change: what the node lacks is told."""

from __future__ import annotations

import re
from itertools import islice

from bareon.system.bindings.binding import Binding, Change, shown
from bareon.system.bindings.home import Home
from bareon.system.bindings.kernel_words import named_by_words

_NAME = re.compile(
    r"(?<![\w/.-])(?:(?:PART)?(?:UUID|LABEL)=[\w.-]+|/dev/(?:disk/by-[a-z]+|mapper)/[\w.:+@-]+"
    r"|/dev/(?:[shv]d[a-z]+|xvd[a-z]+)\d*\b|/dev/(?:nvme\d+n\d+(?:p\d+)?|md\d+|md/[\w.-]+)\b)"
)
_MOST = 20  # names of one file that are told


class Leftovers(Binding):
    """The last check: everything else that is known to name devices."""

    files = (
        *("/etc/kernel/cmdline", "/boot/loader/entries/*.conf", "/boot/grub/grubenv", "/boot/grub2/grubenv"),
        *("/etc/default/grub", "/etc/default/grub.d/*.cfg", "/etc/grub.d/40_custom", "/boot/grub/custom.cfg"),
        *("/etc/initramfs-tools/conf.d/*", "/etc/dracut.conf", "/etc/dracut.conf.d/*.conf", "/etc/cmdline.d/*.conf"),
        *("/etc/crypttab.initramfs", "/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf", "/etc/multipath.conf"),
        *("/etc/smartd.conf", "/etc/hdparm.conf", "/etc/zipl.conf", "/etc/kdump.conf"),
        # Where packages of GRUB are told to install it when they are updated.
        *("/var/cache/debconf/config.dat", "/etc/default/grub_installdevice"),
        *("/boot/grub/device.map", "/boot/grub2/device.map"),
        *("/etc/systemd/system/*.mount", "/etc/systemd/system/*.swap", "/etc/systemd/system/*.automount"),
    )

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        names: list[str] = []
        for line in (text or "").split("\n"):
            if not line.lstrip().startswith(("#", ";")):
                names += [*_NAME.findall(line), *named_by_words(line)]
        lacking = islice(filter(home.lacks, dict.fromkeys(names)), _MOST)
        warnings = [f"{path} names {shown(name)}, which the node lacks" for name in lacking]
        return Change(text, (), tuple(warnings))
