# SPDX-License-Identifier: Apache-2.0
"""The hardware of this machine besides its disks, as the kernel shows it; no program is run."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from bareon.lldp import table
from bareon.model.hardware import HardwareFacts, PortFacts

#: What boards say whose maker has left the place empty, in lower case.
_NOTHING = re.compile(
    r"(|none|null|n/?a|o\.?e\.?m\.?|empty|invalid|unknown|undefined|default( string)?|(?P<same>[0x.*#f -])(?P=same)*"
    r"|not (specified|applicable|available|set)|to be filled( by o\.?e\.?m\.?)?|0?123456789[0a-f]*"
    r"|(system|chassis|base ?board|board)[ _-]?(serial[ _-]?(number|#)?|s/n|sn)|serial[ _-]?(number|#))"
)
#: What boards have alike: the two that SMBIOS reserves, and examples that were never replaced.
_NO_UUID = (
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NO_MAC = "00:00:00:00:00:00"
_ETHERNET = "1"  # ARPHRD_ETHER of if_arp.h
_TPMS = {"1": "1.2", "2": "2.0"}  # tpm_version_major, Documentation/ABI/stable/sysfs-class-tpm


def read(root: Path) -> HardwareFacts:
    """The hardware; what the kernel does not show is ``None``.

    :param root: the folder that has ``proc``, ``sys`` and ``run``.
    """
    processors = re.findall(r"^processor\s*:", text(root / "proc/cpuinfo"), re.M)
    model = re.search(r"^model name\s*:\s*(.+)", text(root / "proc/cpuinfo"), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", text(root / "proc/meminfo"), re.M)
    dmi = root / "sys/class/dmi/id"
    uuid = text(dmi / "product_uuid").lower()
    return HardwareFacts(
        architecture=os.uname().machine,
        processors=len(processors),
        memory=int(memory[1]) * 1024 if memory else 0,
        processor=model[1].strip() if model else None,
        vendor=_said(text(dmi / "sys_vendor")),
        product=_said(text(dmi / "product_name")),
        serial=_said(text(dmi / "product_serial")),
        uuid=None if not _UUID.fullmatch(uuid) or uuid in _NO_UUID else uuid,
        tpm=_TPMS.get(text(root / "sys/class/tpm/tpm0/tpm_version_major")),
        ports=tuple(_ports(root)),
    )


def _said(value: str) -> str | None:
    return None if _NOTHING.fullmatch(value.lower()) else value


def _ports(root: Path) -> Iterator[PortFacts]:
    """The Ethernet interfaces that have a device behind them: no bridge, bond or VLAN has."""
    heard = table.known(root)
    for place in sorted((root / "sys/class/net").glob("*")):
        if not (place / "device").exists() or text(place / "type") != _ETHERNET:
            continue
        driver = place / "device/driver"
        carrier, speed = text(place / "carrier"), text(place / "speed")
        yield PortFacts(
            name=place.name,
            mac=next(filter(None, (_mac(place / x) for x in ("bonding_slave/perm_hwaddr", "address"))), None),
            driver=driver.resolve().name if driver.is_symlink() else None,
            link=carrier == "1" if carrier else None,
            # -1 is what a driver says that does not know.
            speed=int(speed) if re.fullmatch(r"[1-9]\d*", speed) else None,
            neighbours=None if heard is None else heard.get(place.name, ()),
        )


def _mac(path: Path) -> str | None:
    address = text(path).lower()
    return address if _MAC.fullmatch(address) and address != _NO_MAC else None


def text(path: Path) -> str:
    """The text of a file of the kernel's; empty where it cannot be read, as of a port that is down."""
    with contextlib.suppress(OSError):
        return path.read_text("latin-1").strip()
    return ""
