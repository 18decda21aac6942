# SPDX-License-Identifier: Apache-2.0
"""Actions one by one, each in a process of its own, against one run; and the actions and drivers of a package."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from building import wheel
from building.process import run
from tests_functional.bench.node import Node
from tests_functional.bench.session import Session
from tests_functional.bench.ssh import UnreachableError
from tests_functional.bench.template import Template

INPUT = "/tmp/provision.json"
EXAMPLE = wheel.CHECKOUT / "examples/bareon-example"
STAGES = ("bareon-partition", "bareon-configdrive", "bareon-copyimage", "bareon-bootloader")
ACTIONS = "do_partitioning,do_configdrive,do_copyimage,do_bootloader"
LIMIT = 600.0
LISTING = Path(__file__).with_name("node_listing.py")
#: Mounts what was deployed, the way the listing wants it: each file system by itself.
MOUNT = (
    "mkdir -p /l/root /l/home /l/configdrive; mount -o ro /dev/vda2 /l/root;"
    " mount -o ro /dev/data/home /l/home; mount -o ro /dev/vda3 /l/configdrive"
)
UNMOUNT = "umount /l/root /l/home /l/configdrive; rm -r /l"
#: GRUB's image holds the UUID of its file system, compressed.
MADE_BY_GRUB = "boot/grub/i386-pc/core.img"


def deployment(url: str) -> dict[str, Any]:
    """Return an input with everything that the actions hand on to each other: LVM, swap, a configdrive."""
    return {
        "partitions_policy": "clean",
        "images": [{"name": "cloud", "image_pull_url": f"{url}/cloud/"}],
        "configdrive": {
            "meta_data": {"hostname": "staged", "public_keys": {"bob": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 bob"}},
            "user_data": "#!/bin/sh\nhostname > /root/proof\n",
        },
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": "vda"},
                "volumes": [{"type": "partition", "mount": "/", "file_system": "ext4", "size": "remaining"}],
            },
            {
                "type": "disk",
                "id": {"type": "name", "value": "vdb"},
                "volumes": [{"type": "pv", "vg": "data", "size": "remaining"}],
            },
            {
                "type": "vg",
                "id": "data",
                "volumes": [
                    {"type": "lv", "name": "swap", "mount": "swap", "size": "128 MiB"},
                    {"type": "lv", "name": "home", "mount": "/home", "size": "remaining"},
                ],
            },
        ],
    }


@pytest.mark.long
@pytest.mark.thorough("many cases run some actions alone; this compares all of them with one run, and boots twice")
def test_stages_are_one_run(session: Session) -> None:
    template = Template.load("two_disks")
    text = json.dumps(deployment(session.rsync.url))
    with session.node_in_ramdisk(template, template.disks, "stages-one-run") as node:
        node.ssh.put(text, INPUT)
        node.ssh.run(f"bareon-provision --actions {ACTIONS} --progress plain", timeout=LIMIT)
        whole = listing(node)
    with session.node_in_ramdisk(template, template.disks, "stages") as node:
        node.ssh.put(text, INPUT)
        refused = node.ssh.run("bareon-copyimage --progress none", timeout=LIMIT, check=False)
        assert (refused.exit_code, "Traceback" in refused.stderr) == (5, False), refused
        for command in STAGES:
            node.ssh.run(f"{command} --progress plain", timeout=LIMIT)
        compare(listing(node), whole)
        restarted(node)
        session.strategy.deployed(node)
        configured(node)


def listing(node: Node) -> dict[str, Any]:
    """Return what is on a node's disks, by a program that is not bareon's."""
    node.ssh.run(MOUNT)
    command = "python3 - /l/root /l/home /l/configdrive"
    found: dict[str, Any] = json.loads(node.ssh.run(command, timeout=LIMIT, stdin=LISTING.read_text()).stdout)
    node.ssh.run(UNMOUNT)
    return found


def compare(staged: dict[str, Any], whole: dict[str, Any]) -> None:
    """Find every difference between two listings."""
    assert staged["disks"] == whole["disks"]
    count = 0
    for place, files in whole["files"].items():
        others = staged["files"][place]
        assert sorted(others) == sorted(files), sorted(set(others) ^ set(files))
        different = {path: (others[path], files[path]) for path in files if others[path] != files[path]}
        different.pop(MADE_BY_GRUB, None)
        assert not different
        count += len(files)
    assert count > 5000
    assert "openstack/latest/meta_data.json" in whole["files"]["/l/configdrive"]


def restarted(node: Node) -> None:
    """Have ``bareon-reboot`` end the ramdisk, and see another start."""
    booted = node.ssh.run("cat /proc/sys/kernel/random/boot_id").stdout
    try:
        done = node.ssh.run("bareon-reboot --progress plain", timeout=60, check=False)
        assert done.exit_code == 0, done
    except UnreachableError:
        pass  # it was quicker than the end of the connection
    node.ssh.wait(240)
    assert node.ssh.run("cat /proc/sys/kernel/random/boot_id").stdout != booted


def configured(node: Node) -> None:
    """Look for what cloud-init had to do, from inside the deployed system."""
    status = node.ssh.run("cloud-init status --wait --long", timeout=300, check=False)
    assert "status: done" in status.stdout, status
    assert node.ssh.run("hostname; cat /root/proof").stdout == "staged\nstaged\n"
    assert node.ssh.run("cat /home/debian/.ssh/authorized_keys").stdout.endswith(" bob\n")
    assert node.ssh.run("findmnt --noheadings --output SOURCE /home").stdout.strip() == "/dev/mapper/data-home"
    running = node.ssh.run("systemctl is-system-running --wait || systemctl --failed", timeout=120).stdout
    assert running == "running\n"


def test_a_package_brings_an_action_and_drivers(session: Session) -> None:
    template = Template.load("one_disk")
    with session.node_in_ramdisk(template, template.disks, "package") as node:
        install(node)
        node.ssh.run("mkdir -p /srv/system/etc && echo bareon > /srv/system/etc/hostname")
        node.ssh.put('disk = "vda"\nimage = "file:///srv/system"\n', INPUT)
        actions = "do_partitioning,do_copyimage,do_message"
        drivers = "--data_driver short --deploy_driver folder"
        command = f"bareon-provision {drivers} --actions {actions} --progress plain"
        said = node.ssh.run(command, timeout=LIMIT).stdout
        assert "Write /etc/motd of image 'system'" in said
        node.ssh.run("mount /dev/vda2 /mnt")
        assert node.ssh.run("cat /mnt/etc/hostname /mnt/etc/motd").stdout == (
            "bareon\nThis is system, deployed by bareon.\n"
        )


def install(node: Node) -> None:
    """Install the example into the ramdisk, as a ramdisk of one's own would have it."""
    with tempfile.TemporaryDirectory(prefix="bareon-example-") as place:
        source = Path(place) / "source"
        run(["cp", "-r", EXAMPLE, source], timeout=30)
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        run([*pip, "--wheel-dir", place, source], timeout=120)
        tree = Path(place) / "tree"
        wheel.install_into(tree, Path(place).glob("*.whl"))
        packed = subprocess.run(["tar", "-C", tree, "-cz", "."], check=True, capture_output=True).stdout
        node.ssh.run("base64 -d | tar -C / -xz", stdin=base64.b64encode(packed).decode())
