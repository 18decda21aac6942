# SPDX-License-Identifier: Apache-2.0
"""What is open, as the kernel's device mapper tells it in sysfs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys/class/block")
MAPPER = Path("/dev/mapper")


@dataclass(frozen=True)
class Opened:
    """What is open: its name, the kernel's one, its format, and the kernel's name of what it lies on."""

    name: str
    kernel: str
    format: str
    below: str


def open_now() -> list[Opened]:
    """The containers that are open now."""
    found = []
    for entry in sorted(SYS.glob("dm-*")):
        form = format_of(entry.name)
        slaves = sorted(entry.glob("slaves/*")) if form else []
        if form and slaves:
            found.append(Opened(attribute(entry.name, "name"), f"/dev/{entry.name}", form, f"/dev/{slaves[0].name}"))
    return found


def format_of(name: str) -> str | None:
    """The format of an open container, by the kernel's name of its device; ``None`` for what is none."""
    first, _, rest = attribute(name, "uuid").partition("-")
    return rest.partition("-")[0].lower() if first == "CRYPT" and rest else None


def called(kernel: str) -> str:
    """The name that the facts have for a device: of a logical volume that of its group and its own."""
    name = Path(kernel).name
    if not attribute(name, "uuid").startswith("LVM-"):
        return kernel
    group, _, volume = attribute(name, "name").replace("--", "\0").partition("-")
    return f"/dev/{group}/{volume}".replace("\0", "-")


def attribute(name: str, what: str) -> str:
    """What the device mapper tells of a device, by the kernel's name of it; empty for what is none of its."""
    try:
        return (SYS / name / "dm" / what).read_text().strip()
    except OSError:
        return ""  # it is no such device, or went meanwhile
