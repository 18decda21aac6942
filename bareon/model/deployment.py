# SPDX-License-Identifier: Apache-2.0
"""The deployment: all that is wanted, as every data driver delivers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from bareon.model.configdrive import Configdrive
from bareon.model.image import Image
from bareon.sizes import Absolute
from bareon.storage.disk import Disk, Partition
from bareon.storage.filesystem import Filesystem
from bareon.storage.kind import Aggregate, Content, Policy, Reservation

BootOrder = Literal["first", "after-current", "unchanged"]
"""Where entries of the deployed disks go in the order in which UEFI tries its entries."""


@dataclass(frozen=True)
class InterfaceName:
    """The name that the network interface with a MAC address (in lower case, with colons) keeps for good."""

    mac: str
    name: str


@dataclass(frozen=True)
class Deployment:
    """The wanted state of a node. ``rsync_flags`` is an argument list, ``kernel_params`` goes to the kernel.

    ``esp_copies`` is whether the deployed system copies its boot loader to the other disks after an update of it.
    ``interface_names`` are those of the deployed systems; interfaces that are not in it keep the system's own.
    ``brought`` are the names of the images that this run brings, ``None`` for all of them. ``at_hand`` is the text of
    the document without its secrets, for later runs in a system of several; ``None`` where there can be none.
    ``manifest`` is whether each system has a manifest of its files, to be compared later; ``manifest_exclude`` are
    globs of paths that are left out of it, besides what systems usually change.
    """

    policy: Policy
    disks: tuple[Disk, ...]
    aggregates: tuple[Aggregate, ...] = ()
    images: tuple[Image, ...] = ()
    rsync_flags: tuple[str, ...] = ("-a", "-A", "-X")
    kernel_params: str = ""
    boot_order: BootOrder = "first"
    esp_copies: bool = False
    manifest: bool = False
    manifest_exclude: tuple[str, ...] = ()
    configdrive: Configdrive | None = None
    interface_names: tuple[InterfaceName, ...] = ()
    brought: frozenset[str] | None = None
    removed: tuple[str, ...] = ()
    at_hand: str | None = None

    def brings(self, image: Image) -> bool:
        """True for an image that this run brings."""
        return self.brought is None or image.name in self.brought

    def contents(self) -> tuple[Content, ...]:
        """All wanted contents of devices, in the order of the input, each behind its container."""
        return self._contents

    def filesystems(self) -> tuple[Filesystem, ...]:
        """Every wanted file system, in the order of the input."""
        return self._filesystems

    # Each kind looks for its own, and each action.

    @cached_property
    def _contents(self) -> tuple[Content, ...]:
        held = [volume.content for disk in self.disks for volume in disk.volumes]
        held += [content for aggregate in self.aggregates for content in aggregate.contents]
        return tuple(x for content in held if content for x in content.nested())

    @cached_property
    def _filesystems(self) -> tuple[Filesystem, ...]:
        return tuple(content for content in self._contents if isinstance(content, Filesystem))

    def booted(self) -> set[tuple[str, str]]:
        """The mount points of what GRUB reads, each with the name of the image: where /boot lies, and those in it."""
        points = {(name, mount.point) for fs in self.filesystems() for mount in fs.mounts for name in mount.images}
        inside = {x for x in points if x[1].startswith("/boot/")}
        holding = {(name, "/boot" if (name, "/boot") in points else "/") for name, _ in points}
        return inside | (holding & points)

    def given(self, filesystem: Filesystem) -> int | None:
        """The bytes that the input gives the device of a file system; ``None`` where it gives a share or nothing."""
        for volume in (volume for disk in self.disks for volume in disk.volumes):
            if volume.content and any(x is filesystem for x in volume.content.nested()):
                return volume.size.size if isinstance(volume.size, Absolute) else None
        return next((size for x in self.aggregates if (size := x.given(filesystem)) is not None), None)

    @property
    def multiboot(self) -> bool:
        """True if a boot loader apart from all images is needed, with a menu of them.

        More than one image has volumes, or one has and a disk asks for a menu, to which others may be added.
        """
        images = {image for filesystem in self.filesystems() for image in filesystem.images}
        return len(images) > 1 or (bool(images) and any(disk.multiboot for disk in self.disks))

    def around(self, image: Image) -> tuple[Image, ...]:
        """Images into whose tree another one is brought: its target is a volume of theirs, below their own target."""
        mounts = [mount for fs in self.filesystems() for mount in fs.mounts]
        held = [x.images for x in mounts if x.point == image.target and image.system in x.images]
        return tuple(
            other
            for other in self.images
            if any(other.system in names for names in held)
            and image.target.startswith(f"{other.target.rstrip('/')}/")
            and image.target != other.target
        )

    def outer_first(self) -> tuple[Image, ...]:
        """The images in the order that they are brought in: each behind those around it, else as in the input."""
        order: list[Image] = []

        def bring(image: Image) -> None:
            for outer in self.around(image):  # whose target is shorter, so that this ends
                bring(outer)
            if image not in order:
                order.append(image)

        for image in self.images:
            bring(image)
        return tuple(order)

    def with_filesystems(self, change: Callable[[Filesystem], Filesystem]) -> Deployment:
        """The same with each file system replaced by what ``change`` makes of it."""

        def leaf(content: Content) -> Content:
            return change(content) if isinstance(content, Filesystem) else content

        def changed(volume: Partition) -> Partition:
            content = volume.content.mapped(leaf) if volume.content else None
            return volume if content is volume.content else replace(volume, content=content)

        return replace(
            self,
            disks=tuple(replace(disk, volumes=tuple(map(changed, disk.volumes))) for disk in self.disks),
            aggregates=tuple(aggregate.mapped(leaf) for aggregate in self.aggregates),
        )

    def reserving(self, number: int, reservation: Reservation) -> Deployment:
        """The same with room on the disk of that index, and for its role on no other disk."""

        def reserved(index: int, disk: Disk) -> Disk:
            others = tuple(x for x in disk.reservations if x.role != reservation.role)
            return replace(disk, reservations=(*others, *([reservation] if index == number else [])))

        return replace(self, disks=tuple(reserved(index, disk) for index, disk in enumerate(self.disks)))
