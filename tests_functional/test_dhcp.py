# SPDX-License-Identifier: Apache-2.0
"""The ramdisk's network with real DHCP servers at several ports, in namespaces: who has the say, and what is said."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from building.process import run
from tests_functional.bench.waiting import until
from tests_functional.conftest import ROOT

#: Seconds until dhcpcd has noticed something.
LIMIT = 60.0
PROGRAM = "import sys; from bareon.cmd.network import main; sys.exit(main(sys.argv[1:]))"


class Segments:
    """A node in a namespace, each of whose ports ends at a DHCP server in another one. Use as a context manager."""

    def __init__(self, place: Path, count: int) -> None:
        self.root = place / "root"
        self.place = place
        self.ports = [f"p{number}" for number in range(1, count + 1)]
        self._stack = ExitStack()

    def __enter__(self) -> Segments:
        for name in ("proc", "etc", "run", "var/log"):
            (self.root / name).mkdir(parents=True)
        script = self.root / "etc/dhcpcd-answer"
        argv = f"{sys.executable} -c '{PROGRAM}' --root {self.root} --answer"
        script.write_text(f"#!/bin/sh\nexport PYTHONPATH={ROOT}\nexec {argv}\n")  # dhcpcd hands no environment on
        script.chmod(0o755)
        self._namespace("node")
        run(["ip", "-n", "node", "link", "set", "lo", "up"], timeout=10)
        for number, port in enumerate(self.ports, 1):
            self._server(number, port)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._stack.close()

    def _stop(self) -> None:
        """End dhcpcd, which would take a second one's start for a word to itself."""
        deadline = time.monotonic() + LIMIT
        while Path("/run/dhcpcd/pid").exists():
            assert time.monotonic() < deadline, "dhcpcd does not end"
            run(["ip", "netns", "exec", "node", "dhcpcd", "--exit"], timeout=30, check=False)

    def _namespace(self, name: str) -> None:
        run(["ip", "netns", "add", name], timeout=10)
        self._stack.callback(run, ["ip", "netns", "delete", name], timeout=10)

    def _server(self, number: int, port: str) -> None:
        name = f"server{number}"
        self._namespace(name)
        pair = ["link", "add", port, "netns", "node", "type", "veth", "peer", "name", "e", "netns", name]
        run(["ip", *pair], timeout=10)
        run(["ip", "-n", name, "address", "add", f"10.0.{number}.1/24", "dev", "e"], timeout=10)
        self.link(number, up=True)
        # The kernel says of a veth that it has no device.
        shown = self.root / "sys/class/net" / port
        (shown / "device").mkdir(parents=True)
        for file in ("type", "address", "carrier"):
            (shown / file).symlink_to(f"/sys/class/net/{port}/{file}")
        self._answer(name, f"10.0.{number}.100,10.0.{number}.110", f"10.0.{number}.53")

    def _answer(self, name: str, addresses: str, resolver: str, *more: str) -> None:
        """Start a DHCP server in a namespace."""
        network = resolver.rpartition(".")[0]
        argv = [
            *("ip", "netns", "exec", name, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0"),
            *("--no-ping", f"--dhcp-range={addresses}", f"--dhcp-leasefile={self.place}/leases-{name}"),
            *(f"--dhcp-option=option:dns-server,{resolver}", f"--pid-file={self.place}/pid-{name}"),
            *(f"--dhcp-option=option:ntp-server,{network}.123", f"--log-facility={self.place}/log-{name}", *more),
        ]
        server = subprocess.Popen(argv)
        self._stack.callback(server.wait)
        self._stack.callback(server.terminate)

    def rival(self, number: int, seconds: int) -> None:
        """Put another server into the segment of a port, which takes so long for an answer."""
        name = f"server{number}"
        self._namespace("rival")
        run(["ip", "-n", name, "link", "add", "segment", "type", "bridge"], timeout=10)
        pair = ["link", "add", "second", "netns", name, "type", "veth", "peer", "name", "e", "netns", "rival"]
        run(["ip", *pair], timeout=10)
        run(["ip", "-n", name, "address", "delete", f"10.0.{number}.1/24", "dev", "e"], timeout=10)
        for port in ("e", "second"):
            run(["ip", "-n", name, "link", "set", port, "master", "segment", "up"], timeout=10)
        for space, port, host in ((name, "segment", 1), ("rival", "e", 2)):
            run(["ip", "-n", space, "address", "add", f"10.0.{number}.{host}/24", "dev", port], timeout=10)
            run(["ip", "-n", space, "link", "set", port, "up"], timeout=10)
        addresses = f"10.0.{number}.200,10.0.{number}.210"
        self._answer("rival", addresses, f"10.0.{number}.99", f"--dhcp-reply-delay={seconds}")

    def link(self, number: int, *, up: bool) -> None:
        """Plug the cable of a port in, or pull it."""
        run(["ip", "-n", f"server{number}", "link", "set", "e", "up" if up else "down"], timeout=10)

    def set_up(self, words: str) -> subprocess.CompletedProcess[str]:
        """Run the program as the ramdisk does when it starts."""
        (self.root / "proc/cmdline").write_text(f"quiet {words}\n")
        argv = ["ip", "netns", "exec", "node", sys.executable, "-c", PROGRAM, "--root", str(self.root)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)

    def way_out(self) -> str:
        """Return the interface of the default route that counts."""
        return run(["ip", "netns", "exec", "node", "ip", "route", "get", "198.51.100.1"], timeout=10).stdout.split()[
            4
        ]

    def resolver(self) -> str:
        """Return the file with the name servers."""
        return (self.root / "etc/resolv.conf").read_text()

    def until(self, port: str) -> None:
        """Wait until the default route is that of a port."""
        deadline = time.monotonic() + LIMIT
        while True:
            routes = run(["ip", "-n", "node", "route", "show", "default", "metric", "100"], timeout=10).stdout
            if f"dev {port}" in routes:
                return
            assert time.monotonic() < deadline, (self.root / "var/log/dhcpcd.log").read_text()
            time.sleep(0.2)


def test_the_first_of_two_servers_at_one_port_has_the_say(tmp_path: Path) -> None:
    """The other one was asked as well, and its offer is not taken."""
    with Segments(tmp_path, 1) as segments:
        segments.rival(1, 3)
        done = segments.set_up("")
        assert (done.returncode, done.stderr) == (0, "")
        segments.until("p1")
        assert segments.resolver() == "nameserver 10.0.1.53\n"
        route = run(["ip", "-n", "node", "route", "show", "default"], timeout=10).stdout
        assert "via 10.0.1.1 " in route and "via 10.0.1.2 " not in route, route
        said = tmp_path / "log-rival"
        until(lambda: "DHCPDISCOVER" in said.read_text(), "the other one was asked", LIMIT)
        assert not (tmp_path / "leases-rival").exists() or not (tmp_path / "leases-rival").read_text()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Segments]:
    """Return a node at two servers."""
    with Segments(tmp_path, 2) as segments:
        yield segments


