# SPDX-License-Identifier: Apache-2.0
"""What was decided: where each thing lies on which disk, with which identifiers, and what happens to it.

Sizes and positions are bytes. UUIDs are decided here and handed to the programs that make things, so that nothing
has to be read back afterwards to be known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from bareon.model.deployment import Policy
from bareon.model.filesystem import Filesystem
from bareon.model.raid import Level

Firmware = Literal["bios", "uefi"]
Role = Literal["bios_grub", "esp", "multiboot", "configdrive", "volume", "pv", "raid"]
Decision = Literal["create", "keep", "format"]

# Partition type GUIDs, from the UEFI specification and the Discoverable Partitions Specification.
LINUX_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
LINUX_SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
LINUX_LVM = "E6D6D379-F507-44C2-A23C-238F2A3DF928"
LINUX_RAID = "A19D880F-05FC-4D3B-A006-743F0F84911E"
BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
ESP_MOUNT = "/boot/efi"


@dataclass(frozen=True)
class FilesystemLayout:
    """A file system, the device it lies on and its UUID in the form that its own tools print."""

    wanted: Filesystem
    device: str
    size: int
    uuid: str
    decision: Decision

    @property
    def mount(self) -> str | None:
        return self.wanted.mount


@dataclass(frozen=True)
class PartitionLayout:
    """One entry of a partition table.

    ``member_of`` is the volume group of a ``pv``, the array of a ``raid`` partition; ``metadata`` and ``backup`` the
    bytes of LVM metadata that a ``pv`` was asked to have at its start and its end. ``guid_given`` says that the GUID
    is the input's.
    """

    number: int
    device: str
    start: int
    size: int
    role: Role
    type_guid: str
    guid: str
    decision: Decision
    name: str | None = None
    boot: bool = False
    filesystem: FilesystemLayout | None = None
    member_of: str | None = None
    metadata: int | None = None
    backup: int = 0
    guid_given: bool = False

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class DiskLayout:
    """A disk of the schema with its whole table. ``sector`` is the logical sector size in bytes."""

    device: str
    size: int
    sector: int
    guid: str
    partitions: tuple[PartitionLayout, ...]
    table: Literal["gpt"] = "gpt"


@dataclass(frozen=True)
class ArrayLayout:
    """An md array. ``component`` is what it uses of each member, ``size`` what it offers.

    ``member_of`` is the volume group it is a physical volume of.
    """

    name: str
    level: Level
    members: tuple[str, ...]
    component: int
    size: int
    uuid: str
    decision: Decision
    filesystem: FilesystemLayout | None = None
    member_of: str | None = None

    @property
    def device(self) -> str:
        return f"/dev/md/{self.name}"


@dataclass(frozen=True)
class PhysicalVolumeLayout:
    """A physical volume on a partition or an array.

    Its first extent starts after ``metadata`` bytes; the last ``backup`` bytes hold a second copy of the metadata.
    """

    device: str
    size: int
    metadata: int
    backup: int = 0


@dataclass(frozen=True)
class LogicalVolumeLayout:
    """A logical volume of whole extents."""

    name: str
    device: str
    size: int
    decision: Decision
    filesystem: FilesystemLayout | None = None


@dataclass(frozen=True)
class VolumeGroupLayout:
    """A volume group of ``size`` bytes in extents of ``extent`` bytes."""

    name: str
    size: int
    extent: int
    members: tuple[PhysicalVolumeLayout, ...]
    volumes: tuple[LogicalVolumeLayout, ...]
    decision: Decision


@dataclass(frozen=True)
class Layout:
    """The decided state of all disks of the schema."""

    policy: Policy
    firmware: Firmware
    disks: tuple[DiskLayout, ...]
    arrays: tuple[ArrayLayout, ...] = ()
    volume_groups: tuple[VolumeGroupLayout, ...] = ()

    def filesystems(self) -> Iterator[FilesystemLayout]:
        """Every file system: on partitions, on arrays, on logical volumes."""
        held = [partition.filesystem for disk in self.disks for partition in disk.partitions]
        held += [array.filesystem for array in self.arrays]
        held += [volume.filesystem for group in self.volume_groups for volume in group.volumes]
        yield from (filesystem for filesystem in held if filesystem)

    def tree(self, image: str) -> tuple[FilesystemLayout, ...]:
        """The mounted file systems of one image, parents before children."""
        found = [fs for fs in self.filesystems() if image in fs.wanted.images and fs.mount not in (None, "swap")]
        return tuple(sorted(found, key=lambda fs: str(fs.mount).rstrip("/").split("/")))

    def has_root(self, image: str) -> bool:
        """Whether the image has a root file system, without which it is no system of its own."""
        return any(fs.mount == "/" for fs in self.tree(image))

    def swaps(self, image: str) -> tuple[FilesystemLayout, ...]:
        """The swap areas of one image."""
        return tuple(fs for fs in self.filesystems() if image in fs.wanted.images and fs.mount == "swap")

    @property
    def multiboot(self) -> FilesystemLayout | None:
        """The file system of the boot loader that starts more than one image."""
        parts = (part for disk in self.disks for part in disk.partitions if part.role == "multiboot")
        return next((part.filesystem for part in parts), None)

    def mounted_esp(self, image: str) -> FilesystemLayout | None:
        """The first EFI system partition as the image mounts it; ``None`` where it mounts something else there.

        With more than one image it is the common boot loader's, and no image's.
        ``nofail``: with the disk that it lies on, a mirrored system must not lose its way to boot.
        """
        found = [part.filesystem for disk in self.disks for part in disk.partitions if part.role == "esp"]
        if not found or not found[0] or self.multiboot or any(fs.mount == ESP_MOUNT for fs in self.tree(image)):
            return None
        wanted = replace(found[0].wanted, mount=ESP_MOUNT, fstab_options="umask=0077,nofail")
        return replace(found[0], wanted=wanted)
