# SPDX-License-Identifier: Apache-2.0
"""The ramdisk's ear for LLDP at real interfaces, in a namespace: who is heard at which port, and who is not."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bareon import hardware
from bareon.lldp.table import PLACE
from bareon.model.hardware import NeighbourFacts
from building.process import run
from tests_functional.bench.neighbour import FRAME, TOLD, speaking
from tests_functional.bench.waiting import until
from tests_functional.conftest import ROOT

#: Seconds until something is heard.
LIMIT = 20.0
PROGRAM = "import sys; from bareon.cmd.network import main; sys.exit(main(sys.argv[1:]))"
NODE = "lldp-node"
#: Names of the ports, and of the other ends of their cables.
PORTS = {"p1": "lldp-1", "p2": "lldp-2"}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a node that listens: two ports with a link each, in a namespace."""
    with contextlib.ExitStack() as stack:
        run(["ip", "netns", "add", NODE], timeout=10)
        stack.callback(run, ["ip", "netns", "delete", NODE], timeout=10)
        for port, far in PORTS.items():
            run(["ip", "link", "add", far, "type", "veth", "peer", "name", port, "netns", NODE], timeout=10)
            stack.callback(run, ["ip", "link", "delete", far], timeout=10)
            # The kernel says of a veth that it has no device.
            shown = tmp_path / "sys/class/net" / port
            (shown / "device").mkdir(parents=True)
            (shown / "type").write_text("1\n")
            (shown / "address").write_text("52:54:00:00:00:01\n")
        argv = ["ip", "netns", "exec", NODE, sys.executable, "-c", PROGRAM, "--root", str(tmp_path), "--listen"]
        listener = subprocess.Popen(argv, cwd=ROOT)
        stack.callback(listener.wait)
        stack.callback(listener.terminate)
        until(lambda: (tmp_path / PLACE).exists(), "somebody listens", LIMIT)
        # As in the ramdisk: the ports come up when it listens already.
        for port, far in PORTS.items():
            run(["ip", "link", "set", far, "up"], timeout=10)
            run(["ip", "-n", NODE, "link", "set", port, "up"], timeout=10)
        yield tmp_path
        assert listener.poll() is None, "the listener has ended"


def flood(interface: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as mouth:
        mouth.bind((interface, 0))
        for number in range(5000):
            with contextlib.suppress(OSError):  # where nothing more goes into the queue
                mouth.send(FRAME[:14] + number.to_bytes(2) * 700)


def heard(root: Path) -> dict[str, tuple[NeighbourFacts, ...] | None]:
    return {port.name: port.neighbours for port in hardware.read(root).ports}


def test_a_neighbour_is_heard_at_its_port_alone(root: Path) -> None:
    """Frames that are none, and a flood of them, disturb nobody."""
    assert heard(root) == {"p1": (), "p2": ()}
    # A veth hears everything; a network card needs to be told.
    groups = run(["ip", "-n", NODE, "maddress", "show", "dev", "p1"], timeout=10).stdout
    assert "link  01:80:c2:00:00:0e" in groups, groups
    flood("lldp-1")
    with speaking("lldp-1", FRAME[:40]), speaking("lldp-2"):
        until(lambda: heard(root)["p2"], "a neighbour is heard", LIMIT)
        found = heard(root)
    assert found["p1"] == ()
    assert found["p2"] and [x.system_name for x in found["p2"]] == [TOLD["system_name"]]
