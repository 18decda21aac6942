# SPDX-License-Identifier: Apache-2.0
"""The commands of ip(8) that give a node the network it was told, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from bareon.network.wanted import STATIC, Bond, Interface, Port, Vlan, Wanted

Command = list[str]


@dataclass(frozen=True)
class Found:
    """The Ethernet ports of this node: their names by their hardware addresses."""

    names: Mapping[str, str]


def placed(wanted: Wanted, found: Found) -> tuple[Wanted, list[str]]:
    """What is wanted, every address with its interface, and what cannot be, in words for people.

    An address without an interface is for the port that booted the node, or for the only one.
    """
    problems = []
    names = dict(found.names)
    for name, mac in wanted.names:
        if mac not in names:
            problems.append(f"ifname={name}:{mac}: this node has no port with this address")
        else:
            names[mac] = name
    only = next(iter(names.values())) if len(names) == 1 else None
    one = names.get(wanted.booted or "", only)
    ports = []
    for port in wanted.ports:
        if port.address and port.name is None:
            if one is None:
                problems.append(f"ip={port.address.ip}…: names no interface, and this node has {len(names)} ports")
                continue
            port = replace(port, name=one)
        ports.append(port)
    there = {*names.values(), *(bond.name for bond in wanted.bonds), *(vlan.name for vlan in wanted.vlans)}
    problems += [f"{name} is no port of this node: {_list(names)}" for name in sorted(_mentioned(wanted) - there)]
    return replace(wanted, ports=tuple(ports)), problems


def _list(names: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({mac})" for mac, name in sorted(names.items())) or "it has none"


def _mentioned(wanted: Wanted) -> set[str]:
    """The interfaces that must be there already or be made."""
    below = {vlan.below for vlan in wanted.vlans} | {member for bond in wanted.bonds for member in bond.members}
    return below | {port.name for port in wanted.ports if port.name}


def commands(wanted: Wanted, found: Found) -> Iterator[Command]:
    """Names, links, bonds, VLANs, addresses, routes; see :func:`placed` first."""
    for name, mac in wanted.names:
        old = found.names.get(mac, name)
        if old != name:
            yield ["ip", "link", "set", "dev", old, "down"]
            yield ["ip", "link", "set", "dev", old, "name", name]
    new = {mac: name for name, mac in wanted.names}
    members = {member for bond in wanted.bonds for member in bond.members}
    for mac, old in sorted(found.names.items(), key=lambda pair: pair[1]):
        if (name := new.get(mac, old)) not in members:  # a bond takes only those that are down
            yield _up(name)
    if wanted.bonds:
        # Left to itself the driver makes a bond0 of its own as soon as it is there, which is then in the way.
        yield ["modprobe", "bonding", "max_bonds=0"]
    for bond in wanted.bonds:
        yield from _bond(bond)
    for vlan in wanted.vlans:
        yield from _vlan(vlan)
    for port in wanted.ports:
        yield from _port(port)
    for route in wanted.routes:
        way = ["via", str(route.gateway), *(["dev", route.interface] if route.interface else [])]
        yield [*_ip(route.network.version), "route", "replace", str(route.network), *way]


def _bond(bond: Bond) -> Iterator[Command]:
    options = [word for pair in bond.options for word in pair if pair[0] != "primary"]
    yield ["ip", "link", "add", "name", bond.name, "type", "bond", *options]
    for member in bond.members:
        yield ["ip", "link", "set", "dev", member, "down"]
        yield ["ip", "link", "set", "dev", member, "master", bond.name]
    for key, value in bond.options:
        if key == "primary":  # which must be a member
            yield ["ip", "link", "set", "dev", bond.name, "type", "bond", key, value]
    if bond.mtu:
        yield ["ip", "link", "set", "dev", bond.name, "mtu", str(bond.mtu)]
    yield _up(bond.name)


def _vlan(vlan: Vlan) -> Iterator[Command]:
    yield ["ip", "link", "add", "link", vlan.below, "name", vlan.name, "type", "vlan", "id", str(vlan.number)]
    yield _up(vlan.name)


def _port(port: Port) -> Iterator[Command]:
    if port.name is None:
        return
    if port.mac:
        yield ["ip", "link", "set", "dev", port.name, "down"]
        yield ["ip", "link", "set", "dev", port.name, "address", port.mac]
        yield _up(port.name)
    if port.mtu:
        yield ["ip", "link", "set", "dev", port.name, "mtu", str(port.mtu)]
    if port.method == STATIC and port.address:
        yield [
            *_ip(port.address.version),
            "address",
            "replace",
            str(port.address),
            "dev",
            port.name,
            *_at_once(port.address),
        ]
        if port.gateway:
            # A provider may give an address without neighbours, and a gateway outside of its network.
            far = [] if port.gateway in port.address.network or port.gateway.is_link_local else ["onlink"]
            way = ["via", str(port.gateway), "dev", port.name, *far]
            yield [*_ip(port.gateway.version), "route", "replace", "default", *way]


def _at_once(address: Interface) -> list[str]:
    """An IPv6 address that somebody has chosen is used without asking for two seconds whether others have it."""
    return ["nodad"] if address.version == 6 else []


def _up(name: str) -> Command:
    return ["ip", "link", "set", "dev", name, "up"]


def _ip(version: int) -> Command:
    return ["ip", f"-{version}"]
