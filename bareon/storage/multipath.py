# SPDX-License-Identifier: Apache-2.0
"""Multipath: a LUN that is reached by several paths, of which the device mapper makes one disk.

That disk, the map, is used and never a path. It stands at the root of everything, as any disk does, and is no kind of
storage by itself: nobody makes one; see :mod:`.disk`.
"""

from __future__ import annotations

from dataclasses import dataclass

from bareon.storage.kind import System

DELIMITER = "-part"
"""Between the name of a map and the number of a partition, as the udev rules of multipath-tools have it."""

SYSTEM = System(modules=("dm_multipath",), programs=(("multipath", "multipathd"),))
"""Needs of a deployed system whose root lies on a map.

Without them it comes up on one of the paths and sees each file system, physical volume and member of an array as
often as there are paths. LVM uses none of such twins, and the path that is mounted may fail.
"""


@dataclass(frozen=True)
class PathFacts:
    """A path of a map: the device, its SCSI address and its other names in /dev."""

    device: str
    scsi: str | None = None
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class MapFacts:
    """A map by its name, the WWID of the LUN, and the paths to that."""

    name: str
    wwid: str
    paths: tuple[PathFacts, ...]


def partition_device(device: str, number: int) -> str:
    """The device of a partition of a map."""
    return f"{device}{DELIMITER}{number}"
