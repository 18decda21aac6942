# SPDX-License-Identifier: Apache-2.0
"""The ramdisk on a machine with a processor of ARM, and a disk from which such a machine starts by UEFI."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests_functional.bench.node import KERNEL_PARAMETERS, Boot, Node
from tests_functional.bench.rsyncd import Module, RsyncServer
from tests_functional.bench.session import Session
from tests_functional.bench.template import Template

#: Seconds to SSH, and for a deployment; several times what was measured on a busy machine.
LIMIT = 900.0
PARAMETERS = KERNEL_PARAMETERS.replace("ttyS0", "ttyAMA0")
#: The port of a server for the image of this module.
PORT = 8730
INPUT = "/tmp/provision.json"
ACTIONS = "do_partitioning,do_copyimage,do_bootloader"

pytestmark = [
    pytest.mark.architecture("arm64"),
    pytest.mark.thorough("a processor of ARM is emulated; nothing else shows that its ramdisk boots"),
]


@contextmanager
def started(session: Session, name: str) -> Iterator[Node]:
    """Give a machine that runs its ramdisk, which the firmware starts with what the hypervisor hands it."""
    disk = session.products.foreign["arm64"]
    template = Template.load("arm64")
    node = session.node(template)
    node.make_disks(template.disks)
    with session.explained(node, name):
        begun = time.monotonic()
        node.power_on(Boot(disk.kernel, disk.initramfs, PARAMETERS))
        node.ssh.wait(LIMIT)
        session.strategy.report(f"{name}: SSH {time.monotonic() - begun:.1f} s after power on")
        yield node


def test_boots(session: Session) -> None:
    """It answers with the facts of the node, which it is told by UEFI and by the devices themselves."""
    with started(session, "arm64") as node:
        assert session.products.ramdisk.version in node.ssh.run("bareon-provision --version", timeout=LIMIT).stdout
        facts = _facts(node)
        assert (facts["hardware"]["architecture"], facts["firmware"], facts["firmware_bits"]) == (
            "aarch64",
            "uefi",
            64,
        )
        assert [disk["serial"] for disk in facts["disks"]] == [disk.serial for disk in node.disks]
        assert [port["mac"] for port in facts["hardware"]["ports"]] == [node.port.mac]


def _facts(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.ssh.run("bareon-provision --dump_node_facts", timeout=LIMIT).stdout)
    return found


def image(session: Session, place: Path) -> Path:
    """Make a system that is no more than its kernel and its initramfs: those of the ramdisk, which answer by SSH."""
    disk = session.products.foreign["arm64"]
    for name in ("boot", "etc", "sbin", "proc", "sys", "dev", "run", "tmp"):
        (place / name).mkdir(parents=True)
    shutil.copyfile(disk.kernel, place / "boot/vmlinuz-6.1.0")
    shutil.copyfile(disk.initramfs, place / "boot/initrd.img-6.1.0")
    (place / "etc/os-release").write_text("ID=debian\nVERSION_ID=12\n")
    (place / "sbin/init").write_text("#!/bin/sh\n")
    (place / "sbin/init").chmod(0o755)
    return place


def test_starts_from_its_disk(session: Session, tmp_path: Path) -> None:
    """Bareon's GRUB is what firmware starts that knows nothing of the disk, and it starts the image's kernel."""
    with started(session, "arm64-disk") as node:
        server = RsyncServer(tmp_path / "rsyncd", {"kernel": Module(image(session, tmp_path / "image"))}, port=PORT)
        server.start()
        try:
            node.ssh.put(json.dumps(deployment(f"{server.url}/kernel/")), INPUT)
            words = "--image_programs none --progress plain"
            node.ssh.run(f"bareon-provision --actions {ACTIONS} {words}", timeout=LIMIT)
        finally:
            server.stop()
        listed = node.ssh.run("mount -o ro /dev/vda1 /mnt && cd /mnt && find EFI -type f; cd /; umount /mnt").stdout
        assert "EFI/BOOT/BOOTAA64.EFI" in listed.splitlines()
        begun = time.monotonic()
        node.power_off()
        node.power_on()
        node.ssh.wait(LIMIT)
        session.strategy.report(f"arm64: SSH {time.monotonic() - begun:.1f} s after power on, from its disk")
        assert "BOOT_IMAGE=/boot/vmlinuz-6.1.0" in node.ssh.run("cat /proc/cmdline").stdout
        assert _facts(node)["firmware"] == "uefi"


def deployment(url: str) -> dict[str, Any]:
    volume = {"type": "partition", "mount": "/", "file_system": "ext4", "size": "remaining"}
    return {
        "partitions_policy": "clean",
        "images": [{"name": "kernel", "image_pull_url": url}],
        "partitions": [{"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": [volume]}],
    }
