# SPDX-License-Identifier: Apache-2.0
"""The word ``ip=`` of dracut.cmdline(7), and what its fields are made of.

It has three forms: ``ip=METHOD``, ``ip=INTERFACE:METHOD[:[MTU][:MAC]]`` and
``ip=ADDRESS:[PEER]:[GATEWAY]:MASK:[HOSTNAME]:[INTERFACE][:[METHOD][:[MTU][:MAC]]]``, whose second field is also the
server that a node was booted by, as pxelinux writes it, and is of no use here.
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_interface

from bareon.network.wanted import METHODS, STATIC, Address, Interface, Port

#: Fifteen characters at most; dev_valid_name() of the kernel.
_INTERFACE = re.compile(r"[^\s/:\[\]]{1,15}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
_FEWEST = 4
_MTU = range(68, 65536)
_KNOWN = "dhcp, dhcp6, auto6, either6, link-local and none"


def parse(text: str) -> Port:
    """Return what one ``ip=`` says.

    :raises ValueError: with what is wrong; its text is for people.
    """
    fields = split(text)
    if len(fields) == 1 and text in METHODS:
        return Port(None, METHODS[text])
    if _is_address(fields[0]):
        return _static(fields)
    if len(fields) == 1:
        raise ValueError(f"is none of the ways to an address, which are {_KNOWN}")
    return _asking(fields)


def _asking(fields: list[str]) -> Port:
    name, method, *rest = fields
    if not method and re.fullmatch("[0-9a-fA-F:]+", ":".join(fields)):
        raise ValueError("an IPv6 address is written in brackets")
    if method not in METHODS:
        raise ValueError(f"{method or 'nothing'} is none of the ways to an address, which are {_KNOWN}")
    size, mac = _extras(rest)
    return Port(interface(name), METHODS[method], mtu=size, mac=mac)


def _static(fields: list[str]) -> Port:
    if len(fields) < _FEWEST:
        raise ValueError("must be ADDRESS:[PEER]:[GATEWAY]:MASK:[HOSTNAME]:INTERFACE:none")
    client, peer, gateway, mask, host, name, method, *rest = [*fields, *[""] * 7][: max(7, len(fields))]
    if (way := METHODS.get(method or "none")) != STATIC:
        if way is None:
            raise ValueError(f"{method} is none of the ways to an address, which are {_KNOWN}")
        raise ValueError(f"has the address {client} and asks for one by {method}: write none, or two words ip=")
    if peer:
        address(peer)
    found = _with_mask(client, mask)
    way_out = address(gateway) if gateway else None
    if way_out and way_out.version != found.version:
        raise ValueError(f"{client} and {gateway} are of two families")
    if host and not _HOST.fullmatch(host):
        raise ValueError(f"{host} is no name of a host")
    size, mac = _extras(rest)
    return Port(interface(name) if name else None, STATIC, found, way_out, host or None, size, mac)


def _with_mask(client: str, mask: str) -> Interface:
    if not mask:
        raise ValueError(f"{client} has no mask: 255.255.255.0, say, or the length 24")
    address(client)
    try:
        return ip_interface(f"{bare(client)}/{mask}")
    except ValueError:
        raise ValueError(f"{mask} is neither the mask nor the length of a network that {client} can be in") from None


def _extras(fields: list[str]) -> tuple[int | None, str | None]:
    """MTU and hardware address; the colons of the latter have parted it into fields."""
    size, *mac = [*fields, ""][: max(1, len(fields))]
    return mtu(size) if size else None, hardware(":".join(mac)) if any(mac) else None


def split(text: str) -> list[str]:
    """Part a text at its colons, but for those in brackets, which an IPv6 address is written in.

    :raises ValueError: for a bracket without its other half.
    """
    if not re.fullmatch(r"(?:[^\[\]]|\[[^\[\]]*\])*", text):
        raise ValueError("has a bracket without its other half")
    return re.findall(r"(?:^|(?<=:))((?:\[[^\]]*\]|[^:\[\]])*)(?=:|$)", text)


def bare(text: str) -> str:
    """Return an address without its brackets, which may stand before the length of a network."""
    return re.sub(r"^\[([^\]]*)\]", r"\1", text)


def address(text: str) -> Address:
    """Return an address of either family.

    :raises ValueError: when it is none.
    """
    try:
        return ip_address(bare(text))
    except ValueError:
        hint = "" if ":" not in text else ": an IPv6 address is written in brackets"
        raise ValueError(f"{text} is no address{hint}") from None


def interface(text: str) -> str:
    """Return the name of an interface.

    :raises ValueError: when the kernel takes none like it.
    """
    if not _INTERFACE.fullmatch(text) or text in (".", ".."):
        raise ValueError(f"{text or 'nothing'} is no name of an interface: it has 1 to 15 characters, no / or :")
    return text


def hardware(text: str) -> str:
    """Return a hardware address in lower case.

    :raises ValueError: when it is none.
    """
    if not _MAC.fullmatch(text.lower()):
        raise ValueError(f"{text} is no hardware address such as 52:54:00:12:34:56")
    return text.lower()


def mtu(text: str) -> int:
    """Return the size of the largest packet in bytes.

    :raises ValueError: when it is no number, or one that IPv4 forbids.
    """
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) not in _MTU:
        raise ValueError(f"{text} is no MTU: it is a number from {_MTU[0]} to {_MTU[-1]}")
    return int(text)


def _is_address(text: str) -> bool:
    try:
        ip_address(bare(text))
    except ValueError:
        return text.startswith("[") or bool(re.fullmatch(r"[0-9]+(\.[0-9]+)+", text))
    return True
