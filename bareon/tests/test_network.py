# SPDX-License-Identifier: Apache-2.0
"""The ramdisk's network: the words of a kernel's command line, the commands for them, and who answered first."""

from __future__ import annotations

import shlex
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from bareon.errors import InvalidInput
from bareon.network import answers, client
from bareon.network.commands import Found, commands, placed
from bareon.network.wanted import Bond, Port, Route, Vlan, Wanted
from bareon.network.words import parse

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
TWO = Found({A: "enp1s0", B: "enp2s0"})

PORTS = {
    "ip=dhcp": Port(None, "dhcp"),
    "ip=on": Port(None, "dhcp"),
    "ip=any": Port(None, "dhcp"),
    "ip=single-dhcp": Port(None, "dhcp"),
    "ip=dhcp6": Port(None, "dhcp6"),
    "ip=auto6": Port(None, "auto6"),
    "ip=either6": Port(None, "either6"),
    "ip=link6": Port(None, "link-local"),
    "ip=link-local": Port(None, "link-local"),
    "ip=off": Port(None, "none"),
    "ip=eth0:dhcp": Port("eth0", "dhcp"),
    "ip=eth0.7:auto6": Port("eth0.7", "auto6"),
    "ip=eth0:dhcp:9000": Port("eth0", "dhcp", mtu=9000),
    f"ip=eth0:dhcp:9000:{A.upper()}": Port("eth0", "dhcp", mtu=9000, mac=A),
    f"ip=eth0:dhcp::{A}": Port("eth0", "dhcp", mac=A),
    "ip=192.0.2.9::192.0.2.1:255.255.255.0:node:eth0:none": Port(
        "eth0", "none", ip_interface("192.0.2.9/24"), ip_address("192.0.2.1"), "node"
    ),
    "ip=192.0.2.9:::24::eth0:off": Port("eth0", "none", ip_interface("192.0.2.9/24")),
    "ip=192.0.2.9:::24::eth0": Port("eth0", "none", ip_interface("192.0.2.9/24")),
    # As pxelinux writes it: the second field is the server.
    "ip=192.0.2.9:192.0.2.2:192.0.2.1:255.255.255.0": Port(
        None, "none", ip_interface("192.0.2.9/24"), ip_address("192.0.2.1")
    ),
    "ip=[2001:db8::9]::[2001:db8::1]:64::eth0:none": Port(
        "eth0", "none", ip_interface("2001:db8::9/64"), ip_address("2001:db8::1")
    ),
    f"ip=192.0.2.9:::24::eth0:none:1400:{A}": Port("eth0", "none", ip_interface("192.0.2.9/24"), mtu=1400, mac=A),
}


@pytest.mark.parametrize("word", PORTS)
def test_the_forms_of_ip(word: str) -> None:
    assert parse(f"BOOT_IMAGE=/vmlinuz {word} quiet").ports == (PORTS[word],)


OTHERS = {
    "bond=bond0": Wanted(bonds=(Bond("bond0", ("eth0", "eth1"), (("mode", "balance-rr"), ("miimon", "100"))),)),
    "bond=b:x,y:mode=802.3ad,lacp_rate=fast": Wanted(
        bonds=(Bond("b", ("x", "y"), (("mode", "802.3ad"), ("lacp_rate", "fast"), ("miimon", "100"))),)
    ),
    "bond=b:x,y:mode=1,arp_interval=50,arp_ip_target=192.0.2.1;192.0.2.2:9000": Wanted(
        bonds=(
            Bond(
                "b",
                ("x", "y"),
                (("mode", "1"), ("arp_interval", "50"), ("arp_ip_target", "192.0.2.1,192.0.2.2")),
                9000,
            ),
        )
    ),
    "bond=b:x,y": Wanted(bonds=(Bond("b", ("x", "y"), (("miimon", "100"),)),)),
    "vlan=vlan0007:eth0": Wanted(vlans=(Vlan("vlan0007", "eth0", 7),)),
    "vlan=bond0.4094:bond0": Wanted(vlans=(Vlan("bond0.4094", "bond0", 4094),)),
    f"ifname=lan:{A}": Wanted(names=(("lan", A),)),
    "rd.route=198.51.100.0/24:192.0.2.1": Wanted(
        routes=(Route(ip_network("198.51.100.0/24"), ip_address("192.0.2.1")),)
    ),
    "rd.route=[2001:db8:1::]/48:[fe80::1]:eth0": Wanted(
        routes=(Route(ip_network("2001:db8:1::/48"), ip_address("fe80::1"), "eth0"),)
    ),
    "nameserver=192.0.2.53 nameserver=[2001:db8::53] nameserver=2001:db8::54": Wanted(
        nameservers=(ip_address("192.0.2.53"), ip_address("2001:db8::53"), ip_address("2001:db8::54"))
    ),
    "BOOTIF=01-52-54-00-00-00-0A": Wanted(booted=A),
    f"BOOTIF={A}": Wanted(booted=A),
    "BOOTIF=": Wanted(),
    "BOOTIF=20-00-00-00-00-00-00-00-00-00-00-00-00-00-00-00-00-00-00-00": Wanted(),
    "quiet ipa-api-url=http://192.0.2.1 console=ttyS0 bareon.input=http://ip=x/": Wanted(),
}


