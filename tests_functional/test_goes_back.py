# SPDX-License-Identifier: Apache-2.0
"""An image that was started once and does not come up, or ails: the node is back in the old one, with nobody there.

One deployment of two images; the second one is broken in one way after the other, and mended again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from building.process import ProgramError
from tests_functional.bench.case import machine
from tests_functional.bench.node import Node
from tests_functional.bench.session import Session
from tests_functional.bench.ssh import UnreachableError

INPUT = "/tmp/provision.json"
LIMIT = 600.0
COMMAND = (
    "bareon-provision --progress plain --deploy_driver rsync --actions do_partitioning,do_copyimage,do_bootloader"
)
OLD, NEW = 0, 1
#: Commands in the second image, from the first one.
IN_NEW = "set -e; mount /dev/vda4 /mnt; cd /mnt; {}; cd /; umount /mnt"
KEEP = "for x in {0}; do mv $x $x.kept; done"
MEND = "for x in $(find . -maxdepth 3 -name '*.kept'); do rm -rf ${x%.kept}; mv $x ${x%.kept}; done"


@dataclass(frozen=True)
class Broken:
    """A way to break an image: commands, which leave what was there as NAME.kept."""

    name: str
    how: str


WAYS = (
    # Without a shell either: initramfs-tools and the kernel start one in the place of init.
    Broken("there is no init", KEEP.format("usr") + "; mkdir usr"),
    Broken(
        "the kernel panics, without its root",
        KEEP.format("boot/initrd.img-*") + "; for x in boot/initrd*.kept; do head -c 65536 $x > ${x%.kept}; done",
    ),
    Broken("the kernel cannot be loaded", KEEP.format("boot/vmlinuz-*")),
    Broken(
        "it ends in emergency mode",
        "cp etc/fstab etc/fstab.kept; echo UUID=11111111-2222-3333-4444-555555555555 /gone ext4 "
        "x-systemd.device-timeout=5s 0 2 >> etc/fstab",
    ),
    Broken(
        "its services ail",
        "mkdir -p etc/bareon; touch etc/bareon/health.kept; printf '#!/bin/sh\\nexit 1\\n' > etc/bareon/health; "
        "chmod +x etc/bareon/health",
    ),
)


def document() -> str:
    """Two images, a partition each."""
    volume = {"type": "partition", "mount": "/", "size": "1800 MiB", "file_system": "ext4"}
    images = [("old", True), ("new", False)]
    return json.dumps(
        {
            "partitions_policy": "clean",
            "deploy_data": {"kernel_params": "console=ttyS0"},
            "partitions": [
                {
                    "type": "disk",
                    "id": {"type": "name", "value": "vda"},
                    "volumes": [{**volume, "images": [name]} for name, _ in images],
                }
            ],
            "images": [{"name": name, "boot": boot, "image_pull_url": "URL"} for name, boot in images],
        }
    )


@pytest.mark.long
@pytest.mark.thorough("nine starts of a deployed system; test_boot_status.py has the decisions")
def test_an_image_that_does_not_come_up_is_left_again(
    session: Session, record_property: Callable[[str, object], None]
) -> None:
    template, disks = machine("one_disk")
    with session.node_in_ramdisk(template, disks, "goes-back") as node:
        node.ssh.put(document().replace("URL", f"{session.rsync.url}/debian12/"), INPUT)
        node.ssh.run(f"{COMMAND} --input_data_file {INPUT}", timeout=LIMIT)
        session.strategy.deployed(node)
        assert status(node)["running"] == OLD
        plain = restart(node)
        record_property("a plain restart", f"{plain:.1f} s")
        node.ssh.run("bareon-boot switch --once --within 9 new")
        record_property("a restart into the new image", f"{restart(node):.1f} s")
        assert status(node)["running"] == NEW
        node.ssh.run("bareon-boot confirm && bareon-boot switch old")
        restart(node)
        for way in WAYS:
            node.ssh.run(IN_NEW.format(way.how))
            node.ssh.run("bareon-boot switch --once --within 1 new")
            seconds = came_back(node)
            record_property(f"back from the new image: {way.name}", f"{seconds:.1f} s")
            found = status(node)
            assert (found["running"], found["default"], found["next"], found["failed"]) == (OLD, OLD, None, NEW), way
            node.ssh.run(IN_NEW.format(MEND))
        # Mended, it comes up and stays.
        node.ssh.run("bareon-boot switch --once --within 9 new")
        restart(node)
        assert status(node)["running"] == NEW


def status(node: Node) -> dict[str, object]:
    """What bareon-boot says on the node."""
    found = json.loads(node.ssh.run("bareon-boot status --json").stdout)
    assert isinstance(found, dict)
    return found


def start_of(node: Node) -> str:
    """What the kernel calls its present run."""
    return node.ssh.run("cat /proc/sys/kernel/random/boot_id", timeout=15).stdout


def restart(node: Node) -> float:
    """Restart a node; return the seconds until the next system answers."""
    before = start_of(node)
    started = time.monotonic()
    node.ssh.run("systemctl reboot", check=False)
    return waited(node, started, lambda: start_of(node) != before)


def came_back(node: Node) -> float:
    """Restart a node, and wait until the old image runs again; the new one may answer meanwhile."""
    before = start_of(node)
    started = time.monotonic()
    node.ssh.run("systemctl reboot", check=False)

    def back() -> bool:
        return start_of(node) != before and status(node)["running"] == OLD

    return waited(node, started, back)


def waited(node: Node, started: float, true: Callable[[], bool]) -> float:
    """Wait for something that is true of the node; return the seconds since it ``started``."""
    while True:
        node.ssh.forget()
        try:
            if true():
                return time.monotonic() - started
        except (UnreachableError, ProgramError, ValueError, AssertionError) as error:
            last: Exception = error
        else:
            last = AssertionError("it is not so yet")
        if time.monotonic() > started + LIMIT:
            raise last
        time.sleep(1)
