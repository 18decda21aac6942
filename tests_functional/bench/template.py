# SPDX-License-Identifier: Apache-2.0
"""Node templates: libvirt domain XML, with the disks in its metadata.

The path of the console is left empty in a template; it and the disks are filled in for each node. So is the
place of NVRAM in one that names its firmware, see :meth:`Template.with_nvram`. A template may be ``like``
another one: the same machine with disks of its own. Templates that differ in nothing but their disks share
one saved ramdisk.
"""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests_functional.bench.disk import Bus, Disk

ET.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")

TEMPLATES = Path(__file__).resolve().parents[1] / "node_templates"
_BENCH = "{urn:bareon:bench}"
_SIZE = re.compile(r"(\d+) ?(MiB|GiB)")
_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30}
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
#: Buses that take a disk while the machine runs.
HOT_PLUG = ("virtio", "scsi")


def size_in_bytes(text: str) -> int:
    """Read a disk's size, such as ``4 GiB`` or ``512 MiB``.

    :raises ValueError: for anything else
    """
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a disk size such as '4 GiB' or '512 MiB'")
    return int(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True)
class DiskSpec:
    """A disk that a node shall have; ``size`` and ``sector`` are in bytes, ``properties`` are qemu's.

    ``shared`` is the name of the disk that it is a path of, itself for the first one; see :class:`Disk` for the rest.
    """

    target: str
    bus: Bus
    serial: str
    size: int
    sector: int = 512
    properties: tuple[tuple[str, int], ...] = ()
    wwn: str = ""
    shared: str = ""
    other: int = 0

    def make(self, place: Path) -> Disk:
        """Create the disk, empty, in a directory."""
        path = place / f"{self.shared or self.target}.raw"
        hardware = (self.bus, self.serial, self.sector, self.properties, self.wwn)
        disk = Disk(path, self.target, *hardware, bool(self.shared), self.other)
        if not self.other:
            disk.make(self.size)
        return disk


class Template:
    """A kind of machine, its disks, and the shell commands that fill these, run in the ramdisk."""

    def __init__(self, name: str, xml: str) -> None:
        self.name = name
        root = ET.fromstring(xml)
        node = child(root, f"metadata/{_BENCH}node")
        self.disks = tuple(_disk(element) for element in node.findall(f"{_BENCH}disk"))
        self.before = tuple(element.text or "" for element in node.findall(f"{_BENCH}before"))
        other = node.get("like")
        self._root = Template.load(other).machine() if other else root

    @classmethod
    def load(cls, name: str) -> Template:
        """Read ``node_templates/<name>.xml``.

        :raises ValueError: when there is no such template
        """
        path = TEMPLATES / f"{name}.xml"
        if not path.is_file():
            known = ", ".join(sorted(item.stem for item in TEMPLATES.glob("*.xml")))
            raise ValueError(f"no node template {name!r}; there are: {known}")
        return cls(name, path.read_text())

    def _copied(self) -> Template:
        other = copy.copy(self)
        other._root = copy.deepcopy(self._root)
        return other

    def with_nvram(self, store: Path) -> Template:
        """Return the same machine with its NVRAM in a file of its own."""
        other = self._copied()
        child(other._root, "os/nvram").text = str(store)
        return other

    def with_clock(self, seconds: int) -> Template:
        """Return the same machine with a clock that shows this time at power on, in seconds since 1970."""
        other = self._copied()
        child(other._root, "clock").attrib.update(offset="absolute", start=str(seconds))
        return other

    def with_tpm(self, socket: Path) -> Template:
        """Return the same machine with the TPM that answers at a socket. libvirt's own would be new at each start."""
        chardev = f"socket,id=tpm,path={socket}"
        return self._with_words(
            *("-chardev", chardev, "-tpmdev", "emulator,id=tpm0,chardev=tpm"),
            *("-device", "tpm-crb,tpmdev=tpm0"),
        )

    def with_bmc(self) -> Template:
        """Return the same machine with a BMC, whose interface is KCS, as that of most servers."""
        return self._with_words("-device", "ipmi-bmc-sim,id=bmc0", "-device", "isa-ipmi-kcs,bmc=bmc0")

    def with_memory(self, mebibytes: int) -> Template:
        """Return the same machine with another amount of memory."""
        other = self._copied()
        memory = child(other._root, "memory")
        memory.set("unit", "MiB")
        memory.text = str(mebibytes)
        return other

    def _with_words(self, *words: str) -> Template:
        """Return the same machine with arguments for qemu, for what libvirt has no words."""
        other = self._copied()
        command = ET.SubElement(other._root, f"{{{QEMU}}}commandline")
        for word in words:
            ET.SubElement(command, f"{{{QEMU}}}arg", value=word)
        return other

    def with_ports(self, *ports: ET.Element, network: bool = True) -> Template:
        """Return the same machine with more network ports, or, without ``network``, with these alone.

        The first one has no hardware address then: it is the node's own.
        """
        other = self._copied()
        devices = child(other._root, "devices")
        if not network:
            devices.remove(child(devices, "interface"))
        devices.extend(ports)
        return other

    def machine(self) -> ET.Element:
        """Return the domain without disks; the caller may change it."""
        root = copy.deepcopy(self._root)
        for element in root.findall("metadata"):
            root.remove(element)
        return root


