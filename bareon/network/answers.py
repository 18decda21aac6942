# SPDX-License-Identifier: Apache-2.0
"""What servers and routers answered, in the order of their first words: the first one has the say.

Two DHCP servers at two ports would otherwise take the default route and the name servers from each other. Only when
the first answer is lost, by its end or that of its link, does the next one take its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: What dhcpcd says before an answer, and after the end of one; dhcpcd-run-hooks(8).
_HEARD = {
    **dict.fromkeys(("BOUND", "RENEW", "REBIND", "REBOOT", "INFORM", "TIMEOUT"), "dhcp"),
    **dict.fromkeys(("BOUND6", "RENEW6", "REBIND6", "REBOOT6", "INFORM6"), "dhcp6"),
    "ROUTERADVERT": "router",
}
_LOST: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("EXPIRE", "NAK", "RELEASE", "STOP"), ("dhcp",)),
    **dict.fromkeys(("EXPIRE6", "RELEASE6", "STOP6"), ("dhcp6",)),
    **dict.fromkeys(("NOCARRIER", "DEPARTED", "FAIL", "STOPPED"), ("dhcp", "dhcp6", "router")),
}
#: Lower than any of dhcpcd's own, which begin at 1000: its routes stay, for when this one goes.
METRIC = 100
#: The C library asks no more.
_NAME_SERVERS = 3


@dataclass(frozen=True)
class Answer:
    """What is known by one protocol at one interface; addresses are texts."""

    interface: str
    protocol: str
    address: str = ""
    routers: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ntp: tuple[str, ...] = ()


Answers = tuple[Answer, ...]


def heard(answers: Answers, said: Mapping[str, str]) -> Answers:
    """The answers after one more word of dhcpcd, which is in the environment of the program that it calls."""
    reason, interface = said.get("reason", ""), said.get("interface", "")
    if protocol := _HEARD.get(reason):
        new = _answer(interface, protocol, said)
        if not (new.address or new.nameservers or new.routers):
            return _without(answers, interface, (protocol,))
        if not any(_same(old, interface, protocol) for old in answers):
            return (*answers, new)
        return tuple(new if _same(old, interface, protocol) else old for old in answers)
    return _without(answers, interface, _LOST.get(reason, ()))


def _same(answer: Answer, interface: str, protocol: str) -> bool:
    return (answer.interface, answer.protocol) == (interface, protocol)


def _without(answers: Answers, interface: str, protocols: Iterable[str]) -> Answers:
    gone = {(interface, protocol) for protocol in protocols}
    return tuple(answer for answer in answers if (answer.interface, answer.protocol) not in gone)


def _answer(interface: str, protocol: str, said: Mapping[str, str]) -> Answer:
    def words(*names: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(word for name in names for word in said.get(name, "").split()))

    if protocol == "dhcp":
        return Answer(
            interface,
            protocol,
            said.get("new_ip_address", ""),
            # The routes of option 121 replace the routers; dhcpcd sets those.
            () if said.get("new_classless_static_routes") else words("new_routers"),
            words("new_domain_name_servers"),
            words("new_domain_search") or words("new_domain_name"),
            words("new_ntp_servers"),
        )
    if protocol == "dhcp6":
        return Answer(
            interface,
            protocol,
            said.get("new_dhcp6_ia_na1_ia_addr1", ""),
            (),
            words("new_dhcp6_name_servers"),
            words("new_dhcp6_domain_search"),
            words("new_dhcp6_ntp_server_addr", "new_dhcp6_sntp_servers"),
        )
    numbers = sorted({name.split("_", 1)[0] for name in said if name.startswith("nd") and "_" in name})
    return Answer(
        interface,
        protocol,
        next((said[f"{nd}_addr1"] for nd in numbers if f"{nd}_addr1" in said), ""),
        words(*(f"{nd}_from" for nd in numbers)),
        words(*(f"{nd}_rdnss{one}_servers" for nd in numbers for one in range(1, 5))),
        words(*(f"{nd}_dnssl{one}_search" for nd in numbers for one in range(1, 5))),
    )


def resolver(given: Sequence[str], answers: Answers) -> str:
    """The text of resolv.conf(5): what the command line gives comes first, and then the first answer."""
    servers = dict.fromkeys([*given, *(server for answer in answers for server in _scoped(answer))])
    search = dict.fromkeys(word for answer in answers for word in answer.search)
    lines = [f"search {' '.join(search)}"] if search else []
    return "".join(f"{line}\n" for line in [*lines, *(f"nameserver {one}" for one in list(servers)[:_NAME_SERVERS])])


def _scoped(answer: Answer) -> list[str]:
    return [f"{one}%{answer.interface}" if one.startswith("fe80:") else one for one in answer.nameservers]


def way_out(answers: Answers) -> list[str]:
    """The arguments of ip(8) for the IPv4 default route of whoever answered first, or against it."""
    for answer in answers:
        if answer.protocol == "dhcp" and answer.routers:
            gateway = ["via", answer.routers[0], "dev", answer.interface]
            return ["-4", "route", "replace", "default", *gateway, "metric", str(METRIC)]
    return ["-4", "route", "flush", "default", "metric", str(METRIC)]


def to_text(answers: Answers) -> str:
    """The answers for :func:`from_text`."""
    return json.dumps([asdict(answer) for answer in answers], indent=1) + "\n"


def from_text(text: str) -> Answers:
    """The answers of a text; nothing was heard where there is none."""
    found: list[dict[str, Any]] = json.loads(text) if text else []
    return tuple(_from(one) for one in found)


def _from(one: Mapping[str, Any]) -> Answer:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in one.items()}
    return Answer(**values)
