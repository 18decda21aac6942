# SPDX-License-Identifier: Apache-2.0
"""The hardware of a node besides its disks: for those who decide what it is to become. No plan depends on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VlanFacts:
    """A VLAN by its number, and the name that a neighbour has for it."""

    id: int
    name: str | None = None


@dataclass(frozen=True)
class NeighbourFacts:
    """Who is at the other end of a port's cable, by its own word (LLDP): nobody vouches for it.

    The subtypes say what kind of name the identifiers of chassis and port are, in the words of IEEE 802.1AB.
    ``vlan`` is the one of untagged frames. ``management`` are addresses of IP, or hardware addresses.
    """

    chassis_id_subtype: str
    chassis_id: str
    port_id_subtype: str
    port_id: str
    port_description: str | None = None
    system_name: str | None = None
    vlan: int | None = None
    vlans: tuple[VlanFacts, ...] = ()
    management: tuple[str, ...] = ()


@dataclass(frozen=True)
class PortFacts:
    """A network port. ``speed`` is in Mbit/s; it and ``link`` are ``None`` where the driver does not tell.

    ``mac`` is its own address, whatever a bond has made of it. ``neighbours`` are those that were heard at it until
    now; ``None`` where nobody listens.
    """

    name: str
    mac: str | None = None
    driver: str | None = None
    link: bool | None = None
    speed: int | None = None
    neighbours: tuple[NeighbourFacts, ...] | None = None


@dataclass(frozen=True)
class HardwareFacts:
    """The machine. ``memory`` is in bytes, as much as the kernel has; ``processors`` are those that it can use.

    ``vendor``, ``product``, ``serial`` and ``uuid`` are the firmware's (DMI), ``None`` where its maker has left the
    place empty. ``tpm`` is the version of the first one's specification, ``1.2`` or ``2.0``; ``None`` without one.
    """

    architecture: str
    processors: int
    memory: int
    processor: str | None = None
    vendor: str | None = None
    product: str | None = None
    serial: str | None = None
    uuid: str | None = None
    tpm: str | None = None
    ports: tuple[PortFacts, ...] = ()