@pytest.mark.parametrize("word", OTHERS)
def test_the_other_words(word: str) -> None:
    assert parse(word) == OTHERS[word]


WRONG = {
    "ip=dhpc": "is none of the ways to an address, which are dhcp, dhcp6",
    "ip=": "is none of the ways to an address",
    "ip=eth0:dhpc": "dhpc is none of the ways",
    "ip=an/interface:dhcp": "an/interface is no name of an interface",
    "ip=an-interface-too-long:dhcp": "is no name of an interface",
    "ip=2001:db8::9::2001:db8::1:64::eth0:none": "db8 is none of the ways",
    "ip=fd00::9": "an IPv6 address is written in brackets",
    "ip=[fd00::9:::64::eth0:none": "has a bracket without its other half",
    "ip=[fd00::x]:::64::eth0:none": "[fd00::x] is no address",
    "ip=192.0.2.9": "must be ADDRESS:[PEER]:[GATEWAY]:MASK",
    "ip=192.0.2.9::::node:eth0:none": "192.0.2.9 has no mask",
    "ip=192.0.2.9:::255.0.255.0::eth0:none": "255.0.255.0 is neither the mask",
    "ip=192.0.2.999:::24::eth0:none": "192.0.2.999 is no address",
    "ip=192.0.2.9::[2001:db8::1]:24::eth0:none": "are of two families",
    "ip=192.0.2.9::gateway:24::eth0:none": "gateway is no address",
    "ip=192.0.2.9:::24:a_host:eth0:none": "a_host is no name of a host",
    "ip=192.0.2.9:::24::eth0:dhcp": "has the address 192.0.2.9 and asks for one by dhcp",
    "ip=192.0.2.9:::24::eth0:ibft": "ibft is none of the ways",
    "ip=eth0:dhcp:40": "40 is no MTU",
    "ip=eth0:dhcp:1500:52:54:00:00:00": "is no hardware address",
    "bond=b:x,y:moed=1": "moed is no option of a bond",
    "bond=b:x,y:mode=active": "active is no mode of a bond; they are balance-rr, active-backup",
    "bond=b:x,y:mode": "the option mode has no value",
    "bond=b:x,y:mode=1:1500:z": "has 5 fields between colons; 4 at most are known",
    "vlan=management:eth0": "with a name that has the number",
    "vlan=vlan7": "must be NAME:INTERFACE",
    "vlan=vlan4095:eth0": "4095 is no number of a VLAN",
    "vlan=vlan0:eth0": "0 is no number of a VLAN",
    "ifname=lan": "must be NAME:MAC",
    "ifname=lan:52:54": "52:54 is no hardware address",
    "rd.route=10.0.0.0/8": "must be NETWORK/LENGTH:GATEWAY",
    "rd.route=10.0.0.0/8:[fd00::1]": "are of two families",
    "nameserver=dns.example": "dns.example is no address",
    "team=team0:eth0": "is bond= meant?",
    "bridge=br0:eth0": "is bond= meant?",
}


