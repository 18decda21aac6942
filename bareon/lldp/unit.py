# SPDX-License-Identifier: Apache-2.0
"""A data unit of LLDP as IEEE 802.1AB-2016, chapters 8 and 9, and IEEE 802.1Q, annex D, have it.

Whoever is at the other end of a cable can send one. Nothing in it is believed before it was measured.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from bareon.model.hardware import NeighbourFacts, VlanFacts
from bareon.text import redacted, visible

_END, _CHASSIS, _PORT, _SECONDS, _PORT_DESCRIPTION, _SYSTEM_NAME, _MANAGEMENT, _OWN = 0, 1, 2, 3, 4, 5, 8, 127
_CHASSIS_SUBTYPES = (
    *("chassis-component", "interface-alias", "port-component", "mac-address", "network-address"),
    *("interface-name", "local"),
)
_PORT_SUBTYPES = (
    *("interface-alias", "port-component", "mac-address", "network-address", "interface-name"),
    *("agent-circuit-id", "local"),
)
_8021 = b"\x00\x80\xc2"
_PORT_VLAN, _VLAN_NAME = 1, 3
#: Address families of IANA with the bytes of an address.
_FAMILIES = {1: 4, 2: 16}
_MAC = 6
_LAST_VLAN = 4094
#: Characters of a text, which the standard allows so many bytes.
_LONGEST = 255

Field = tuple[int, bytes]


@dataclass(frozen=True)
class Announcement:
    """What a neighbour says of itself, and for how many seconds; with 0 it takes its leave."""

    neighbour: NeighbourFacts
    seconds: int


def parse(data: bytes) -> Announcement:
    """Read a data unit: the frame without its Ethernet header.

    :raises ValueError: when it is none. What is wrong in a field that need not be there makes that field be left out.
    """
    fields = list(_fields(data))
    if [kind for kind, _ in fields[:3]] != [_CHASSIS, _PORT, _SECONDS] or len(fields[2][1]) < 2:
        raise ValueError("does not begin with chassis, port and time to live")
    rest = fields[3:]
    if any(kind in (_CHASSIS, _PORT, _SECONDS) for kind, _ in rest):
        raise ValueError("has two of chassis, port or time to live")
    chassis, port = _named(fields[0][1], _CHASSIS_SUBTYPES), _named(fields[1][1], _PORT_SUBTYPES)
    neighbour = NeighbourFacts(
        *chassis,
        *port,
        port_description=_first(rest, _PORT_DESCRIPTION),
        system_name=_first(rest, _SYSTEM_NAME),
        vlan=next(_port_vlans(rest), None),
        vlans=tuple(dict.fromkeys(_vlans(rest))),
        management=tuple(dict.fromkeys(_addresses(rest))),
    )
    return Announcement(neighbour, int.from_bytes(fields[2][1][:2]))


def _fields(data: bytes) -> Iterator[Field]:
    """Type and value of each TLV: 7 bits of type, 9 of length."""
    place = 0
    while place + 2 <= len(data):
        head = int.from_bytes(data[place : place + 2])
        kind, end = head >> 9, place + 2 + (head & 0x1FF)
        if kind == _END:
            return
        if end > len(data):
            raise ValueError("has a field that is longer than the frame")
        yield kind, data[place + 2 : end]
        place = end


def _named(value: bytes, subtypes: tuple[str, ...]) -> tuple[str, str]:
    """An identifier: its subtype, and what it is; in hexadecimal where it is no text."""
    if len(value) < 2 or len(value) > 1 + _LONGEST or not 1 <= value[0] <= len(subtypes):
        raise ValueError("has an identifier that the standard does not know")
    subtype, rest = subtypes[value[0] - 1], value[1:]
    if subtype == "mac-address" and len(rest) == _MAC:
        return subtype, rest.hex(":")
    if subtype == "network-address" and (address := _address(rest)):
        return subtype, address
    bare = rest.rstrip(b"\0")
    with contextlib.suppress(UnicodeDecodeError):
        if bare.decode().isprintable() and (text := _text(bare)):
            return subtype, text
    return subtype, rest.hex()


def _address(value: bytes) -> str | None:
    """An address behind the number of its family."""
    if value and _FAMILIES.get(value[0]) == len(value) - 1:
        return str(ipaddress.ip_address(value[1:]))
    return None


def _text(value: bytes) -> str | None:
    """A text of a stranger: what would move a cursor is escaped, what looks like a secret masked, and it ends."""
    text = value[:_LONGEST].decode("utf-8", "backslashreplace").strip("\0 \t\r\n")
    return redacted(visible(text))[:_LONGEST] or None


def _first(fields: list[Field], kind: int) -> str | None:
    return next((_text(value) for found, value in fields if found == kind), None)


def _port_vlans(fields: list[Field]) -> Iterator[int]:
    for value in _of_8021(fields, _PORT_VLAN):
        if len(value) >= 2 and 1 <= (number := int.from_bytes(value[:2])) <= _LAST_VLAN:
            yield number


def _vlans(fields: list[Field]) -> Iterator[VlanFacts]:
    for value in _of_8021(fields, _VLAN_NAME):
        number = int.from_bytes(value[:2])
        if len(value) >= 3 and 1 <= number <= _LAST_VLAN and value[2] <= len(value) - 3:
            yield VlanFacts(number, _text(value[3 : 3 + value[2]]))


def _of_8021(fields: list[Field], subtype: int) -> Iterator[bytes]:
    for kind, value in fields:
        if kind == _OWN and value[:4] == _8021 + bytes([subtype]):
            yield value[4:]


def _addresses(fields: list[Field]) -> Iterator[str]:
    for kind, value in fields:
        if kind == _MANAGEMENT and value and value[0] <= len(value) - 1:
            address = value[1 : 1 + value[0]]
            if text := _address(address):
                yield text
            elif len(address) == 1 + _MAC and address[0] == _MAC:  # the family "all 802 media"
                yield address[1:].hex(":")
