# SPDX-License-Identifier: Apache-2.0
"""Who this node is: what a server can know it by, from the network and from the firmware."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from bareon import cmdline, hardware
from bareon.errors import UnsuitableNode
from bareon.hardware import text
from bareon.model.hardware import PortFacts
from bareon.model.location import Location
from bareon.text import visible
from bareon.unattended.parameter import WORDS

#: The name that every copy of the ramdisk has until somebody gives it one.
_NAMES_OF_NOBODY = ("bareon", "localhost", "(none)")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_POLL = 0.5  # seconds
_WHY = {
    "mac": "no network port has an address",
    "serial": "its firmware tells no serial number",
    "uuid": "its firmware tells no UUID",
    "hostname": "nobody has given it a name",
}


@dataclass(frozen=True)
class Identity:
    """The node by several names, ``None`` where it has none.

    ``mac`` is that of the port that the ramdisk came by, as ``BOOTIF=`` tells; else of the one with the default
    route, else of one with an address, else of the first with a link.
    """

    mac: str | None = None
    serial: str | None = None
    uuid: str | None = None
    hostname: str | None = None
    empty: Mapping[str, str] = field(default_factory=dict)
    """What the firmware says in the place of a serial number or UUID where many machines say the same."""

    def values(self) -> dict[str, str]:
        """What is known, by the words for it."""
        return {name: value for name in WORDS if (value := getattr(self, name)) is not None}

    def filled(self, template: Location) -> Location:
        """A URL with its words in braces replaced.

        :raises UnsuitableNode: when this node has no such name.
        """
        whole, known = template.reveal(), self.values()
        used = [word for word in WORDS if f"{{{word}}}" in whole]
        if absent := [word for word in used if word not in known]:
            raise UnsuitableNode(
                *(f"bareon.input has {{{word}}}, and this node has none: {self._why(word)}" for word in absent)
            )
        for word in used:
            whole = whole.replace(f"{{{word}}}", quote(known[word], safe=":"))
        return Location(whole)

    def _why(self, word: str) -> str:
        if said := self.empty.get(word):
            return f"its firmware says {said!r}, as that of many machines does"
        return _WHY[word]


def awaited(root: Path, seconds: float) -> Identity:
    """The identity of this machine once a port has an address, or that time is over: which port it is tells the MAC.

    :param root: the folder that has ``proc`` and ``sys``.
    """
    end = time.monotonic() + seconds
    while not _routed(root) and time.monotonic() < end:
        time.sleep(_POLL)
    return read(root)


def read(root: Path) -> Identity:
    """The identity of this machine as it is now."""
    machine = hardware.read(root)
    name = text(root / "proc/sys/kernel/hostname")
    said = {x: visible(text(root / f"sys/class/dmi/id/product_{x}")) for x in ("serial", "uuid")}
    return Identity(
        mac=next(_addresses(root, machine.ports), None),
        serial=machine.serial,
        uuid=machine.uuid,
        hostname=None if not name or name in _NAMES_OF_NOBODY else name,
        empty={x: value for x, value in said.items() if value and getattr(machine, x) is None},
    )


def _addresses(root: Path, ports: Sequence[PortFacts]) -> Iterator[str]:
    """Hardware addresses of ports, the one that a server most likely knows first."""
    for name, value in cmdline.parameters(text(root / "proc/cmdline")):
        if name == "BOOTIF" and value:
            # As PXELINUX writes it, with the type of hardware in front.
            address = value.lower().replace("-", ":").removeprefix("01:")
            if _MAC.fullmatch(address):
                yield address
    for name in _routed(root):
        address = text(root / "sys/class/net" / name / "address").lower()  # of a bond, too
        if _MAC.fullmatch(address):
            yield address
    yield from (port.mac for port in sorted(ports, key=lambda port: not port.link) if port.mac)


def _routed(root: Path) -> list[str]:
    """The interfaces by which others are reached, those with a default route first."""
    table = [words for words in _table(root / "proc/net/route") if words[1] != "Destination"]
    routed = sorted(table, key=lambda words: words[1] != "00000000")
    # if_inet6: address, number, prefix, scope (00 is global), flags, name; proc_pid_net(5).
    addressed = [words[5] for words in _table(root / "proc/net/if_inet6") if len(words) > 5 and words[3] == "00"]
    return [*(words[0] for words in routed), *addressed]


def _table(path: Path) -> list[list[str]]:
    return [words for line in text(path).splitlines() if len(words := line.split()) > 2]
