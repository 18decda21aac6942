# SPDX-License-Identifier: Apache-2.0
"""A virtual node: power, disks, console."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from building.process import ProgramError
from tests_functional.bench import accelerator
from tests_functional.bench.disk import Disk
from tests_functional.bench.hypervisor import Hypervisor, port
from tests_functional.bench.ssh import Ssh
from tests_functional.bench.template import (
    DiskSpec,
    Template,
    child,
    disk_element,
    nvme_element,
    override_element,
)

#: Kernel parameters of a ramdisk: messages to the serial console, which is kept. Nobody attacks an emulated machine,
#: and the ways around a processor's weaknesses take time.
KERNEL_PARAMETERS = "console=ttyS0,115200 loglevel=5 panic=10 mitigations=off"
#: Lines of the console that an error shows.
CONSOLE_TAIL = 25


@dataclass(frozen=True)
class Boot:
    """A kernel and initramfs that the hypervisor loads, as a network boot would."""

    kernel: Path
    initramfs: Path
    parameters: str = KERNEL_PARAMETERS


class Node:
    """One machine; its files are in a directory of its own."""

    def __init__(
        self, hypervisor: Hypervisor, template: Template, place: Path, key: Path, *, number: int = 0
    ) -> None:
        self.hypervisor = hypervisor
        self.template = template
        self.place = place
        self.name = f"node{number}"
        self.port = port(number)
        self.console = place / "console.log"
        self.disks: list[Disk] = []
        place.mkdir(parents=True, exist_ok=True)
        self.ssh = Ssh(self.port.address, key)

    def make_disks(self, specs: Sequence[DiskSpec]) -> None:
        """Give the node new, empty disks; they are attached when it is next powered on."""
        self.disks = [spec.make(self.place) for spec in specs]

    def copy_disks(self, place: Path) -> Path:
        """Copy the disks of a running machine into a directory, while it stands still, and return the directory.

        They are as a power cut would leave them, with every write done that the guest has asked its disks for.
        """
        place.mkdir(exist_ok=True)
        self.hypervisor.virsh("suspend", self.name)
        try:
            for disk in self.disks:
                disk.copy(place)
        finally:
            self.hypervisor.virsh("resume", self.name)
        return place

    def drop_disks(self) -> None:
        """Delete the disks of a node that is off."""
        for disk in self.disks:
            disk.path.unlink(missing_ok=True)
        self.disks = []

    def disk(self, target: str) -> Disk:
        """Return the disk of that name.

        :raises ValueError: when the node has none
        """
        for disk in self.disks:
            if disk.target == target:
                return disk
        raise ValueError(f"{self.name} has no disk {target!r}")

    def xml(
        self, boot: Boot | None, *, disks: bool = True, without: Sequence[str] = (), ordered: bool = False
    ) -> str:
        """Return the domain's description: from ``boot``, or from the first disk that can.

        ``without`` are the names of disks that are taken out of it. ``ordered`` names the disks to the firmware one
        by one, as it shows a boot loader no others.
        """
        there = [disk for disk in self.disks if disk.target not in without]
        root = self.template.machine()
        child(root, "name").text = self.name
        system = child(root, "os")
        if boot is not None:
            for tag, text in (
                ("kernel", str(boot.kernel)),
                ("initrd", str(boot.initramfs)),
                ("cmdline", boot.parameters),
            ):
                ET.SubElement(system, tag).text = text
        devices = child(root, "devices")
        if disks:
            for number in sorted({disk.other for disk in there} - {0}):
                ET.SubElement(devices, "controller", type="scsi", index=str(number), model="virtio-scsi")
            elements = [disk_element(disk) for disk in there if disk.bus != "nvme"]
            devices.extend(elements)
            if boot is None and ordered:
                _order(system, elements)
            root.append(nvme_element([disk for disk in there if disk.bus == "nvme"]))
            root.append(override_element([disk for disk in there if disk.bus != "nvme"]))
        ET.SubElement(child(devices, "interface"), "mac", address=self.port.mac)
        child(devices, "serial/source").set("path", str(self.console))
        accelerator.apply(self.hypervisor.accelerator, root)
        return ET.tostring(root, encoding="unicode")

    def power_on(self, boot: Boot | None = None, *, without: Sequence[str] = ()) -> None:
        """Start the machine with its disks, those ``without`` left out."""
        self._create(self.xml(boot, without=without, ordered=True))

    def power_on_without_disks(self, boot: Boot) -> None:
        """Start the machine as it is before its disks are plugged in."""
        self._create(self.xml(boot, disks=False))

    def _create(self, xml: str) -> None:
        path = self.place / "domain.xml"
        path.write_text(xml)
        self.hypervisor.virsh("create", path)

    def define(self) -> str:
        """Have libvirt know the machine while it is off, so that somebody else can power it on; return its UUID."""
        path = self.place / "domain.xml"
        path.write_text(self.xml(None))
        self.hypervisor.virsh("define", path)
        return self.hypervisor.virsh("domuuid", self.name).strip()

    def boots_from(self) -> list[str]:
        """Return from which disks and interfaces a defined machine boots, in their order, and what lies in drives.

        Each is the name of its device, such as ``vda``; an interface is ``network``, a drive ``cdrom``.
        """
        root = ET.fromstring(self.hypervisor.virsh("dumpxml", "--inactive", self.name))
        found: list[tuple[int, str]] = []
        for element in (*root.findall("devices/disk"), *root.findall("devices/interface")):
            boot, target = element.find("boot"), element.find("target")
            disk = element.get("device") == "disk" and target is not None
            name = str(target.get("dev")) if disk and target is not None else element.get("device") or "network"
            if boot is not None or name == "cdrom":
                found.append((int(boot.get("order", 0)) if boot is not None else 99, name))
        return [name for _, name in sorted(found)]

    def undefine(self) -> None:
        """Cut the power of a machine that was defined, and have libvirt forget it, unless that was done before."""
        if self.name in self.hypervisor.virsh("list", "--name").split():
            self.hypervisor.virsh("destroy", self.name)
        if self.running():
            self.hypervisor.virsh("undefine", "--nvram", self.name)
        self.ssh.forget()

    def power_off(self) -> None:
        """Cut the power: what the guest had not written to its disks is lost."""
        if self.running():
            self.hypervisor.virsh("destroy", self.name)
        self.ssh.forget()

    def running(self) -> bool:
        """Tell whether the machine exists at all, running or paused."""
        return self.name in self.hypervisor.virsh("list", "--all", "--name").split()

    def save(self, path: Path) -> None:
        """Write the machine's state to a file; it does not run after this."""
        self.ssh.forget()
        self.hypervisor.virsh("save", self.name, path, timeout=120)

    def restore(self, path: Path) -> None:
        """Continue from a saved state, which stays good for further use.

        The console starts anew: what the node said until it was saved is the same each time.
        """
        self.console.write_text("")
        self.hypervisor.virsh("restore", path, timeout=120)

    def plug(self, disk: Disk) -> None:
        """Add a disk to the running machine.

        :raises ProgramError: when the bus does not allow it
        """
        path = self.place / f"{disk.target}.xml"
        path.write_text(ET.tostring(disk_element(disk), encoding="unicode"))
        self.hypervisor.virsh("attach-device", self.name, path, "--live")

    def wait_off(self, seconds: float) -> None:
        """Wait until the machine has powered itself off.

        :raises NodeTimeoutError: after that many seconds
        """
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                raise NodeTimeoutError(self, f"did not power off within {seconds:g} s")
            time.sleep(0.3)

    def console_text(self) -> str:
        """Return all that the console has said; nothing before it was opened."""
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def console_tail(self) -> str:
        """Return the last lines of the console."""
        try:
            lines = self.console.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(no console output)"
        return "\n".join(lines[-CONSOLE_TAIL:])

    def live_xml(self) -> str:
        """Return libvirt's description of the running machine, or why there is none."""
        try:
            return self.hypervisor.virsh("dumpxml", self.name)
        except ProgramError as error:
            return str(error)


def _order(system: ET.Element, disks: Sequence[ET.Element]) -> None:
    """Have a machine try its disks one by one, where its template only says that it boots from a disk."""
    found = system.findall("boot")
    if [element.get("dev") for element in found] != ["hd"]:
        return
    system.remove(found[0])
    for number, disk in enumerate(disks, 1):
        ET.SubElement(disk, "boot", order=str(number))


class NodeTimeoutError(Exception):
    """A node did not do something in time; the message ends with its console."""

    def __init__(self, node: Node, what: str) -> None:
        super().__init__(f"{node.name} {what}; its console ends:\n{node.console_tail()}")
