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

    def ranks(self) -> tuple[tuple[DiskId, ...], ...]:
        """The identities in order of trust; here the one there is."""
        return ((self,),)


@dataclass(frozen=True)
class DiskIds:
    """Several identities of one disk, in ranks: the first rank of which any is known on the node decides.

    Within a rank all that are known must mean the same disk.
    """

    by_rank: tuple[tuple[DiskId, ...], ...]

    def __str__(self) -> str:
        return ", else ".join(" or ".join(map(str, rank)) for rank in self.by_rank)

    def ranks(self) -> tuple[tuple[DiskId, ...], ...]:
        """The identities in order of trust."""
        return self.by_rank


@dataclass(frozen=True)
class Partition:
    """A partition that holds a file system, or nothing that bareon knows of (``filesystem`` is ``None``).

    ``one_of`` says that it is one of several places for its mount point, of which only one is made; see
    :mod:`bareon.layout.place`.
    """

    size: Size
    filesystem: Filesystem | None = None
    name: str | None = None
    guid: str | None = None
    boot: bool = False
    path: str = field(default="$", compare=False)
    one_of: bool = False


@dataclass(frozen=True)
class PhysicalVolume:
    """A partition that is a physical volume of the group ``vg``.

    ``metadata`` is what the first extent starts after, in bytes; ``None`` for LVM's own choice. ``backup`` is the
    size of a second copy of the metadata at the end, in bytes; 0 for none.
    """

    size: Size
    vg: str
    metadata: int | None = None
    path: str = field(default="$", compare=False)
    backup: int = 0


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
    ``any_firmware`` keeps room to boot by BIOS and by UEFI, whichever the node has now.
    """

    id: DiskId | DiskIds
    size: int | None
    volumes: tuple[Volume, ...]
    path: str = field(default="$", compare=False)
    configdrive: int = 0
    any_firmware: bool = False
