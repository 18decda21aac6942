# SPDX-License-Identifier: Apache-2.0
"""Disks and their partitions, wanted, planned and found: the roots of everything else.

What a table of partitions is, and how it is made and compared, is :mod:`.gpt`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from bareon.sizes import mib
from bareon.storage.kind import LINUX_DATA, Device, Reservation, Signature, System, Volume
from bareon.storage.multipath import SYSTEM, MapFacts

DiskIdType = Literal["name", "path", "scsi", "serial", "wwn"]
Exclusion = Literal["removable", "usb", "virtual-media", "boot-medium"]
Pick = Literal["smallest", "largest", "first"]
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

    @property
    def all(self) -> tuple[DiskId, ...]:
        """Every identity; here the one there is."""
        return (self,)


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

    @property
    def all(self) -> tuple[DiskId, ...]:
        """Every identity."""
        return sum(self.by_rank, ())


@dataclass(frozen=True)
class DiskRule:
    """A rule that one disk of the node must fit; see :mod:`bareon.layout.rule`.

    A criterion that is ``None`` is none. ``min_size`` and ``max_size`` are bytes, and both fit themselves. In
    ``model``, ``vendor``, ``scsi`` and ``path`` a ``*`` stands for any text. ``exclude`` is ``None`` where the input
    says nothing of it, ``pick`` decides between several that fit.
    """

    min_size: int | None = None
    max_size: int | None = None
    model: str | None = None
    vendor: str | None = None
    scsi: str | None = None
    path: str | None = None
    rotational: bool | None = None
    transport: str | None = None
    exclude: tuple[Exclusion, ...] | None = None
    pick: Pick | None = None

    DEFAULT: ClassVar[tuple[Exclusion, ...]] = ("removable", "usb", "virtual-media")

    @property
    def all(self) -> tuple[DiskRule, ...]:
        """The rule, as identities give all of theirs."""
        return (self,)

    @property
    def excluded(self) -> tuple[Exclusion, ...]:
        """What is excluded in fact."""
        return self.DEFAULT if self.exclude is None else self.exclude

    def document(self) -> dict[str, Any]:
        """The rule for the plan's JSON: its criteria with sizes in bytes, and what is excluded in fact."""
        given = {key: value for key, value in vars(self).items() if value is not None}
        return {**given, "exclude": list(self.excluded)}

    def __str__(self) -> str:
        sizes = {"min_size": self.min_size, "max_size": self.max_size}
        words = [f"{key} {mib(value)}" for key, value in sizes.items() if value is not None]
        texts = {"model": self.model, "vendor": self.vendor, "scsi": self.scsi, "path": self.path}
        words += [f"{key} {value!r}" for key, value in texts.items() if value is not None]
        if self.rotational is not None:
            words.append("rotational" if self.rotational else "not rotational")
        words += [f"transport {self.transport}"] if self.transport else []
        words.append(f"excluding {', '.join(self.excluded) or 'nothing'}")
        return "; ".join([*words, f"the {self.pick}" if self.pick else "the only one"])