@pytest.mark.thorough("waits for three answers; bareon/tests/test_network.py has who comes first")
def test_the_first_of_two_servers_has_the_say(two: Segments) -> None:
    """The other one's answer changes nothing, until the first one's cable is pulled; plugged in again it queues."""
    two.link(1, up=False)
    done = two.set_up("")
    assert (done.returncode, done.stderr) == (0, "")
    two.until("p2")
    assert two.resolver() == "nameserver 10.0.2.53\n"
    two.link(1, up=True)
    deadline = time.monotonic() + LIMIT
    while "10.0.1.53" not in two.resolver():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    # p1 has the lower number, and dhcpcd would take its route.
    assert two.way_out() == "p2"
    assert two.resolver() == "nameserver 10.0.2.53\nnameserver 10.0.1.53\n"
    two.link(2, up=False)
    two.until("p1")
    assert two.resolver() == "nameserver 10.0.1.53\n"


def test_a_link_that_comes_late(two: Segments) -> None:
    """It is said that there is none; as soon as there is one, it is used."""
    for number in (1, 2):
        two.link(number, up=False)
    done = two.set_up("nameserver=192.0.2.53")
    assert done.returncode == 0
    assert done.stderr == (
        "bareon-ramdisk-network: no port has a link (p1, p2): look at cable and switch; "
        "as soon as one has, it is used\n"
    )
    two.link(2, up=True)
    two.until("p2")
    assert two.resolver() == "nameserver 192.0.2.53\nnameserver 10.0.2.53\n"


@pytest.mark.thorough("waits until links are looked at again; bareon/tests/test_network.py has the words")
def test_a_static_address_beside_a_wrong_word(two: Segments) -> None:
    """The wrong word is named, and the node can be reached all the same."""
    done = two.set_up("ip=10.0.1.9::10.0.1.1:24::p1:none ip=p2:dhpc")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == (
        "bareon-ramdisk-network: ip=p2:dhpc: dhpc is none of the ways to an address, "
        "which are dhcp, dhcp6, auto6, either6, link-local and none"
    )
    assert two.resolver()


def test_a_static_address(two: Segments) -> None:
    """Nobody is asked for another one, and the new name of a port is used."""
    mac = two.root / "sys/class/net/p2/address"
    address = run(["ip", "netns", "exec", "node", "cat", mac], timeout=10).stdout.strip()
    done = two.set_up(f"ifname=lan:{address} ip=10.0.2.9::10.0.2.1:24::lan:none:1400 nameserver=192.0.2.53")
    assert done.stderr == ""
    assert two.way_out() == "lan"
    assert two.resolver() == "nameserver 192.0.2.53\n"
    link = run(["ip", "-n", "node", "address", "show", "dev", "lan"], timeout=10).stdout
    assert "inet 10.0.2.9/24" in link and "mtu 1400" in link
    assert not (two.root / "run/bareon-network/dhcpcd.conf").exists()
