# SPDX-License-Identifier: Apache-2.0
"""Persistent names of network interfaces in a deployed system; udev(7)."""

from __future__ import annotations

from collections.abc import Sequence

from bareon.model.deployment import InterfaceName

RULES = "/etc/udev/rules.d/70-persistent-net.rules"
"""Before 80-net-setup-link.rules, which leaves alone what has a name."""

_HEADER = "# Written by bareon.\n"


def render(names: Sequence[InterfaceName]) -> str:
    """The rules. ``DRIVERS`` and ``type`` leave out bridges and VLANs, which have the address of the interface below.

    The rules do not match the kernel's name, since an initramfs may have renamed the interface already.
    """
    event = 'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{type}=="1"'
    return _HEADER + "".join(f'{event}, ATTR{{address}}=="{x.mac}", NAME="{x.name}"\n' for x in names)
