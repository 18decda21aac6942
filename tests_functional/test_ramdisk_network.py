# SPDX-License-Identifier: Apache-2.0
"""The ramdisk's network by the kernel's command line, in machines: a VLAN on a bond, and IPv6 without IPv4.

Switches speak at their ports, and the facts name them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from building.process import run
from tests_functional.bench.hypervisor import SERVER
from tests_functional.bench.neighbour import FRAME, TOLD, at_bridge, speaking, speaking_by_cable
from tests_functional.bench.node import KERNEL_PARAMETERS, Boot, Node
from tests_functional.bench.session import Session
from tests_functional.bench.ssh import Ssh
from tests_functional.bench.strategy import RAMDISK_LIMIT
from tests_functional.bench.template import Template, bridged, cable
from tests_functional.bench.waiting import until

#: Numbers of the nodes, which no other test has at the same time.
SWITCH, TAGGED, SIX = 20, 21, 22
#: UDP ports of the two cables' ends.
CABLES = ((9101, 9201), (9102, 9202))
#: What another port of the same switch says.
OTHER_FRAME = FRAME.replace(b"swp7", b"swp8")
#: Seconds until a bond has taken in its members again.
BOND_LIMIT = 30.0
#: Seconds until a node has heard what is sent twice a second.
HEARD_LIMIT = 30.0
BOND = "mode=802.3ad,lacp_rate=fast,miimon=50"
PREFIX = "fd00:6:6:6"
PROXY = "proxy=http://me:a!b&c@192.168.157.1:3128"


@contextmanager
def booted(session: Session, template: Template, number: int, parameters: str, name: str) -> Iterator[Node]:
    """Give a node that has been switched on with the ramdisk and parameters; a failure leaves its evidence."""
    node = session.node(template, number)
    ramdisk = session.products.ramdisk
    with session.explained(node, name):
        node.power_on_without_disks(Boot(ramdisk.kernel, ramdisk.initramfs, f"{KERNEL_PARAMETERS} {parameters}"))
        yield node


def neighbours(node: Node) -> dict[str, list[dict[str, Any]]]:
    """The neighbours that the facts of a node have, by its ports."""
    facts = json.loads(node.ssh.run("bareon-provision --dump_node_facts").stdout)
    return {port["name"]: port["neighbours"] for port in facts["hardware"]["ports"]}


def members(name: str, macs: list[str]) -> str:
    """The words for a bond of ports with these hardware addresses."""
    names = " ".join(f"ifname=cable{number}:{mac}" for number, mac in enumerate(macs))
    return f"{names} bond={name}:cable0,cable1:{BOND}"


@pytest.mark.long
@pytest.mark.thorough("two machines; bareon/tests/test_network.py has the commands")
def test_a_vlan_on_a_bond(session: Session) -> None:
    """LACP with another machine at the other end of two cables, and a VLAN on it with an address of its own.

    At each of the cables a switch speaks.

    That machine is the ramdisk too: it has its own way into the bench's network, and stands between.
    """
    template = Template.load("one_disk")
    far = ["52:54:00:ba:2f:01", "52:54:00:ba:2f:02"]
    switch = template.with_ports(*(cable(here, there, mac) for (here, there), mac in zip(CABLES, far, strict=True)))
    near = [f"52:54:00:ba:2e:{TAGGED:02x}", "52:54:00:ba:2f:03"]
    (here, there), (second_here, second_there) = CABLES
    ends = (cable(there, here), cable(second_there, second_here, near[1]))
    tagged = template.with_ports(*ends, network=False)
    between = (
        f"{members('bond0', far)} vlan=bond0.7:bond0 ip=192.168.157.1:::24::bond0.7:none "
        f"ifname=lan:52:54:00:ba:2e:{SWITCH:02x} ip=lan:dhcp"
    )
    node_words = (
        f"{members('bond1', near)} vlan=vlan0007:bond1 nameserver={SERVER} {PROXY} no_proxy={SERVER} "
        "ip=192.168.157.2::192.168.157.1:255.255.255.0:tagged:vlan0007:none:1400"
    )
    with (
        booted(session, switch, SWITCH, between, "vlan-switch") as middle,
        booted(session, tagged, TAGGED, node_words, "vlan-on-bond") as node,
        speaking_by_cable(there),
        speaking_by_cable(second_there, OTHER_FRAME),
    ):
        middle.ssh.wait(RAMDISK_LIMIT)
        middle.ssh.run("echo 1 > /proc/sys/net/ipv4/ip_forward")
        run(["ip", "route", "replace", "192.168.157.0/24", "via", middle.port.address], timeout=10)
        node.ssh = Ssh("192.168.157.2", session.products.key)
        node.ssh.wait(RAMDISK_LIMIT)
        looks_as_told(node, middle)
        # Each at the member of the bond that it is cabled to, and none at the bond.
        wanted = {"cable0": [TOLD], "cable1": [{**TOLD, "port_id": "swp8"}]}
        until(lambda: neighbours(node) == wanted, "both neighbours are heard", HEARD_LIMIT, 1.0)
        # One of two cables is pulled.
        session.hypervisor.virsh("domif-setlink", node.name, near[0], "down")
        until(lambda: "MII Status: down" in bonding(node), "the bond notices", BOND_LIMIT)
        assert node.ssh.run("cat /sys/class/net/bond1/operstate").stdout == "up\n"


def bonding(node: Node) -> str:
    return node.ssh.run("cat /proc/net/bonding/bond*").stdout


def looks_as_told(node: Node, middle: Node) -> None:
    """The bond has found its other end at both cables, and the rest is as the command line has it."""
    said = bonding(node)
    assert "IEEE 802.3ad" in said and "LACP rate: fast" in said, said
    theirs = middle.ssh.run("cat /sys/class/net/bond0/address").stdout.strip()
    until(lambda: f"Partner Mac Address: {theirs}" in bonding(node), "LACP finds the other end", BOND_LIMIT)
    until(lambda: "Number of ports: 2" in bonding(node), "both cables are in use", BOND_LIMIT)
    link = node.ssh.run("ip -details link show vlan0007").stdout
    assert "vlan protocol 802.1Q id 7" in link and "mtu 1400" in link, link
    assert node.ssh.run("hostname").stdout == "tagged\n"
    assert node.ssh.run("cat /etc/resolv.conf").stdout == f"nameserver {SERVER}\n"
    assert node.ssh.run("ip -4 route show default").stdout.strip() == "default via 192.168.157.1 dev vlan0007"
    assert not node.ssh.run("pidof dhcpcd", check=False).stdout
    proxy = PROXY.removeprefix("proxy=")
    assert node.ssh.run('echo "$http_proxy $https_proxy $no_proxy"').stdout == f"{proxy} {proxy} {SERVER}\n"


@pytest.fixture
def six(tmp_path: Path) -> Iterator[str]:
    """Return a bridge at which a router and a DHCP server speak IPv6, and nobody IPv4."""
    run(["ip", "link", "add", "six0", "type", "bridge"], timeout=10)
    run(["ip", "address", "add", f"{PREFIX}::1/64", "dev", "six0", "nodad"], timeout=10)
    run(["ip", "link", "set", "six0", "up"], timeout=10)
    argv = [
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=six0"),
        *("--bind-interfaces", "--enable-ra", f"--dhcp-range={PREFIX}::100,{PREFIX}::1ff,slaac,64,10m"),
        *(f"--dhcp-option=option6:dns-server,[{PREFIX}::1]", f"--dhcp-leasefile={tmp_path / 'leases'}"),
        *("--ra-param=six0,10", f"--pid-file={tmp_path / 'pid'}", f"--log-facility={tmp_path / 'log'}"),
    ]
    with subprocess.Popen(argv) as server:
        yield "six0"
        server.terminate()
    run(["ip", "link", "delete", "six0"], timeout=10)


@pytest.mark.long
@pytest.mark.thorough("one more boot of the ramdisk; bareon/tests/test_network.py has what dhcpcd is told")
def test_ipv6_only(session: Session, six: str) -> None:
    """Nothing is said: the node has the address that follows from its port, one of the server, and name servers.

    It hears who is at the other end of its cable.
    """
    template = Template.load("one_disk").with_ports(bridged(six), network=False)
    with booted(session, template, SIX, "", "ipv6-only") as node:
        node.ssh = Ssh(f"{PREFIX}:5054:ff:feba:2e{SIX:02x}", session.products.key)
        node.ssh.wait(RAMDISK_LIMIT)
        addresses = node.ssh.run("ip -6 address show scope global").stdout
        assert f"inet6 {PREFIX}::1" in addresses, addresses
        assert node.ssh.run("cat /etc/resolv.conf").stdout == f"nameserver {PREFIX}::1\n"
        assert "default via fe80:" in node.ssh.run("ip -6 route show default").stdout
        assert not node.ssh.run("ip -4 address show scope global").stdout
        assert list(neighbours(node).values()) == [[]]
        with speaking(at_bridge(six)):
            until(lambda: list(neighbours(node).values()) == [[TOLD]], "a neighbour is heard", HEARD_LIMIT, 1.0)
