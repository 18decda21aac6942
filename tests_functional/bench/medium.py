# SPDX-License-Identifier: Apache-2.0
"""The ramdisk as operators have it: from a CD drive, from a USB stick, or by iPXE, and never by the hypervisor."""

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


@dataclass(frozen=True)
class Medium:
    """What a firmware finds: files of :func:`ramdisk.outputs.write` as a ``cd``, a ``usb`` stick, or ``ipxe``."""

    made: Path
    kind: str

    def put_in(self, root: ET.Element) -> None:
        """Have a domain look at it before its disks."""
        devices = child(root, "devices")
        for element in child(root, "os").findall("boot"):
            child(root, "os").remove(element)
        for element in devices.findall("disk/boot"):
            element.set("order", str(int(element.get("order", "1")) + 1))
        place = child(devices, "interface") if self.kind == "ipxe" else self._drive(devices)
        ET.SubElement(place, "boot", order="1")

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
        """Answer iPXE for as long as this runs; a drive needs nobody."""
        if self.kind != "ipxe":
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
        return super().translate_path(path.replace("/boot.ipxe", f"/{outputs.IPXE}"))

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
