# SPDX-License-Identifier: Apache-2.0
"""A node that deploys itself and has no link, then a server that is down, then no document: in a namespace."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bareon.tests.standin import DOCUMENT, KEY, PROGRAM, laid_out, stand_ins
from building.process import run
from tests_functional.bench.waiting import until
from tests_functional.conftest import ROOT
from tests_functional.test_dhcp import PROGRAM as NETWORK
from tests_functional.test_unattended import serving

#: Seconds for which the server is down.
DOWN = 600.0
#: Seconds between two questions, and for what else is done between them; the facts wait for a minute.
LIMIT = 180.0
SPACE, FAR, SERVER, PORT = "patient", "patient-far", "10.9.0.1", 8090
WORDS = (
    f"ip=10.9.0.2::{SERVER}:24::p1:none bareon.input=http://{SERVER}:{PORT}/documents/{{mac}}"
    f" bareon.events=http://{SERVER}:{PORT}/events bareon.after=poweroff"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return laid_out(tmp_path)


@pytest.fixture
def mac(root: Path) -> Iterator[str]:
    """Return the hardware address of a node's only port, whose cable is not plugged in."""
    with ExitStack() as stack:
        run(["ip", "netns", "add", SPACE], timeout=10)
        stack.callback(run, ["ip", "netns", "delete", SPACE], timeout=10)
        run(["ip", "link", "add", FAR, "type", "veth", "peer", "name", "p1", "netns", SPACE], timeout=10)
        run(["ip", "address", "add", f"{SERVER}/24", "dev", FAR], timeout=10)
        # The tree shows the namespace's own, in the place of two ports that are none.
        for old in ("eth0", "eth1"):
            (root / "sys/class/net" / old).rename(root / old)
        (root / "proc/net/route").unlink()
        (root / "proc/net").rmdir()
        (root / "proc/net").symlink_to("/proc/self/net")
        shown = root / "sys/class/net/p1"
        (shown / "device").mkdir(parents=True)
        for file in ("type", "address", "carrier"):
            (shown / file).symlink_to(f"/sys/class/net/p1/{file}")
        (root / "proc/cmdline").write_text(f"quiet {WORDS}\n")
        (root / "etc/bareon/events.key").write_text(KEY)
        yield json.loads(run(["ip", "-n", SPACE, "-json", "link", "show", "p1"], timeout=10).stdout)[0]["address"]


def inside(program: str, root: Path, programs: Path) -> subprocess.Popen[str]:
    """Start a program of the ramdisk's as the node."""
    argv = ["ip", "netns", "exec", SPACE, sys.executable, "-c", program, "--root", str(root)]
    environment = {"PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.long
@pytest.mark.thorough("it waits for ten minutes; bareon/tests/test_unattended.py has each reason by itself")
def test_no_link_and_then_a_server_that_is_down_for_ten_minutes(root: Path, mac: str, tmp_path: Path) -> None:
    """Each reason is said once. The node is deployed in the end, and all of its events arrive."""
    programs, _ = stand_ins(tmp_path)
    (documents := tmp_path / "documents").mkdir()
    console = root / "dev/one"
    network = inside(NETWORK, root, programs)
    _, said = network.communicate(timeout=60)
    assert network.returncode == 0 and "no port has a link (p1): look at cable and switch" in said
    with inside(PROGRAM, root, programs) as node:
        try:
            until(lambda: f"{SERVER} cannot be reached" in console.read_text(), "there is no link", LIMIT, 1.0)
            run(["ip", "link", "set", FAR, "up"], timeout=10)
            until(lambda: f"{SERVER} refuses the connection" in console.read_text(), "it is down", LIMIT, 1.0)
            lines = console.read_text()
            time.sleep(DOWN)
            assert node.poll() is None and console.read_text() == lines
            with serving(documents, KEY.encode(), SERVER, PORT) as (site, _):
                until(lambda: "no document for this node (404)" in console.read_text(), "it is asked", LIMIT, 1.0)
                (documents / f"{mac}.json").write_text(DOCUMENT)
                assert node.wait(LIMIT) == 0, console.read_text()
        finally:
            node.kill()
    assert (programs / "told").read_text() == "poweroff\n"
    assert console.read_text().count("; asking again") == 3
    (one,) = site.runs.values()
    assert (one.state, one.node["mac"], one.sequences) == ("done", mac, set(range(1, len(one.sequences) + 1)))
    assert len(one.sequences) == 3 + 5  # the reasons, and what a deployment tells
