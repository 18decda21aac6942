# SPDX-License-Identifier: Apache-2.0
"""Listens for LLDP at every Ethernet port, and sends nothing."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from pathlib import Path

from bareon.lldp.table import Table
from bareon.lldp.unit import parse
from bareon.network.setup import ports

_ETHERTYPE = 0x88CC
#: Where LLDP is sent to (802.1AB, table 7-1): the next bridge, the next one that is no two-port relay, the next
#: customer bridge. A port hands on only what is for a group that somebody has joined.
_GROUPS = tuple(bytes.fromhex(address) for address in ("0180c200000e", "0180c2000003", "0180c2000000"))
# From linux/if_packet.h; the socket module has no names for them.
_SOL_PACKET, _ADD_MEMBERSHIP, _ORIGIN, _MULTICAST = 263, 1, 9, 0
_LARGEST = 9216  # bytes of the largest frames that switches know
#: Seconds between two looks at which ports there are, and after a frame: a flood of them must not take a processor.
_LOOK, _PAUSE = 1.0, 0.02


def listen(root: Path) -> None:
    """Note who is heard, until the process ends.

    :param root: the folder with ``sys`` and ``run``.
    """
    table = Table(root)
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETHERTYPE)) as ear:
        # In a bond it is the member that is meant, and not the bond.
        ear.setsockopt(_SOL_PACKET, _ORIGIN, 1)
        ear.settimeout(_LOOK)
        joined: set[int] = set()
        while True:
            names = {name for _, name in ports(root)}
            _join(ear, names, joined)
            _hear(ear, names, table)


def _join(ear: socket.socket, names: set[str], joined: set[int]) -> None:
    """Join the groups at ports that have appeared; one may go again meanwhile."""
    for name in names:
        with contextlib.suppress(OSError):
            index = socket.if_nametoindex(name)
            if index not in joined:
                for group in _GROUPS:
                    wanted = struct.pack("iHH8s", index, _MULTICAST, len(group), group)
                    ear.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, wanted)
                joined.add(index)


def _hear(ear: socket.socket, names: set[str], table: Table) -> None:
    try:
        data, (port, *_) = ear.recvfrom(_LARGEST)
    except TimeoutError:
        return
    if port in names:
        with contextlib.suppress(ValueError):  # what is no data unit is nobody's word
            table.take(port, parse(data))
    time.sleep(_PAUSE)