@pytest.mark.parametrize("word", WRONG)
def test_a_wrong_word_is_named(word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(f"ip=eth9:dhcp {word}")
    (defect,) = caught.value.defects
    assert defect.path == word
    assert WRONG[word] in defect.message


AGAINST = {
    "bond=b:x bond=b:y": "bond=b: is there twice",
    "vlan=b.7:x bond=b.7:y": "vlan=b.7: is there twice",
    "bond=b:x,y bond=c:y": "bond=c: has y, which b has already",
    "bond=b:x,y ip=x:dhcp": "ip=…x…: is a member of b, which has the address",
}


@pytest.mark.parametrize("words", AGAINST)
def test_words_against_each_other(words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(words)
    assert caught.value.lines() == [AGAINST[words]]


def lines(text: str, found: Found = TWO) -> list[str]:
    wanted, problems = placed(parse(text), found)
    return [f"# {problem}" for problem in problems] + [shlex.join(command) for command in commands(wanted, found)]


UP = ["ip link set dev enp1s0 up", "ip link set dev enp2s0 up"]
COMMANDS = {
    "": UP,
    "ip=192.0.2.9::192.0.2.1:24::enp2s0:none:1400": [
        *UP,
        "ip link set dev enp2s0 mtu 1400",
        "ip -4 address replace 192.0.2.9/24 dev enp2s0",
        "ip -4 route replace default via 192.0.2.1 dev enp2s0",
    ],
    # A gateway outside of the network of the address.
    "ip=192.0.2.9::198.51.100.1:32::enp1s0:none": [
        *UP,
        "ip -4 address replace 192.0.2.9/32 dev enp1s0",
        "ip -4 route replace default via 198.51.100.1 dev enp1s0 onlink",
    ],
    "ip=[2001:db8::9]::[fe80::1]:64::enp1s0:none rd.route=10.0.0.0/8:192.0.2.1": [
        *UP,
        "ip -6 address replace 2001:db8::9/64 dev enp1s0 nodad",
        "ip -6 route replace default via fe80::1 dev enp1s0",
        "ip -4 route replace 10.0.0.0/8 via 192.0.2.1",
    ],
    f"ip=192.0.2.9:192.0.2.2:192.0.2.1:24 BOOTIF=01-{B.replace(':', '-')}": [
        *UP,
        "ip -4 address replace 192.0.2.9/24 dev enp2s0",
        "ip -4 route replace default via 192.0.2.1 dev enp2s0",
    ],
    "ip=192.0.2.9:192.0.2.2:192.0.2.1:24": ["# ip=192.0.2.9…: names no interface, and this node has 2 ports", *UP],
    "ip=eth0:dhcp": [f"# eth0 is no port of this node: enp1s0 ({A}), enp2s0 ({B})", *UP],
    "ifname=lan:52:54:00:00:00:0c": [
        "# ifname=lan:52:54:00:00:00:0c: this node has no port with this address",
        "ip link set dev enp1s0 up",
        "ip link set dev enp2s0 up",
    ],
    f"ifname=a:{A} ifname=b:{B} bond=bond0:a,b:mode=active-backup,primary=b:9000 vlan=bond0.7:bond0": [
        "ip link set dev enp1s0 down",
        "ip link set dev enp1s0 name a",
        "ip link set dev enp2s0 down",
        "ip link set dev enp2s0 name b",
        "modprobe bonding max_bonds=0",
        "ip link add name bond0 type bond mode active-backup miimon 100",
        "ip link set dev a down",
        "ip link set dev a master bond0",
        "ip link set dev b down",
        "ip link set dev b master bond0",
        "ip link set dev bond0 type bond primary b",
        "ip link set dev bond0 mtu 9000",
        "ip link set dev bond0 up",
        "ip link add link bond0 name bond0.7 type vlan id 7",
        "ip link set dev bond0.7 up",
    ],
}


@pytest.mark.parametrize("words", COMMANDS)
def test_the_commands(words: str) -> None:
    assert lines(words) == COMMANDS[words]


def asked(text: str) -> list[str] | None:
    """What dhcpcd is told of interfaces, without what it is always told."""
    found = client.configuration(parse(text), ["enp1s0", "enp2s0"], "/script")
    if found is None:
        return None
    return [line.strip() for line in found.partition("script /script\n")[2].splitlines()]


def test_without_a_word_all_ports_are_asked_that_there_are_and_will_be() -> None:
    assert asked("quiet") == ["interface enp1s0", "interface enp2s0"]


ASKED = {
    "ip=dhcp": [
        *("allowinterfaces enp1s0 enp2s0", "interface enp1s0", "ipv4only", "interface enp2s0", "ipv4only"),
    ],
    "ip=enp2s0:dhcp": ["allowinterfaces enp2s0", "interface enp2s0", "ipv4only"],
    "ip=enp2s0:either6": ["allowinterfaces enp2s0", "interface enp2s0", "ipv6only"],
    "ip=enp2s0:auto6": ["allowinterfaces enp2s0", "interface enp2s0", "ipv6only", "nodhcp6"],
    "ip=enp2s0:dhcp6": ["allowinterfaces enp2s0", "interface enp2s0", "ipv6only", "ia_na"],
    # Both families at one port.
    "ip=enp2s0:dhcp ip=enp2s0:auto6": ["allowinterfaces enp2s0", "interface enp2s0", "nodhcp6"],
    "ip=192.0.2.9:::24::enp1s0:none": None,
    "ip=link-local": None,
    "ip=192.0.2.9:::24::enp1s0:none ip=enp2s0:dhcp": ["allowinterfaces enp2s0", "interface enp2s0", "ipv4only"],
    # Whoever makes a VLAN means it to be used; the members of a bond are asked nothing.
    "vlan=enp1s0.7:enp1s0": ["allowinterfaces enp1s0.7", "interface enp1s0.7"],
    "bond=b:enp1s0,enp2s0:mode=1": ["allowinterfaces b", "interface b"],
    "bond=b:enp1s0:mode=1 ip=dhcp": ["allowinterfaces enp2s0", "interface enp2s0", "ipv4only"],
}


@pytest.mark.parametrize("words", ASKED)
def test_who_is_asked(words: str) -> None:
    assert asked(words) == ASKED[words]


def bound(interface: str, number: int, reason: str = "BOUND", **more: str) -> dict[str, str]:
    return {
        **{"reason": reason, "interface": interface, "new_ip_address": f"192.0.{number}.9"},
        **{"new_routers": f"192.0.{number}.1", "new_domain_name_servers": f"192.0.{number}.53"},
        **more,
    }


def after(*said: dict[str, str]) -> answers.Answers:
    found: answers.Answers = ()
    for one in said:
        found = answers.heard(found, one)
        assert answers.from_text(answers.to_text(found)) == found
    return found


def way(found: answers.Answers) -> str:
    return " ".join(answers.way_out(found))


def test_the_first_answer_keeps_the_say_until_it_is_lost() -> None:
    first, second = bound("eth1", 1, new_domain_name="one.example"), bound("eth0", 2)
    both = after(first, second, bound("eth1", 1, "RENEW", new_ntp_servers="192.0.1.123"))
    assert way(both) == "-4 route replace default via 192.0.1.1 dev eth1 metric 100"
    assert answers.resolver((), both) == "nameserver 192.0.1.53\nnameserver 192.0.2.53\n"
    assert [one.ntp for one in both] == [("192.0.1.123",), ()]
    given = answers.resolver(["198.51.100.1", "198.51.100.2"], after(first, second))
    assert given == ("search one.example\nnameserver 198.51.100.1\nnameserver 198.51.100.2\nnameserver 192.0.1.53\n")
    pulled = answers.heard(both, {"reason": "NOCARRIER", "interface": "eth1"})
    assert way(pulled) == "-4 route replace default via 192.0.2.1 dev eth0 metric 100"
    # Plugged in again it has to queue.
    again = answers.heard(pulled, first)
    assert answers.way_out(again) == answers.way_out(pulled)
    nobody = after(first, {"reason": "EXPIRE", "interface": "eth1"})
    assert way(nobody) == "-4 route flush default metric 100"
    assert answers.resolver((), nobody) == ""


def test_routes_of_the_server_replace_its_routers() -> None:
    found = after(bound("eth0", 1, new_classless_static_routes="10.0.0.0/8 192.0.1.1"))
    assert way(found) == "-4 route flush default metric 100"


def test_ipv6_names_its_servers_in_two_ways() -> None:
    router = {
        **{"reason": "ROUTERADVERT", "interface": "eth0", "nd1_from": "fe80::1", "nd1_addr1": "2001:db8::9"},
        **{"nd1_rdnss1_servers": "fe80::53 2001:db8::53", "nd1_dnssl1_search": "a.example b.example"},
    }
    server = {
        **{"reason": "BOUND6", "interface": "eth0", "new_dhcp6_ia_na1_ia_addr1": "2001:db8::10"},
        **{"new_dhcp6_name_servers": "2001:db8::53 2001:db8::54"},
    }
    found = after(router, server)
    assert [(one.protocol, one.address) for one in found] == [("router", "2001:db8::9"), ("dhcp6", "2001:db8::10")]
    assert answers.resolver((), found) == (
        "search a.example b.example\nnameserver fe80::53%eth0\nnameserver 2001:db8::53\nnameserver 2001:db8::54\n"
    )
    gone = answers.heard(found, {"reason": "ROUTERADVERT", "interface": "eth0"})
    assert [one.protocol for one in gone] == ["dhcp6"]


def test_what_says_nothing_changes_nothing() -> None:
    assert after({"reason": "CARRIER", "interface": "eth0"}, {"reason": "BOUND", "interface": "eth0"}) == ()
