# SPDX-License-Identifier: Apache-2.0
"""The ramdisk as operators have it: from a CD drive, a USB stick, or the network, and never by the hypervisor."""

from __future__ import annotations

import functools
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ramdisk import outputs
from tests_functional.bench.hypervisor import NETWORK_BOOT_PORT, SERVER
from tests_functional.bench.node import Node
from tests_functional.bench.template import child

#: What comes by the network, by iPXE or by UEFI's own HTTP boot.
NETWORK = ("ipxe", "http")
#: Firmware would try these first, and waits two minutes and a half until nobody has answered; OvmfPkg of EDK II.
_NO_PXE = ("opt/org.tianocore/IPv4PXESupport", "opt/org.tianocore/IPv6PXESupport")


@dataclass(frozen=True)
class Medium:
    """What a firmware finds: files of :func:`ramdisk.outputs.write` as ``cd``, ``usb`` stick, ``ipxe``, or ``http``.

    By ``http`` it fetches the ISO itself (UEFI HTTP boot).
    """

    made: Path
    kind: str

    def put_in(self, root: ET.Element) -> None:
        """Have a domain look at it before its disks."""
        devices = child(root, "devices")
        for element in child(root, "os").findall("boot"):
            child(root, "os").remove(element)
        for element in devices.findall("disk/boot"):
            element.set("order", str(int(element.get("order", "1")) + 1))
        place = child(devices, "interface") if self.kind in NETWORK else self._drive(devices)
        ET.SubElement(place, "boot", order="1")
        if self.kind == "http":
            ET.SubElement(place, "rom", enabled="no")  # iPXE, which would take the port from the firmware
            settings = ET.SubElement(root, "sysinfo", type="fwcfg")
            for name in _NO_PXE:
                ET.SubElement(settings, "entry", name=name).text = "n"

    def _drive(self, devices: ET.Element) -> ET.Element:
        for controller in devices.findall("controller[@type='usb']"):
            devices.remove(controller)
        ET.SubElement(devices, "controller", type="usb", model="qemu-xhci")
        device, bus, name = ("cdrom", "sata", "sdz") if self.kind == "cd" else ("disk", "usb", "sdy")
        disk = ET.SubElement(devices, "disk", type="file", device=device)
        ET.SubElement(disk, "driver", name="qemu", type="raw")
        ET.SubElement(disk, "source", file=str(self.made / outputs.ISO))
        ET.SubElement(disk, "target", dev=name, bus=bus)
        return disk

    @contextmanager
    def served(self) -> Iterator[None]:
        """Answer who boots from the network for as long as this runs; a drive needs nobody."""
        if self.kind not in NETWORK:
            yield
            return
        handler = functools.partial(_Handler, directory=str(self.made))
        with ThreadingHTTPServer((SERVER, NETWORK_BOOT_PORT), handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            try:
                yield
            finally:
                server.shutdown()


class _Handler(SimpleHTTPRequestHandler):
    def translate_path(self, path: str) -> str:
        # What the bench's DHCP server names.
        named = {"/boot.ipxe": f"/{outputs.IPXE}", "/boot.iso": f"/{outputs.ISO}"}
        return super().translate_path(named.get(path, path))

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Started(Node):
    """A node that its firmware starts from a medium, or from its disks once ``medium`` is none."""

    medium: Medium | None = None

    def xml(self, *args: Any, **words: Any) -> str:
        root = ET.fromstring(super().xml(*args, **words))
        if self.medium:
            self.medium.put_in(root)
        return ET.tostring(root, encoding="unicode")
