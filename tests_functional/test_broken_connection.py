# SPDX-License-Identifier: Apache-2.0
"""The SSH connection that started a deployment breaks: the run goes on to its end, and is the only one."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from tests_functional.bench.node import Node
from tests_functional.bench.session import Session
from tests_functional.bench.template import Template

INPUT = "/tmp/provision.json"
REPORT = "/tmp/bareon-report.json"
ACTIONS = "do_partitioning,do_copyimage"
LIMIT = 180.0
OWN = ("-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ConnectTimeout=60")


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_a_run_outlives_its_connection(terminal: bool, session: Session) -> None:
    volume = {"type": "partition", "mount": "/", "size": "1 GiB", "file_system": "ext4"}
    wanted = {
        "partitions_policy": "clean",
        "images": [{"name": "debian", "image_pull_url": f"{session.rsync.url}/unbooted/"}],
        "partitions": [{"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": [volume]}],
    }
    template = Template.load("one_disk")
    with session.node_in_ramdisk(template, template.disks, "broken-connection") as node:
        node.ssh.put(json.dumps(wanted), INPUT)
        process = broken_while_copying(node, terminal)
        second = node.ssh.run(f"bareon-provision --actions {ACTIONS} --report /tmp/second.json", check=False)
        assert second.exit_code == 8, second
        assert f"another run works on this node: process {process} since 20" in second.stderr
        report = ended(node)
        assert (report["outcome"], report["exit_code"]) == ("done", 0), report["error"]
        assert {step["outcome"] for step in report["steps"]} == {"finished"}
        log = node.ssh.run("cat /var/log/bareon.log").stdout
        assert f"step {len(report['steps'])} of {len(report['steps'])}" in log
        node.ssh.run("mount -o ro /dev/vda2 /mnt && grep -q ^UUID= /mnt/etc/fstab")


def broken_while_copying(node: Node, terminal: bool) -> str:
    """Start a deployment, break the connection once the image is being copied, and return the process's number."""
    command = f"bareon-provision --actions {ACTIONS} --progress json"
    # The first of two values for an option is the one that ssh takes.
    program, *options, address = node.ssh.command_line()
    client = subprocess.Popen(
        [program, *OWN, *(["-tt"] if terminal else []), *options, address, command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert client.stdout
    said = []
    try:
        for line in client.stdout:
            said.append(line)
            if "Copy image" in line and '"started"' in line:
                break
        else:
            pytest.fail(f"the run ended before it copied anything: {''.join(said)}")
        process = node.ssh.run("sed -n 's/^process \\([0-9]*\\) .*/\\1/p' /run/lock/bareon.lock").stdout.strip()
    finally:
        client.kill()
        client.communicate()
    return process


def ended(node: Node) -> dict[str, Any]:
    """Wait for the end of the run, and return its report."""
    deadline = time.monotonic() + LIMIT
    while True:
        report: dict[str, Any] = json.loads(node.ssh.run(f"cat {REPORT}").stdout)
        if report["outcome"] != "running":
            return report
        assert time.monotonic() < deadline, "the run does not end"
        time.sleep(1)
