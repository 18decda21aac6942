# SPDX-License-Identifier: Apache-2.0
"""The network as Ironic knows a node: by the hardware addresses of its interfaces."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path

_ETHERNET = "1"  # ARPHRD_ETHER of if_arp.h
_ADDRESS = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NONE = "00:00:00:00:00:00"


def addresses(net: Path) -> list[str]:
    """The hardware addresses of all Ethernet interfaces that have a device; ``net`` is ``/sys/class/net``.

    Of a member of a bond also the address that it had before.
    """
    return sorted({address for place in net.glob("*") if (place / "device").exists() for address in _of(place)})


def _of(interface: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        if (interface / "type").read_text().strip() != _ETHERNET:
            return
    for name in ("address", "bonding_slave/perm_hwaddr"):
        with contextlib.suppress(OSError):
            address = (interface / name).read_text().strip().lower()
            if _ADDRESS.fullmatch(address) and address != _NONE:
                yield address


def callback_url(address: str, port: int) -> str:
    """What Ironic takes for the URL of an agent; here it is the address of an SSH server.

    Ironic wants ``https``, unless it was told otherwise.

    :param address: as the socket has it, or as it was given.
    :raises ValueError: for an address that only hosts of the same link can use; its text is for people.
    """
    known = ip_address(address)
    if isinstance(known, IPv6Address):
        known = known.ipv4_mapped or known
    if known.is_link_local:
        raise ValueError(f"{address} is valid on its own link only: ipa-advertise-host= names one to come back to")
    return f"https://[{known}]:{port}" if isinstance(known, IPv6Address) else f"https://{known}:{port}"
