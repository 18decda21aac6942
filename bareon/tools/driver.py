# SPDX-License-Identifier: Apache-2.0
"""Drivers of devices, as the running kernel has bound them: sysfs(5); and the index of its modules, by depmod(8)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

SYS = Path("/sys")
MODULES = Path("/lib/modules")


def bound(device: str) -> list[tuple[str, str]]:
    """The drivers that a disk is reached by, its own first, then those of what is above it.

    :returns: of each the name of its module, and the modalias of the device; nothing where this cannot be told.
    """
    try:
        place = (SYS / "class/block" / device.removeprefix("/dev/")).resolve(strict=True)
        return [x for folder in place.parents if (x := _bound(folder))]
    except OSError:
        return []


def _bound(folder: Path) -> tuple[str, str] | None:
    """The driver of the device in a folder of sysfs; ``None`` where there is no device, or none has taken it."""
    driver, alias = folder / "driver", folder / "modalias"
    if not driver.exists() or not alias.exists():
        return None
    module = driver / "module"
    return (module if module.exists() else driver).resolve().name.replace("-", "_"), alias.read_text().strip()


def index(names: Sequence[str]) -> dict[str, bytes]:
    """Those of some files of the running kernel's folder of modules that there are, by their names."""
    folder = MODULES / os.uname().release
    return {x: (folder / x).read_bytes() for x in names if (folder / x).is_file()}