def _disk(element: ET.Element) -> DiskSpec:
    text = element.attrib
    bus: Bus = text["bus"]  # type: ignore[assignment]
    sector = int(text.get("sector", 512))
    return DiskSpec(text["target"], bus, text["serial"], size_in_bytes(text["size"]), sector)


def child(element: ET.Element, path: str) -> ET.Element:
    """Return the first element at ``path``.

    :raises ValueError: when there is none
    """
    found = element.find(path)
    if found is None:
        raise ValueError(f"<{element.tag}> has no {path}")
    return found


def disk_element(disk: Disk) -> ET.Element:
    """Return libvirt's description of a disk, for a domain or to be plugged into a running one."""
    element = ET.Element("disk", type="file", device="disk")
    ET.SubElement(element, "driver", name="qemu", type="raw", cache="writeback", discard="unmap")
    ET.SubElement(element, "source", file=str(disk.path))
    ET.SubElement(element, "target", dev=disk.target, bus=disk.bus)
    if disk.sector != 512:
        size = str(disk.sector)
        ET.SubElement(element, "blockio", logical_block_size=size, physical_block_size=size)
    ET.SubElement(element, "serial").text = disk.serial
    if disk.wwn:
        ET.SubElement(element, "wwn").text = disk.wwn
    if disk.shared:
        ET.SubElement(element, "shareable")
        place: dict[str, str] = {"controller": str(disk.other), "bus": "0", "target": "0", "unit": "0"}
        ET.SubElement(element, "address", {"type": "drive", **place})
    if disk.properties:
        ET.SubElement(element, "alias", name=_alias(disk))
    return element


def _alias(disk: Disk) -> str:
    return f"ua-{disk.target}"


def override_element(disks: Sequence[Disk]) -> ET.Element:
    """Return the properties of disks that libvirt has no words for, for a domain."""
    element = ET.Element(f"{{{QEMU}}}override")
    for disk in disks:
        if disk.properties:
            device = ET.SubElement(element, f"{{{QEMU}}}device", alias=_alias(disk))
            frontend = ET.SubElement(device, f"{{{QEMU}}}frontend")
            for name, value in disk.properties:
                ET.SubElement(frontend, f"{{{QEMU}}}property", name=name, type="unsigned", value=str(value))
    return element


def cable(here: int, there: int, mac: str = "") -> ET.Element:
    """Return a port that is joined with one of another machine by nothing between them, not even a bridge.

    :param here: a UDP port of this machine, with which the port at the other end is joined
    :param there: that of the other end
    :param mac: the hardware address; without one it is the node's own
    """
    element = ET.Element("interface", type="udp")
    if mac:
        ET.SubElement(element, "mac", address=mac)
    source = ET.SubElement(element, "source", address="127.0.0.1", port=str(there))
    ET.SubElement(source, "local", address="127.0.0.1", port=str(here))
    # LACP leaves out a port whose speed and duplex nobody knows, and virtio has none; e1000e tells no machine that a
    # cable was pulled.
    ET.SubElement(element, "model", type="e1000")
    return element


def bridged(bridge: str) -> ET.Element:
    """Return a port at a bridge of the cell, with the node's own hardware address."""
    element = ET.Element("interface", type="bridge")
    ET.SubElement(element, "source", bridge=bridge)
    ET.SubElement(element, "model", type="virtio")
    return element


def nvme_element(disks: Sequence[Disk]) -> ET.Element:
    """Return NVMe disks as arguments for qemu; this libvirt has no NVMe controller of its own."""
    element = ET.Element(f"{{{QEMU}}}commandline")
    for number, disk in enumerate(disks):
        drive = f"file={disk.path},if=none,id=nvme{number},format=raw,cache=writeback"
        # Slots that libvirt does not reach with what a template has.
        device = f"nvme,drive=nvme{number},serial={disk.serial},bus=pcie.0,addr={16 + number:#x}"
        if disk.sector != 512:
            device += f",logical_block_size={disk.sector},physical_block_size={disk.sector}"
        device += "".join(f",{name}={value}" for name, value in disk.properties)
        for word in ("-drive", drive, "-device", device):
            ET.SubElement(element, f"{{{QEMU}}}arg", value=word)
    return element
