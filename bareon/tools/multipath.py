# SPDX-License-Identifier: Apache-2.0
"""Maps of dm-multipath, as sysfs shows them, and the maps of their partitions: kpartx(8)."""

from __future__ import annotations

import re
from pathlib import Path

from bareon.run import run
from bareon.tools import dmsetup

PROGRAMS = ("kpartx", *dmsetup.PROGRAMS)
SYS = Path("/sys/class/block")

_PARTITION = re.compile(r"part([0-9]+)-mpath-.+")


def wwid(name: str) -> str:
    """The WWID of the LUN that a map is of.

    :param name: the kernel's name of the map, such as ``dm-0``.
    """
    return _read(name, "dm/uuid").removeprefix("mpath-")


def paths(name: str) -> list[str]:
    """The kernel's names of the devices that a map puts together, such as ``sda``, sorted."""
    folder = SYS / name / "slaves"
    return sorted(x.name for x in folder.iterdir()) if folder.is_dir() else []


def partitions(device: str) -> dict[int, str]:
    """The devices that there are for partitions of a map, by their numbers."""
    folder = SYS / Path(device).resolve().name / "holders"
    found = {}
    for name in sorted(x.name for x in folder.iterdir()) if folder.is_dir() else ():
        if match := _PARTITION.fullmatch(_read(name, "dm/uuid")):
            found[int(match[1])] = f"/dev/mapper/{_read(name, 'dm/name')}"
    return found


def map_partitions(device: str, delimiter: str) -> None:
    """Give a map devices for the partitions in its table, and take away others.

    :param delimiter: what stands between the name of the map and the number of a partition.
    """
    run(["kpartx", "-u", "-s", "-p", delimiter, device])


def _read(name: str, attribute: str) -> str:
    path = SYS / name / attribute
    return path.read_text().strip() if path.exists() else ""
