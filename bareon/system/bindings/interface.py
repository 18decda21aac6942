# SPDX-License-Identifier: Apache-2.0
"""Persistent names of network interfaces in a deployed system; udev(7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bareon.model.deployment import InterfaceName
from bareon.system.bindings.binding import TAKEN_OUT, Binding, Change, shown
from bareon.system.bindings.home import Home

RULES = "/etc/udev/rules.d/70-persistent-net.rules"
"""Before 80-net-setup-link.rules, which leaves alone what has a name."""

SYS = Path("/sys/class/net")
_HEADER = "# Written by bareon.\n"
_MAC = re.compile(r"\b[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}\b")


class Interfaces(Binding):
    """The names of the document, or none: those of another machine's interfaces keep names from this one's."""

    files = (RULES,)
    of_node = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        if home.interfaces:
            return Change(render(home.interfaces), (), () if home.fresh else _replaced(path, text or ""))
        if text is None or text.startswith(_HEADER):
            return Change(None)
        lines, done, warnings, here = [], [], [], macs()
        for line in text.split("\n"):
            strange = (
                [] if line.lstrip().startswith("#") else [x for x in _MAC.findall(line) if x.lower() not in here]
            )
            if strange and home.fresh:
                done.append(f"{path}: the name for {strange[0]} was taken out, since the node lacks that interface")
            elif strange:
                warnings.append(f"{path}: {shown(line)!r} is kept, and the node lacks {strange[0]}")
            lines.append(f"{TAKEN_OUT}{line}" if strange and home.fresh else line)
        return Change("\n".join(lines), tuple(done), tuple(warnings))


def _replaced(path: str, text: str) -> tuple[str, ...]:
    """Warnings of the rules of somebody else on a kept root that those of the document take the place of."""
    lines = [] if text.startswith(_HEADER) else [x for x in text.split("\n") if x and not x.startswith("#")]
    return tuple(f"{path}: {shown(line)!r} was replaced by the names of the input" for line in lines)


class LinkFiles(Binding):
    """Settings for interfaces by their addresses, in files that have others too: only told."""

    files = (
        *("/etc/systemd/network/*.link", "/etc/systemd/network/*.network", "/etc/netplan/*.yaml"),
        *("/etc/sysconfig/network-scripts/ifcfg-*", "/etc/NetworkManager/system-connections/*"),
    )

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        lines = (line for line in (text or "").split("\n") if not line.startswith(("#", "cloned-mac")))
        names = dict.fromkeys(mac for line in lines for mac in _MAC.findall(line))
        here = macs() if names else set()
        lacking = [mac for mac in names if mac.lower() not in here]
        return Change(text, (), tuple(f"{path} names {x}, which no interface of the node has" for x in lacking))


def macs() -> set[str]:
    """The addresses of the interfaces of this machine."""
    found = set()
    for place in SYS.glob("*/address"):
        try:
            found.add(place.read_text().strip().lower())
        except OSError:  # it went meanwhile
            continue
    return found


def render(names: Sequence[InterfaceName]) -> str:
    """The rules. ``DRIVERS`` and ``type`` leave out bridges and VLANs, which have the address of the interface below.

    The rules do not match the kernel's name, since an initramfs may have renamed the interface already.
    """
    event = 'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{type}=="1"'
    return _HEADER + "".join(f'{event}, ATTR{{address}}=="{x.mac}", NAME="{x.name}"\n' for x in names)
