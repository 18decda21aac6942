# SPDX-License-Identifier: Apache-2.0
"""Reads the words of dracut.cmdline(7) that are about the network: all are understood, or none is followed."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network

from bareon import cmdline
from bareon.errors import Defect, InvalidInput
from bareon.network import port, proxy
from bareon.network.wanted import Address, Bond, Route, Vlan, Wanted
from bareon.text import visible

#: The options of the kernel's bonding driver that ip-link(8) sets.
BOND_OPTIONS = (
    *("mode", "miimon", "updelay", "downdelay", "use_carrier", "arp_interval", "arp_ip_target", "arp_validate"),
    *("arp_all_targets", "primary", "primary_reselect", "fail_over_mac", "xmit_hash_policy", "lacp_rate"),
    *("ad_select", "ad_actor_sys_prio", "ad_actor_system", "ad_user_port_key", "min_links", "resend_igmp"),
    *("num_grat_arp", "num_unsol_na", "all_slaves_active", "packets_per_slave", "lp_interval", "tlb_dynamic_lb"),
)
_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
#: Milliseconds between two looks at the links of a bond that was told none: the driver's own choice is never.
_MIIMON = ("miimon", "100")
#: What dracut knows and this ramdisk does not do.
_OTHERS = {"team": "bond", "bridge": "bond"}
_MOST_VLANS = 4094
#: It may have a password.
_SECRET = ("proxy",)


def parse(text: str) -> Wanted:
    """What a kernel's command line asks of the network; :class:`Wanted` without anything where it is silent.

    :raises InvalidInput: with every word that is wrong, by its name.
    """
    reader = _Reader()
    for name, value in cmdline.parameters(text):
        reader.read(name, value or "")
    return reader.wanted()


class _Reader:
    """Collects what the words say, and the defects."""

    def __init__(self) -> None:
        self._found: dict[str, list[object]] = {}
        self._defects: list[Defect] = []

    def read(self, name: str, value: str) -> None:
        if name in _OTHERS:
            self._wrong(name, value, f"is not set up by this ramdisk: is {_OTHERS[name]}= meant?")
        elif grammar := _GRAMMARS.get(name):
            try:
                found = grammar(value)
            except ValueError as error:
                self._wrong(name, value, str(error))
            else:
                self._found.setdefault(name, []).append(found)

    def _wrong(self, name: str, value: str, message: str) -> None:
        word = f"{name}={'…' if name in _SECRET else value}"
        self._defects.append(Defect(visible(word), visible(message)))

    def wanted(self) -> Wanted:
        found = {name: tuple(values) for name, values in self._found.items()}
        everything = Wanted(
            ports=found.get("ip", ()),  # type: ignore[arg-type]
            bonds=found.get("bond", ()),  # type: ignore[arg-type]
            vlans=found.get("vlan", ()),  # type: ignore[arg-type]
            names=found.get("ifname", ()),  # type: ignore[arg-type]
            routes=found.get("rd.route", ()),  # type: ignore[arg-type]
            nameservers=found.get("nameserver", ()),  # type: ignore[arg-type]
            booted=found.get("BOOTIF", (None,))[-1],  # type: ignore[arg-type]
            proxy=found.get("proxy", (None,))[-1],  # type: ignore[arg-type]
            direct=found.get("no_proxy", ((),))[-1],  # type: ignore[arg-type]
        )
        self._defects += _contradictions(everything)
        if self._defects:
            raise InvalidInput(self._defects)
        return everything


def _contradictions(wanted: Wanted) -> list[Defect]:
    """What is wrong between words that are right by themselves."""
    defects = []
    made: set[str] = set()
    names = [*(("bond", bond.name) for bond in wanted.bonds), *(("vlan", vlan.name) for vlan in wanted.vlans)]
    for kind, name in names:
        if name in made:
            defects.append(Defect(f"{kind}={name}", "is there twice"))
        made.add(name)
    members: dict[str, str] = {}
    for bond in wanted.bonds:
        for member in bond.members:
            if members.setdefault(member, bond.name) != bond.name:
                defects.append(Defect(f"bond={bond.name}", f"has {member}, which {members[member]} has already"))
    for one in wanted.ports:
        if one.name in members:
            defects.append(Defect(f"ip=…{one.name}…", f"is a member of {members[one.name]}, which has the address"))
    return defects


def _bond(text: str) -> Bond:
    name, members, options, mtu = _fields(text, 4)
    name = port.interface(name or "bond0")
    given = tuple(_option(option) for option in options.split(",") if option)
    given = given or (() if members else (("mode", "balance-rr"),))
    watched = any(key in ("miimon", "arp_interval") for key, _ in given)
    return Bond(
        name,
        tuple(port.interface(member) for member in (members or "eth0,eth1").split(",")),
        given if watched else (*given, _MIIMON),
        port.mtu(mtu) if mtu else None,
    )


def _option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if key not in BOND_OPTIONS:
        raise ValueError(f"{key} is no option of a bond; they are {', '.join(BOND_OPTIONS)}")
    if not equals or not value:
        raise ValueError(f"the option {key} has no value")
    if key == "mode" and value not in _MODES and not re.fullmatch("[0-6]", value):
        raise ValueError(f"{value} is no mode of a bond; they are {', '.join(_MODES)}")
    # Several values are parted by semicolons, as commas part the options; ip-link(8) wants commas.
    return key, value.replace(";", ",")


def _vlan(text: str) -> Vlan:
    name, colon, below = text.partition(":")
    found = re.fullmatch(r"(?:vlan|.*\.)(\d{1,4})", name)
    if not colon or not found:
        raise ValueError("must be NAME:INTERFACE, with a name that has the number: vlan7, vlan0007 or eth0.7")
    if not 0 < int(found[1]) <= _MOST_VLANS:
        raise ValueError(f"{found[1]} is no number of a VLAN: they are 1 to {_MOST_VLANS}")
    return Vlan(port.interface(name), port.interface(below), int(found[1]))


def _name(text: str) -> tuple[str, str]:
    name, colon, mac = text.partition(":")
    if not colon:
        raise ValueError("must be NAME:MAC")
    return port.interface(name), port.hardware(mac)


def _route(text: str) -> Route:
    network, gateway, *rest = [*port.split(text), "", ""][:3] if text else ["", "", ""]
    if not network or not gateway:
        raise ValueError("must be NETWORK/LENGTH:GATEWAY[:INTERFACE]")
    found = ip_network(port.bare(network), strict=False)
    way = port.address(gateway)
    if found.version != way.version:
        raise ValueError(f"{network} and {gateway} are of two families")
    return Route(found, way, port.interface(rest[0]) if rest[0] else None)


def _nameserver(text: str) -> Address:
    return port.address(text)


def _booted(text: str) -> str | None:
    """The address of ``BOOTIF=``: pxelinux puts the type of hardware before it, and hyphens between.

    A boot loader writes it, and nobody could mend it: what is no Ethernet port's is passed over.
    """
    try:
        return port.hardware(re.sub("^01[-:](?=(?:..[-:]){5}..$)", "", text).replace("-", ":"))
    except ValueError:
        return None


def _fields(text: str, most: int) -> list[str]:
    """The fields between colons, as many as there may be; what is missing is empty."""
    found = port.split(text)
    if len(found) > most:
        raise ValueError(f"has {len(found)} fields between colons; {most} at most are known")
    return [*found, *[""] * (most - len(found))]


_GRAMMARS: dict[str, Callable[[str], object]] = {
    "ip": port.parse,
    "bond": _bond,
    "vlan": _vlan,
    "ifname": _name,
    "rd.route": _route,
    "nameserver": _nameserver,
    "BOOTIF": _booted,
    "proxy": proxy.parse,
    "no_proxy": proxy.direct,
}
