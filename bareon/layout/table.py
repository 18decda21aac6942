# SPDX-License-Identifier: Apache-2.0
"""The partition table of one disk: implicit partitions first, then the volumes of the input."""

from __future__ import annotations

from dataclasses import dataclass

from bareon.facts.node import DiskFacts
from bareon.layout.allocate import FIRST, DoesNotFit, Request, allocate, usable_end
from bareon.layout.filesystem import filesystem_layout
from bareon.layout.identifier import Identifiers
from bareon.model.configdrive import LABEL
from bareon.model.disk import Disk, Partition, PhysicalVolume, RaidMember, Volume
from bareon.model.filesystem import Filesystem
from bareon.model.layout import (
    BIOS_BOOT,
    ESP,
    LINUX_DATA,
    LINUX_LVM,
    LINUX_RAID,
    LINUX_SWAP,
    DiskLayout,
    FilesystemLayout,
    Firmware,
    PartitionLayout,
    Role,
)
from bareon.sizes import MIB, Absolute, mib, round_down

BIOS_GRUB_SIZE = 24 * MIB
ESP_SIZE = 200 * MIB
# FAT32 has at least 65525 clusters, and a cluster is at least a sector.
ESP_SIZE_4K = 260 * MIB
MULTIBOOT_SIZE = 100 * MIB
UEFI_ROOM = "uefi"  # the name of a partition that is kept for an ESP
MAX_PARTITIONS = 128
_NAMES: dict[Role, str] = {"configdrive": LABEL}  # those of the others are their roles


@dataclass(frozen=True)
class Wish:
    """One partition to be: wanted by the input, or implicit (``volume`` is ``None``)."""

    role: Role
    request: Request
    volume: Volume | None = None


def wishes(disk: Disk, firmware: Firmware, sector: int = 512, *, multiboot: bool = False) -> list[Wish]:
    """The partitions of a disk in their order. ``sector`` is its logical sector size in bytes.

    :param multiboot: whether the boot loader's own partition is on this disk.
    """
    return [
        *_for_firmware(disk, firmware, sector),
        *([_implicit(disk, "multiboot", MULTIBOOT_SIZE)] if multiboot else []),
        *(Wish(_role(volume), Request(volume.size, f"{volume.path}.size"), volume) for volume in disk.volumes),
        *([_implicit(disk, "configdrive", disk.configdrive)] if disk.configdrive else []),
    ]


def _implicit(disk: Disk, role: Role, size: int) -> Wish:
    return Wish(role, Request(Absolute(size), f"{disk.path} (implicit {role})"))


def _for_firmware(disk: Disk, firmware: Firmware, sector: int) -> list[Wish]:
    """What this node's firmware boots from, and the room for the other one's where it is wanted."""
    bios = _implicit(disk, "bios_grub", BIOS_GRUB_SIZE)
    esp = _implicit(disk, "esp", ESP_SIZE if sector < 4096 else ESP_SIZE_4K)
    if not disk.any_firmware:
        return [bios if firmware == "bios" else esp]
    if firmware == "uefi":
        return [bios, esp]
    # Not an ESP without a file system, which firmware and installers would stumble over.
    return [bios, Wish("volume", esp.request, Partition(esp.request.size, name=UEFI_ROOM, path=disk.path))]


def _role(volume: Volume) -> Role:
    if isinstance(volume, Partition):
        return "volume"
    return "pv" if isinstance(volume, PhysicalVolume) else "raid"


def disk_layout(
    wanted: Disk, real: DiskFacts, firmware: Firmware, identifiers: Identifiers, *, multiboot: bool = False
) -> DiskLayout:
    """The table of a disk.

    :param multiboot: whether the boot loader's own partition is on it.
    :raises DoesNotFit: when the real disk cannot hold it.
    """
    if wanted.size is not None and wanted.size > real.size:
        over = mib(wanted.size - real.size)
        raise DoesNotFit(f"{wanted.path}.size", f"{mib(wanted.size)} is {over} more than the disk's {mib(real.size)}")
    budget = wanted.size if wanted.size is not None else round_down(real.size)
    available = usable_end(real.size, real.logical_sector) - FIRST
    all_wishes = wishes(wanted, firmware, real.logical_sector, multiboot=multiboot)
    if len(all_wishes) > MAX_PARTITIONS:
        raise DoesNotFit("", f"a GPT holds {MAX_PARTITIONS} partitions, {len(all_wishes)} are asked for")
    sizes = allocate(budget, max(available, 0), [wish.request for wish in all_wishes])
    start, partitions = FIRST, []
    for number, (wish, size) in enumerate(zip(all_wishes, sizes, strict=True), 1):
        if wish.role == "configdrive":
            start = FIRST + round_down(min(budget, available)) - size
        partitions.append(_partition(wish, real.device, number, start, size, identifiers))
        start += size
    guid = identifiers.guid(f"table {real.device}")
    return DiskLayout(real.device, real.size, real.logical_sector, guid, tuple(partitions))


def partition_device(disk: str, number: int) -> str:
    """The kernel's name of a partition: with a ``p`` where the disk's name ends in a digit."""
    return f"{disk}p{number}" if disk[-1].isdigit() else f"{disk}{number}"


def _partition(
    wish: Wish, disk: str, number: int, start: int, size: int, identifiers: Identifiers
) -> PartitionLayout:
    device = partition_device(disk, number)
    volume = wish.volume if isinstance(wish.volume, Partition) else None
    wanted = volume.filesystem if volume else None
    if wish.role == "esp":
        wanted = Filesystem("vfat", label="ESP", fat32=True, path=wish.request.path)
    elif wish.role == "multiboot":
        wanted = Filesystem("ext4", label="multiboot", path=wish.request.path)
    filesystem = filesystem_layout(wanted, device, size, wish.request.path, identifiers)
    return PartitionLayout(
        number=number,
        device=device,
        start=start,
        size=size,
        role=wish.role,
        type_guid=_type_guid(wish.role, filesystem),
        guid=(volume.guid if volume else None) or identifiers.guid(f"partition {device}"),
        decision="create",
        name=volume.name if volume else None if wish.volume else _NAMES.get(wish.role, wish.role),
        boot=volume.boot if volume else False,
        filesystem=filesystem,
        member_of=_member_of(wish.volume),
        guid_given=bool(volume and volume.guid),
        metadata=wish.volume.metadata if isinstance(wish.volume, PhysicalVolume) else None,
        backup=wish.volume.backup if isinstance(wish.volume, PhysicalVolume) else 0,
    )


def _member_of(volume: Volume | None) -> str | None:
    if isinstance(volume, PhysicalVolume):
        return volume.vg
    return volume.array if isinstance(volume, RaidMember) else None


def _type_guid(role: Role, filesystem: FilesystemLayout | None) -> str:
    if role == "volume":
        return LINUX_SWAP if filesystem and filesystem.wanted.type == "swap" else LINUX_DATA
    return {"bios_grub": BIOS_BOOT, "esp": ESP, "pv": LINUX_LVM, "raid": LINUX_RAID}.get(role, LINUX_DATA)
