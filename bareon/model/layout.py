# SPDX-License-Identifier: Apache-2.0
"""The layout that was decided: the place, the identifiers and the decision for everything on the disks.

Sizes and positions are bytes. UUIDs are decided here and handed to the programs that make things, so that nothing
has to be read back afterwards to be known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from bareon.storage.disk import PlannedDisk
from bareon.storage.filesystem import ESP_MOUNT, SWAP, Mount, Mounted, PlannedFilesystem
from bareon.storage.kind import CryptDevice, Device, Firmware, PlannedAggregate, Policy, Structure, System

T = TypeVar("T")

_EARLY = ("/", "/usr")
"""The mount points that an initramfs must get at: the rest is mounted by the system, which says what it misses."""

_INITRAMFS = "initramfs"
"""The option of crypttab(5) by which Debian's initramfs opens a device, whatever it can see where it is made."""
_NOAUTO = "noauto"
"""The option of crypttab(5) and fstab(5) by which something waits until somebody asks for it."""


@dataclass(frozen=True)
class Layout:
    """The decided state of all disks of the input. ``aggregates`` come behind those that they lie on.

    ``left`` are the devices of file systems that another system uses now: nothing is brought to them.
    """

    policy: Policy
    firmware: Firmware
    disks: tuple[PlannedDisk, ...]
    aggregates: tuple[PlannedAggregate, ...] = ()
    left: frozenset[str] = frozenset()

    def devices(self) -> tuple[Device, ...]:
        """Every device below the disks: partitions, what aggregates offer, and what opens from either."""
        return self._devices

    def structures(self) -> tuple[Structure, ...]:
        """Everything that is made before a file system can be, each behind those that it lies on."""
        return self._structures

    def filesystems(self) -> tuple[PlannedFilesystem, ...]:
        """Every file system: on partitions, on arrays, on logical volumes."""
        return self._filesystems

    # Each action looks through them, and each kind for its own.

    @cached_property
    def _devices(self) -> tuple[Device, ...]:
        on_disks = opened([part for disk in self.disks for part in disk.partitions])
        return (*on_disks, *(device for aggregate in self.aggregates for device in opened(aggregate.devices)))

    @cached_property
    def _structures(self) -> tuple[Structure, ...]:
        found: list[Structure] = [*_containers([part for disk in self.disks for part in disk.partitions])]
        for aggregate in self.aggregates:
            found += [aggregate, *_containers(aggregate.devices)]
        return tuple(found)

    @cached_property
    def _filesystems(self) -> tuple[PlannedFilesystem, ...]:
        contents = (device.content for device in self._devices)
        return tuple(content for content in contents if isinstance(content, PlannedFilesystem))

    def mounts(self, image: str) -> list[Mounted]:
        """The file systems of one image at their mount points, swap areas among them."""
        found = (x for fs in self.filesystems() for x in fs.mounts if image in x.mount.images)
        return [replace(x, left=True) if x.device in self.left else x for x in found]

    def tree(self, image: str) -> tuple[Mounted, ...]:
        """The mounted file systems of one image, parents before children, but for those that it makes itself."""
        found = (x for x in self.mounts(image) if x.point != SWAP and not x.filesystem.mapped_at_start)
        return tuple(sorted(found, key=lambda x: x.point.rstrip("/").split("/")))

    def made_at_start(self, image: str) -> tuple[Mounted, ...]:
        """The file systems that one image makes anew each time it starts, swap areas left out."""
        return tuple(x for x in self.mounts(image) if x.point != SWAP and x.filesystem.mapped_at_start)

    def has_root(self, image: str) -> bool:
        """True if the image has a root file system, without which it is no system of its own."""
        return any(x.point == "/" for x in self.tree(image))

    def swaps(self, image: str) -> tuple[Mounted, ...]:
        """The swap areas of one image."""
        return tuple(x for x in self.mounts(image) if x.point == SWAP)

    def crypt_devices(self, image: str) -> tuple[CryptDevice, ...]:
        """What one image opens to get at its file systems and swap areas, each behind what it lies in.

        What lies below ``/`` or ``/usr`` has the option ``initramfs``: where Debian's is made, no device is seen that
        would tell of it. What nothing is mounted of by itself has ``noauto``: nobody shall be asked for its key.
        """
        early: set[str] = set()
        used: set[str] = set()
        found: list[CryptDevice] = []
        for x in self.mounts(image):
            needed = self.system(x.filesystem).crypttab[::-1]
            found += needed
            names = {crypt.name for crypt in needed}
            early |= names if x.point in _EARLY else set()
            used |= names if x.mount.enabled and _NOAUTO not in x.mount.options.split(",") else set()

        def completed(x: CryptDevice) -> CryptDevice:
            more = [_INITRAMFS] if x.name in early else [] if x.name in used else [_NOAUTO]
            return replace(x, options=(*x.options, *(option for option in more if option not in x.options)))

        return tuple(map(completed, dict.fromkeys(found)))

    def crypttab(self, image: str) -> tuple[str, ...]:
        """The lines of crypttab for that: by UUID, by that of a partition or array, else by its name."""
        lasting = {part.device: f"PARTUUID={part.guid.lower()}" for disk in self.disks for part in disk.partitions}
        for structure in self.structures():
            lasting |= structure.lasting

        def line(x: CryptDevice) -> str:
            source = f"UUID={x.uuid}" if x.uuid else lasting.get(x.device, x.device)
            return f"{x.name} {source} {x.key_file or 'none'} {','.join(x.options) or '-'}"

        return tuple(map(line, self.crypt_devices(image)))

    def reserved(self, role: str) -> PlannedFilesystem | None:
        """The file system of the first partition that was reserved for a role."""
        parts = (part for disk in self.disks for part in disk.partitions if part.role == role)
        return next((x.content for x in parts if isinstance(x.content, PlannedFilesystem)), None)

    @property
    def multiboot(self) -> PlannedFilesystem | None:
        """The file system of the boot loader that starts more than one image."""
        return next(iter(self.menus.values()), None)

    @property
    def menus(self) -> dict[str, PlannedFilesystem]:
        """The file systems with the menu of more than one image, alike, by the disk that each lies on."""
        return {
            disk.device: part.content
            for disk in self.disks
            for part in disk.partitions
            if part.role == "multiboot" and isinstance(part.content, PlannedFilesystem)
        }

    def mounted_esp(self, image: str) -> Mounted | None:
        """The first EFI system partition as the image mounts it; ``None`` where it mounts something else there.

        With more than one image it is the common boot loader's, and no image's.
        ``nofail``: with the disk that it lies on, a mirrored system must not lose its way to boot.
        """
        found = self.reserved("esp")
        if not found or self.multiboot or any(x.point == ESP_MOUNT for x in self.tree(image)):
            return None
        return Mounted(found, Mount(ESP_MOUNT, "umask=0077,nofail", images=(image,)))

    def system(self, filesystem: PlannedFilesystem) -> System:
        """The needs of a deployed system for a file system: its own, then those of all that it lies on, top first."""
        needs, below = [filesystem.system], {filesystem.device}
        for structure in reversed(list(self.structures())):
            if used := [device for device in structure.devices if device.device in below]:
                needs += [*(device.system for device in used), structure.system]
                below |= set(structure.members)
        needs += [disk.system for disk in self.disks if any(part.device in below for part in disk.partitions)]
        return _merged(needs)

    def early(self, image: str) -> System:
        """The needs of one image for what its initramfs must get at."""
        return _merged([self.system(x.filesystem) for x in self.tree(image) if x.point in _EARLY])

    def early_disks(self, image: str | None = None) -> set[str]:
        """The disks that hold what the initramfs of one image must get at, or that of any system."""
        mounts = (x for fs in self.filesystems() for x in fs.mounts if image is None or image in x.mount.images)
        return {disk for x in mounts if x.point in _EARLY for disk in self._disks(x.device)}

    def _disks(self, device: str) -> Iterator[str]:
        """The disks that a device lies on."""
        for disk in self.disks:
            if any(part.device == device for part in disk.partitions):
                yield disk.device
        for structure in self.structures():
            if any(x.device == device for x in structure.devices):
                for member in structure.members:
                    yield from self._disks(member)

    def kernel_arguments(self, image: str, *, resumes: bool) -> tuple[str, ...]:
        """The kernel arguments by which an initramfs gets at what it must mount, and at swap if it resumes from it.

        Of more than that a system need not wait for: it starts with all else missing.
        """
        points = (*_EARLY, *([SWAP] if resumes else []))
        needed = [self.system(x.filesystem) for x in self.mounts(image) if x.point in points]
        return tuple(dict.fromkeys(word for need in needed for word in need.kernel_arguments))

    def mdadm_conf(self) -> tuple[str, ...]:
        """The lines of mdadm.conf for all arrays."""
        return tuple(line for structure in self.structures() for line in structure.system.mdadm_conf)


def _containers(devices: Sequence[Device]) -> Iterator[Structure]:
    """The containers on devices, and those on the devices that open from them."""
    for device in devices:
        if isinstance(device.content, Structure):
            yield device.content
            yield from _containers(device.content.devices)


def _merged(needs: Sequence[System]) -> System:
    """Several needs as one."""

    def merged(values: Callable[[System], tuple[T, ...]]) -> tuple[T, ...]:
        return tuple(dict.fromkeys(value for need in needs for value in values(need)))

    return System(
        merged(lambda need: need.grub_modules),
        merged(lambda need: need.crypttab),
        merged(lambda need: need.mdadm_conf),
        merged(lambda need: need.kernel_arguments),
        merged(lambda need: need.modules),
        merged(lambda need: need.programs),
    )


def opened(devices: Sequence[Device]) -> Iterator[Device]:
    """The devices, then those that open from them."""
    yield from devices
    for container in _containers(devices):
        yield from container.devices
