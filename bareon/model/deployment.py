# SPDX-License-Identifier: Apache-2.0
"""The whole of what is wanted, as every data driver delivers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from bareon.model.configdrive import Configdrive
from bareon.model.disk import Disk, Partition
from bareon.model.filesystem import Filesystem
from bareon.model.image import Image
from bareon.model.lvm import LogicalVolume, VolumeGroup
from bareon.model.raid import Array

Policy = Literal["verify", "clean"]
_Holder = TypeVar("_Holder", Partition, Array, LogicalVolume)


@dataclass(frozen=True)
class InterfaceName:
    """The name that the network interface with a MAC address (in lower case, with colons) keeps for good."""

    mac: str
    name: str


@dataclass(frozen=True)
class Deployment:
    """What a node shall become. ``rsync_flags`` is an argument list, ``kernel_params`` goes to the kernel.

    ``interface_names`` are those of the deployed systems; interfaces that are not in it keep the system's own.
    """

    policy: Policy
    disks: tuple[Disk, ...]
    arrays: tuple[Array, ...] = ()
    volume_groups: tuple[VolumeGroup, ...] = ()
    images: tuple[Image, ...] = ()
    rsync_flags: tuple[str, ...] = ("-a", "-A", "-X")
    kernel_params: str = ""
    configdrive: Configdrive | None = None
    interface_names: tuple[InterfaceName, ...] = ()

    def filesystems(self) -> Iterator[Filesystem]:
        """Every wanted file system, in the order of the input."""
        held: list[Filesystem | None] = []
        for disk in self.disks:
            held += [volume.filesystem for volume in disk.volumes if isinstance(volume, Partition)]
        held += [array.filesystem for array in self.arrays]
        held += [volume.filesystem for group in self.volume_groups for volume in group.volumes]
        yield from (filesystem for filesystem in held if filesystem)

    @property
    def multiboot(self) -> bool:
        """Whether more than one image has volumes, so that a boot loader apart from all of them is needed."""
        return len({image for filesystem in self.filesystems() for image in filesystem.images}) > 1

    def with_filesystems(self, change: Callable[[Filesystem], Filesystem]) -> Deployment:
        """The same with each file system replaced by what ``change`` makes of it."""

        def changed(holder: _Holder) -> _Holder:
            return replace(holder, filesystem=change(holder.filesystem)) if holder.filesystem else holder

        return replace(
            self,
            disks=tuple(
                replace(disk, volumes=tuple(changed(x) if isinstance(x, Partition) else x for x in disk.volumes))
                for disk in self.disks
            ),
            arrays=tuple(changed(array) for array in self.arrays),
            volume_groups=tuple(
                replace(group, volumes=tuple(changed(volume) for volume in group.volumes))
                for group in self.volume_groups
            ),
        )
