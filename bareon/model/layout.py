# SPDX-License-Identifier: Apache-2.0
"""What was decided: where each thing lies on which disk, with which identifiers, and what happens to it.

Sizes and positions are bytes. UUIDs are decided here and handed to the programs that make things, so that nothing
has to be read back afterwards to be known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bareon.model.deployment import Policy
from bareon.model.filesystem import Filesystem

Firmware = Literal["bios", "uefi"]
Role = Literal["bios_grub", "esp", "multiboot", "configdrive", "volume", "pv", "raid"]
Decision = Literal["create", "keep", "format"]

# Partition type GUIDs, from the UEFI specification and the Discoverable Partitions Specification.
LINUX_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
LINUX_SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"


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
    """One entry of a partition table."""

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
class Layout:
    """The decided state of all disks of the schema."""

    policy: Policy
    firmware: Firmware
    disks: tuple[DiskLayout, ...]

    def filesystems(self) -> Iterator[FilesystemLayout]:
        """Every file system, in the order of disks and partitions."""
        for disk in self.disks:
            for partition in disk.partitions:
                if partition.filesystem:
                    yield partition.filesystem

    def tree(self, image: str) -> tuple[FilesystemLayout, ...]:
        """The mounted file systems of one image, parents before children."""
        found = [fs for fs in self.filesystems() if image in fs.wanted.images and fs.mount not in (None, "swap")]
        return tuple(sorted(found, key=lambda fs: str(fs.mount).rstrip("/").split("/")))

    def swaps(self, image: str) -> tuple[FilesystemLayout, ...]:
        """The swap areas of one image."""
        return tuple(fs for fs in self.filesystems() if image in fs.wanted.images and fs.mount == "swap")
