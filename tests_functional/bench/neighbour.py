# SPDX-License-Identifier: Apache-2.0
"""A switch as LLDP sees it: sends frames to a port, twice a second."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from building.process import run

#: What lldpd 1.0.16 sends as leaf-1.example at its port swp7, with VLAN 100 and two addresses, as on the wire.
FRAME = bytes.fromhex(
    "0180c200000ede925c7be62388cc"
    "020704de925c7be62304050573777037060200780a0e6c6561662d312e6578616d706c650c156120737769746368206f662074686520746573"
    "74730e04009c0080100c0501c00002070200000002001018110220010db8000000000000000000000007020000000200080f7261636b20342c"
    "206e6f6465203132fe0900120f030100000000fe0900120f010080000036fe060080c2010064fe0e0080c20300640773746f72616765fe0600"
    "80c2010064fe0e0080c20300640773746f726167650000"
)
#: How it is told in the facts of a node.
TOLD = {
    "chassis_id_subtype": "mac-address",
    "chassis_id": "de:92:5c:7b:e6:23",
    "port_id_subtype": "interface-name",
    "port_id": "swp7",
    "port_description": "rack 4, node 12",
    "system_name": "leaf-1.example",
    "vlan": 100,
    "vlans": [{"id": 100, "name": "storage"}],
    "management": ["192.0.2.7", "2001:db8::7"],
}
_PAUSE = 0.5


@contextmanager
def speaking(interface: str, frame: bytes = FRAME) -> Iterator[None]:
    """Send a frame again and again out of an interface of this machine, which is the other end of a node's port."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as mouth:
        mouth.bind((interface, 0))
        with _repeated(mouth, frame):
            yield


@contextmanager
def speaking_by_cable(end: int, frame: bytes = FRAME) -> Iterator[None]:
    """Send a frame again and again to a node's port of :func:`template.cable`; ``end`` is its UDP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        mouth.connect(("127.0.0.1", end))
        with _repeated(mouth, frame):
            yield


def at_bridge(bridge: str) -> str:
    """Return the interface of the one node at a bridge.

    :raises ValueError: when there is none, or another one
    """
    listed = json.loads(run(["ip", "-json", "link", "show", "master", bridge], timeout=10).stdout or "[]")
    (name,) = (str(one["ifname"]) for one in listed if one["ifname"].startswith("vnet"))
    return name


@contextmanager
def _repeated(mouth: socket.socket, frame: bytes) -> Iterator[None]:
    ended = threading.Event()

    def speak() -> None:
        while not ended.wait(_PAUSE):
            with contextlib.suppress(OSError):  # the node is not there yet, or no more
                mouth.send(frame)

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        ended.set()
        speaker.join()
