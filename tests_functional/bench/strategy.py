# SPDX-License-Identifier: Apache-2.0
"""Takes a node from off to the ramdisk and on to the deployed system, each step in bounded time.

Booting the ramdisk takes some 20 s under emulation, so it is done once: the booted machine, without
disks, is saved, and each case continues from there with its own disks plugged in. Machines whose
disks cannot be plugged in (SATA) boot afresh.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from building.cache import Report
from tests_functional.bench.disk import Disk
from tests_functional.bench.node import Boot, Node, NodeTimeoutError
from tests_functional.bench.ssh import UnreachableError
from tests_functional.bench.template import HOT_PLUG

#: Seconds allowed for each step, several times what was measured under emulation.
RAMDISK_LIMIT = 240.0
RESTORE_LIMIT = 60.0
DISK_LIMIT = 60.0
DEPLOYED_LIMIT = 300.0
#: Times that a machine is started again whose kernel has named its disks in another order.
RESTARTS = 3
#: Before saving, so that no case has to wait for drivers that every one needs.
PREPARE = "modprobe -a virtio_blk sd_mod virtio_scsi ext4 xfs btrfs vfat nls_ascii nls_cp437"
#: Prints "name serial" for each disk, once udev is done with all of them.
LIST_DISKS = "udevadm settle --timeout=20; lsblk --nodeps --noheadings --output NAME,SERIAL"


class Strategy:
    """The ways of one session's nodes; ``place`` holds the saved machines."""

    def __init__(self, boot: Boot, place: Path, report: Report) -> None:
        self.boot = boot
        self.place = place
        self.report = report
        self._saved: dict[str, Path] = {}

    def ramdisk(self, node: Node) -> None:
        """Bring a node that is off into the ramdisk, with its disks.

        :raises NodeTimeoutError: when a step takes too long
        """
        # libvirt hands on properties at the start alone, and paths appear all at once where there is a controller.
        if all(disk.bus in HOT_PLUG and not (disk.properties or disk.shared) for disk in node.disks):
            self._restored(node)
            return
        self._started(node)
        for _ in range(RESTARTS):
            if not _renamed(node):
                break
            node.power_off()
            self._started(node)
        for disk in node.disks:
            _wait_disk(node, disk)

    def _started(self, node: Node) -> None:
        node.power_on(self.boot)
        _wait_ssh(node, "the ramdisk", RAMDISK_LIMIT)

    def _restored(self, node: Node) -> None:
        saved = self._saved.get(node.xml(self.boot, disks=False))
        if saved is None:
            saved = self._save(node)
        node.restore(saved)
        _wait_ssh(node, "the restored ramdisk", RESTORE_LIMIT)
        # The guest's clock stood still since it was saved.
        node.ssh.run(f"date --utc --set=@{time.time():.3f}")
        for disk in node.disks:
            # One after the other: of two that appear at once, the second may become vda.
            node.plug(disk)
            _wait_disk(node, disk)

    def _save(self, node: Node) -> Path:
        started = time.monotonic()
        node.power_on_without_disks(self.boot)
        _wait_ssh(node, "the ramdisk", RAMDISK_LIMIT)
        booted = time.monotonic() - started
        node.ssh.run(PREPARE)
        path = self.place / f"ramdisk-{len(self._saved)}.save"
        node.save(path)
        total = time.monotonic() - started
        self.report(f"ramdisk: SSH {booted:.1f} s after power on; saved after {total:.1f} s")
        self._saved[node.xml(self.boot, disks=False)] = path
        return path

    def deployed(self, node: Node, without: Sequence[str] = ()) -> float:
        """Restart a node from its own disks, some left out, and wait for the system on them; return the seconds.

        The power is cut, as a conductor does it: what bareon has not brought to the disks by the
        end of its run is lost.

        :raises NodeTimeoutError: when the system does not answer in time
        """
        node.power_off()
        started = time.monotonic()
        node.power_on(without=without)
        _wait_ssh(node, "the deployed system", DEPLOYED_LIMIT)
        return time.monotonic() - started


def _wait_ssh(node: Node, what: str, seconds: float) -> None:
    try:
        node.ssh.wait(seconds)
    except UnreachableError as error:
        raise NodeTimeoutError(node, f"has no SSH in {what}: {error}") from error


def _renamed(node: Node) -> bool:
    """Whether a disk has another name than the case expects: a busy kernel sees the ports of SATA in any order."""
    found = {tuple(line.split()) for line in node.ssh.run(LIST_DISKS).stdout.splitlines()}
    serials = {words[-1] for words in found}
    return any(disk.serial in serials and (disk.target, disk.serial) not in found for disk in node.disks)


def _wait_disk(node: Node, disk: Disk) -> None:
    """Wait until the ramdisk shows a disk under the name that the case expects."""
    wanted = f"{disk.target} {disk.serial}".strip()
    deadline = time.monotonic() + DISK_LIMIT
    while True:
        lines = node.ssh.run(LIST_DISKS).stdout.splitlines()
        found = [" ".join(line.split()) for line in lines]
        if wanted in found:
            return
        if time.monotonic() > deadline:
            raise NodeTimeoutError(node, f"does not show {wanted} within {DISK_LIMIT:g} s, only {found}")
        time.sleep(0.05)