@dataclass(frozen=True)
class ChosenDisk(DiskId):
    """The disk that a rule has chosen, by its name."""

    rule: DiskRule = field(kw_only=True)

    def __str__(self) -> str:
        return f"the rule ({self.rule})"


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

    ``any_firmware`` keeps room to boot by BIOS and by UEFI, whichever the node has now. ``multiboot`` says that a
    menu of several images is to be on this disk. ``network`` says that a system may start from it though it must log
    in to a target for that. ``reservations`` come beside the volumes; see :mod:`bareon.layout.claim`.
    ``erase`` is a way of ``erase.py`` beside this, ``None`` for none.
    """

    id: DiskId | DiskIds | DiskRule
    size: int | None
    volumes: tuple[Partition, ...]
    path: str = field(default="$", compare=False)
    any_firmware: bool = False
    multiboot: bool = False
    reservations: tuple[Reservation, ...] = ()
    erase: str | None = None
    network: bool = False


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
    """A disk of the input with its whole table. ``sector`` is the logical sector size in bytes.

    ``rule`` is what has chosen it, where that was a rule, ``erase`` how it is erased first, where it is.
    ``multipath`` is the map that it is, where it is one.
    """

    device: str
    size: int
    sector: int
    guid: str
    partitions: tuple[PlannedPartition, ...]
    table: str = "gpt"
    rule: DiskRule | None = None
    erase: str | None = None
    multipath: MapFacts | None = None

    @property
    def system(self) -> System:
        """Needs of a deployed system to use the disk itself."""
        return SYSTEM if self.multipath else System()


# Found.

#: What the kernel lists among disks and is none, with the reason; lsblk calls all of these disks.
_NO_DISKS = {
    re.compile(r"/dev/(mmcblk[0-9]+)(boot[0-9]+|rpmb)"): r"no disk, but an area of the eMMC \1 that firmware reads",
    re.compile(r"/dev/(mtdblock[0-9]+)(ro)?"): "no disk, but flash memory, which often holds the firmware itself",
    re.compile(r"/dev/(bcache|drbd|zd)[0-9]+"): r"no disk, but a device (\1) that stands on others",
    re.compile(r"/dev/z?ram[0-9]+"): "no disk, but memory",
}


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
class Driver:
    """A driver by the name of its module, such as ``ahci``, and the modalias of the device that it drives."""

    name: str
    modalias: str


@dataclass(frozen=True)
class DiskFacts:
    """A whole block device. ``kind`` is lsblk's type (``disk``, ``loop``, ``rom`` …), ``links`` its names in /dev.

    ``size`` is 0 where the kernel cannot use it, ``rotational`` ``None`` where that is not known. A ``boot_medium``
    is where this system came from, as far as that can be told.

    ``users`` are those of the whole device; those of its partitions stand there. ``sequence`` is the kernel's running
    number of it, another one after each start of the machine. ``zoned`` is the kernel's word for what must be written
    in zones. ``health`` is the disk's own judgement, ``health_words`` what it says of it. ``drivers`` are those that
    it is reached by, the disk's own first; ``None`` where that is not known. ``multipath`` is the map that the disk
    is, where it is one; what the hardware says of itself is then what the first path says.
    """

    device: str
    size: int
    kind: str = "disk"
    logical_sector: int = 512
    physical_sector: int = 512
    vendor: str | None = None
    model: str | None = None
    serial: str | None = None
    wwn: str | None = None
    scsi: str | None = None
    transport: str | None = None
    rotational: bool | None = None
    read_only: bool = False
    removable: bool = False
    boot_medium: bool = False
    links: tuple[str, ...] = ()
    table: str | None = None
    content: Signature | None = None
    partitions: tuple[PartitionFacts, ...] = ()
    users: tuple[str, ...] = ()
    sequence: int | None = None
    zoned: str = "none"
    health: Health = "unknown"
    health_words: tuple[str, ...] = ()
    drivers: tuple[Driver, ...] | None = None
    multipath: MapFacts | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All its names in /dev, those of its paths among them."""
        paths = self.multipath.paths if self.multipath else ()
        return (self.device, *self.links, *(name for path in paths for name in (path.device, *path.links)))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its SCSI addresses: one, but for a map with one for each path."""
        found = [path.scsi for path in self.multipath.paths] if self.multipath else [self.scsi]
        return tuple(address for address in found if address is not None)

    @property
    def of_network(self) -> bool:
        """True where the running system has logged in to a target for it: iSCSI, or NVMe over a fabric."""
        return self.transport == "iscsi" or (self.transport or "").startswith("nvme-")

    @property
    def unwritable(self) -> str | None:
        """Why no table can be written to it, whatever anybody allows; ``None`` where one can."""
        if self.read_only and not self.unusable:
            return "read-only: a switch on the card, or a disk that has given up"
        return self.unusable

    @property
    def unusable(self) -> str | None:
        """Why it is of a sort that never has a table; ``None`` where it is not. That it is read-only is no sort."""
        for pattern, reason in _NO_DISKS.items():
            if match := pattern.fullmatch(self.device):
                return match.expand(reason)
        if self.size == 0:
            return (
                "of no size to the kernel: there is no medium in it, or its sectors are of a size that Linux cannot"
                " use, such as 520 bytes (sg_format or nvme format gives it others)"
            )
        if self.zoned == HOST_MANAGED:
            return "zoned (host-managed): it takes no partition table, but writes in the order of its zones alone"
        return None

    def in_use(self) -> tuple[str, ...]:
        """Users of the disk or any of its partitions, in words that name the device."""
        of_parts = [f"{part.device} is {user}" for part in self.partitions for user in part.users]
        return (*(f"{self.device} is {user}" for user in self.users), *of_parts)
