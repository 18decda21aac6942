# SPDX-License-Identifier: Apache-2.0
"""Disks and their partitions, wanted, planned and found: the roots of everything else.

What a table of partitions is, and how it is made and compared, is :mod:`.gpt`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bareon.storage.kind import LINUX_DATA, Device, Reservation, Signature, Volume

DiskIdType = Literal["name", "path", "scsi", "serial", "wwn"]
Health = Literal["ok", "failing", "unknown"]


@dataclass(frozen=True)
class DiskId:
    """An identity of a disk; see :mod:`bareon.layout.match`."""

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


HOST_MANAGED = "host-managed"
"""The kernel's word for a disk that takes writes in the order of its zones alone."""


# Wanted.


@dataclass(frozen=True)
class Partition(Volume):
    """A partition that shall be.

    ``one_of`` says that it is one of several places for its mount point, of which only one is made; see
    :mod:`bareon.layout.bootplace`.
    """

    name: str | None = None
    guid: str | None = None
    boot: bool = False
    one_of: bool = False


@dataclass(frozen=True)
class Disk:
    """A disk of the input. ``size`` is its budget in bytes, ``None`` for all of the real disk.

    ``any_firmware`` keeps room to boot by BIOS and by UEFI, whichever the node has now. ``reservations`` come beside
    the volumes; see :mod:`bareon.layout.claim`.
    """

    id: DiskId | DiskIds
    size: int | None
    volumes: tuple[Partition, ...]
    path: str = field(default="$", compare=False)
    any_firmware: bool = False
    reservations: tuple[Reservation, ...] = ()


# Planned.


@dataclass(frozen=True)
class PlannedPartition(Device):
    """An entry of a partition table that was decided; positions are bytes.

    ``role`` is what it is for, ``guid_given`` says that the GUID is the input's, ``rewritten`` that this run writes
    its content, whatever is in it.
    """

    number: int
    start: int
    role: str
    guid: str
    type_guid: str = LINUX_DATA
    name: str | None = None
    boot: bool = False
    guid_given: bool = False
    rewritten: bool = False

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def member_of(self) -> str | None:
        """The name of the aggregate that it is a member of."""
        return self.content.member_of if self.content else None


@dataclass(frozen=True)
class PlannedDisk:
    """A disk of the input with its whole table. ``sector`` is the logical sector size in bytes."""

    device: str
    size: int
    sector: int
    guid: str
    partitions: tuple[PlannedPartition, ...]
    table: str = "gpt"


# Found.


@dataclass(frozen=True)
class PartitionFacts:
    """An entry of a partition table. ``users`` says in words who uses it now, or something
    stacked on it; empty when nobody does. Arrays and volume groups on it are no users by themselves.
    """

    number: int
    device: str
    start: int
    size: int
    type: str
    guid: str | None = None
    name: str | None = None
    content: Signature | None = None
    users: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class DiskFacts:
    """A whole block device. ``kind`` is lsblk's type (``disk``, ``loop``, ``rom`` …), ``links`` its names in /dev.

    ``users`` are those of the whole device; those of its partitions stand there. ``sequence`` is the kernel's running
    number of it, another one after each start of the machine. ``zoned`` is the kernel's word for what must be written
    in zones. ``health`` is the disk's own judgement, ``health_words`` what it says of it.
    """

    device: str
    size: int
    kind: str = "disk"
    logical_sector: int = 512
    physical_sector: int = 512
    model: str | None = None
    serial: str | None = None
    wwn: str | None = None
    scsi: str | None = None
    transport: str | None = None
    read_only: bool = False
    removable: bool = False
    links: tuple[str, ...] = ()
    table: str | None = None
    content: Signature | None = None
    partitions: tuple[PartitionFacts, ...] = ()
    users: tuple[str, ...] = ()
    sequence: int | None = None
    zoned: str = "none"
    health: Health = "unknown"
    health_words: tuple[str, ...] = ()

    @property
    def unwritable(self) -> str | None:
        """Why no table can be written to it, whatever anybody allows; ``None`` where one can."""
        if self.read_only:
            return "read-only: a switch on the card, or a disk that has given up"
        if self.zoned == HOST_MANAGED:
            return "zoned (host-managed): it takes no partition table, but writes in the order of its zones alone"
        return None

    def in_use(self) -> tuple[str, ...]:
        """Users of the disk or any of its partitions, in words that name the device."""
        of_parts = [f"{part.device} is {user}" for part in self.partitions for user in part.users]
        return (*(f"{self.device} is {user}" for user in self.users), *of_parts)
