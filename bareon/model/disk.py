# SPDX-License-Identifier: Apache-2.0
"""A wanted disk: which one it is, and the volumes on it in their order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bareon.model.filesystem import Filesystem
from bareon.sizes import Size

DiskIdType = Literal["name", "path", "scsi", "serial", "wwn"]


@dataclass(frozen=True)
class DiskId:
    """How a disk is found; see :mod:`bareon.layout.match`."""

    type: DiskIdType
    value: str

    def __str__(self) -> str:
        return f"{self.type} {self.value!r}"


@dataclass(frozen=True)
class Partition:
    """A partition that holds a file system, or nothing that bareon knows of (``filesystem`` is ``None``)."""

    size: Size
    filesystem: Filesystem | None = None
    name: str | None = None
    guid: str | None = None
    boot: bool = False
    path: str = field(default="$", compare=False)


@dataclass(frozen=True)
class PhysicalVolume:
    """A partition that is a physical volume of the group ``vg``. ``metadata`` is in bytes, ``None`` for LVM's own."""

    size: Size
    vg: str
    metadata: int | None = None
    path: str = field(default="$", compare=False)


@dataclass(frozen=True)
class RaidMember:
    """A partition that is a member of the array of that name."""

    size: Size
    array: str
    path: str = field(default="$", compare=False)


Volume = Partition | PhysicalVolume | RaidMember


@dataclass(frozen=True)
class Disk:
    """A disk of the schema. ``size`` is its budget in bytes, ``None`` for all of the real disk.

    ``configdrive`` is the size in bytes of a partition for one at the end of the budget, 0 for none.
    """

    id: DiskId
    size: int | None
    volumes: tuple[Volume, ...]
    path: str = field(default="$", compare=False)
    configdrive: int = 0
