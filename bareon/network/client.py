# SPDX-License-Identifier: Apache-2.0
"""dhcpcd(8), which asks for addresses of both families, and its configuration.

It watches the links itself: a port without one is asked as soon as there is one.
"""

from __future__ import annotations

from bareon.network.wanted import ALL, AUTO6, DHCP, DHCP6, EITHER6, LINK_LOCAL, STATIC, Wanted

#: What dhcpcd is told for a way to an address; a router's word says whether DHCPv6 is there, where nobody else does.
_METHODS: dict[str, tuple[str, ...]] = {
    ALL: (),
    DHCP: ("ipv4only",),
    DHCP6: ("ipv6only", "ia_na"),
    AUTO6: ("ipv6only", "nodhcp6"),
    EITHER6: ("ipv6only",),
}
_ALWAYS = (
    "# Written by bareon-ramdisk-network.",
    "clientid",  # the hardware address, by which a firmware has asked before
    "duid ll",
    "hostname bareon",
    "option domain_name_servers, domain_name, domain_search, ntp_servers",
    "option classless_static_routes, interface_mtu",
    "option dhcp6_name_servers, dhcp6_domain_search, dhcp6_sntp_servers",
    "require dhcp_server_identifier",
    "slaac hwaddr",
    "noipv4ll",
    "noarp",  # a conflict is the server's to see; asking around takes five seconds
    "nodelay",
    "timeout 0",
)


def configuration(wanted: Wanted, ports: list[str], script: str) -> str | None:
    """The text of dhcpcd.conf(5), or ``None`` where nobody is to be asked.

    :param ports: the names of all Ethernet ports.
    :param script: the program that dhcpcd tells what it has learned.
    """
    members = {member for bond in wanted.bonds for member in bond.members}
    asked: dict[str, list[str]] = {}
    for name, method in _methods(wanted, [port for port in ports if port not in members]):
        if method not in (STATIC, LINK_LOCAL):
            asked.setdefault(name, []).append(method)
    if wanted.ports and not asked:
        return None
    lines = [*_ALWAYS, f"script {script}"]
    if wanted.ports or wanted.bonds or wanted.vlans:
        lines.append(f"allowinterfaces {' '.join(asked)}")
    for name, methods in asked.items():
        lines += [f"interface {name}", *(f"    {word}" for word in _words(methods))]
    return "\n".join(lines) + "\n"


def _methods(wanted: Wanted, ports: list[str]) -> list[tuple[str, str]]:
    """Interfaces, and how each is asked; several words may be about one."""
    if not wanted.ports:
        # Whoever makes a bond or a VLAN means it to be used.
        made = [*(bond.name for bond in wanted.bonds), *(vlan.name for vlan in wanted.vlans)]
        return [(name, ALL) for name in made or ports]
    found: list[tuple[str, str]] = []
    for port in wanted.ports:
        found += [(name, port.method) for name in ([port.name] if port.name else ports)]
    return found


def _words(methods: list[str]) -> list[str]:
    """What serves all the methods of one interface: two families exclude nothing."""
    v4 = any(method in (DHCP, ALL) for method in methods)
    v6 = [method for method in methods if method != DHCP]
    both = v4 and v6
    words = [word for method in methods for word in _METHODS[method] if not (both and word.endswith("only"))]
    return list(dict.fromkeys(words))
