# SPDX-License-Identifier: Apache-2.0
"""What a kernel's command line asks of the network, as values."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from bareon.model.location import Location

Address = IPv4Address | IPv6Address
#: An address with the network that it is in.
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

#: How a port comes to its addresses, by what dracut calls it: nothing but what is given, or asking for some.
STATIC = "none"
DHCP = "dhcp"
DHCP6 = "dhcp6"
AUTO6 = "auto6"
EITHER6 = "either6"
LINK_LOCAL = "link-local"
#: Both families, each in the way that the network offers.
ALL = "all"
#: Other words for the same.
METHODS = {
    **dict.fromkeys(("none", "off"), STATIC),
    **dict.fromkeys(("dhcp", "on", "any", "single-dhcp", "dhcp4"), DHCP),
    **dict.fromkeys(("link-local", "link6"), LINK_LOCAL),
    **{word: word for word in (DHCP6, AUTO6, EITHER6)},
}


@dataclass(frozen=True)
class Port:
    """One ``ip=``. ``name`` is an interface, or ``None``: every port, or, with an address, the one that booted.

    ``address`` comes with ``method`` ``none``; ``mtu`` is in bytes, ``mac`` the hardware address to take.
    """

    name: str | None
    method: str
    address: Interface | None = None
    gateway: Address | None = None
    hostname: str | None = None
    mtu: int | None = None
    mac: str | None = None


@dataclass(frozen=True)
class Bond:
    """Several ports as one; ``options`` are the kernel's, by their names."""

    name: str
    members: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    mtu: int | None = None


@dataclass(frozen=True)
class Vlan:
    """The frames of a port, or of a bond, that have the tag ``number``."""

    name: str
    below: str
    number: int


@dataclass(frozen=True)
class Route:
    """A way to a network; without an interface the kernel finds it by the gateway."""

    network: Network
    gateway: Address
    interface: str | None = None


@dataclass(frozen=True)
class Wanted:
    """All of it. ``names`` are new names and whose they are; ``booted`` is that of ``BOOTIF=``.

    ``direct`` are hosts that are reached without the ``proxy``.
    """

    ports: tuple[Port, ...] = ()
    bonds: tuple[Bond, ...] = ()
    vlans: tuple[Vlan, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    routes: tuple[Route, ...] = ()
    nameservers: tuple[Address, ...] = ()
    booted: str | None = None
    proxy: Location | None = None
    direct: tuple[str, ...] = ()
