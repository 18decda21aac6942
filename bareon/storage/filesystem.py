# SPDX-License-Identifier: Apache-2.0
"""File systems and swap areas, and where they are mounted. A new type is a row of :data:`TYPES`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bareon import tools
from bareon.errors import Defect
from bareon.sizes import GIB, human, mib, round_up
from bareon.step import Outcome, Progress, Step
from bareon.storage import mkfsoptions, mountpoint, schema
from bareon.storage.allocate import DoesNotFit
from bareon.storage.kind import (
    LINUX_DATA,
    UNKNOWN,
    Comparison,
    Content,
    Kind,
    Place,
    PlannedContent,
    Signature,
    Structure,
    System,
)
from bareon.storage.reader import FEATURES, FLOOR, Reader, unread

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment

SWAP = "swap"
"""The type of a swap area, and the mount point that the input gives it."""

LINUX_SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
"""The partition type GUID of a swap area; Discoverable Partitions Specification."""

_GEOMETRY = {"agcount", "agsize", "su", "sw", "sunit", "swidth"}
"""The words of mkfs.xfs with which a number of allocation groups may not agree."""

XFS_GROUPS = 4
XFS_LARGEST_GROUP = 1024 * GIB
"""Bytes of an allocation group of XFS at most."""

ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
"""The partition type GUID of an EFI system partition; UEFI specification, table 5.6."""

ESP_MOUNT = "/boot/efi"
"""The mount point of the EFI system partition in a deployed system."""

LONGEST_NAME = 255
"""Bytes of a name in a folder; Linux has no file system of which bareon makes that takes more."""

_LISTED = '*?.,;:/\\|+=<>[]"'
_NOT_IN_VFAT = set(_LISTED)


@dataclass(frozen=True)
class Type:
    """Properties of a type of file system.

    ``label`` is the longest label and ``smallest`` the smallest size that its mkfs takes with its defaults, in bytes,
    from the man pages. ``checked`` says whether an fsck at boot does anything. GRUB reads it by ``grub_module``.
    ``own_module`` says that the kernel has one module for it, of its name.
    """

    label: int
    smallest: int
    checked: bool
    grub_module: str | None
    type_guid: str = LINUX_DATA
    own_module: bool = False


TYPES: dict[str, Type] = {
    "ext2": Type(16, 1 << 20, True, "ext2"),
    "ext3": Type(16, 4 << 20, True, "ext2"),
    "ext4": Type(16, 4 << 20, True, "ext2", own_module=True),
    "xfs": Type(12, 300 << 20, False, "xfs", own_module=True),  # 300 MB since xfsprogs 5.19
    "btrfs": Type(255, 109 << 20, False, "btrfs", own_module=True),
    "vfat": Type(11, 1 << 20, True, "fat"),
    SWAP: Type(16, 1 << 20, False, None, LINUX_SWAP),
}


def smallest_fat32(sector: int) -> int:
    """The bytes that a FAT32 takes at least on sectors of ``sector`` bytes, in whole MiB.

    It has 65525 clusters, with fewer it is a FAT16 to firmware, and a cluster is at least a sector. Before them come
    32 sectors and two tables with 4 bytes for each cluster.
    """
    return round_up((65525 + 32) * sector + 2 * 4 * 65525)


# Wanted.

_FIELDS: Mapping[str, Any] = {
    "mount": {"$ref": "#/$defs/mount"},
    "file_system": {"$ref": "#/$defs/file_system"},
    "disk_label": {"$ref": "#/$defs/disk_label"},
    "mkfs_options": {"$ref": "#/$defs/mkfs_options"},
    "fstab_enabled": {"$ref": "#/$defs/fstab_enabled"},
    "fstab_options": {"$ref": "#/$defs/fstab_options"},
    "keep_data": {"$ref": "#/$defs/keep_data"},
    "images": {"$ref": "#/$defs/images"},
}


def fields() -> dict[str, Any]:
    """The schemas of the keys by which a volume describes its file system."""
    return dict(_FIELDS)


@dataclass(frozen=True)
class Mount:
    """Where a file system, or a part of it, is mounted in the deployed systems of some images.

    ``point`` is a normal absolute path, or :data:`SWAP`; ``enabled`` says whether its line in fstab is no comment.
    ``subvolume`` is the part that is mounted, by its path from the top; ``None`` for all of the file system.
    ``path`` is the JSON path of what describes it, where that is not the volume itself.
    """

    point: str
    options: str = "defaults"
    enabled: bool = True
    images: tuple[str, ...] = ()
    subvolume: str | None = None
    path: str = field(default="", compare=False)


@dataclass(frozen=True)
class Filesystem(Content):
    """A file system (or swap area) as wanted.

    ``images`` are the names of the images it belongs to. ``fat32`` asks for that kind of vfat, as firmware does of an
    ESP. ``from_image`` says that it is not made but arrives inside a block image, and may be of another type then.
    ``may_be_added`` says that the device for it may be made where it is not there, beside all that is.
    ``readers`` are the oldest programs that are to read it, ``mkfs_options`` those of its mkfs that the input gives.
    """

    type: str
    mounts: tuple[Mount, ...] = ()
    label: str | None = None
    keep_data: bool = True
    fat32: bool = False
    from_image: bool = False
    images: tuple[str, ...] = ()
    mkfs_options: tuple[str, ...] = ()
    readers: tuple[Reader, ...] = FLOOR
    may_be_added: bool = False

    @property
    def type_guid(self) -> str:
        return TYPES[self.type].type_guid

    @property
    def point(self) -> str | None:
        """Its first mount point."""
        return self.mounts[0].point if self.mounts else None

    @property
    def asked_images(self) -> Iterable[tuple[str, str]]:
        """The names of the images that it belongs to, each with the JSON path that names it."""
        return [(name, f"{self.path}.images") for name in self.images]

    def no_place_for_blocks(self, mount: Mount) -> tuple[str, str] | None:
        """What it is at a mount, so that no file system of an image can take its place, and what would be one."""
        return ("is a subvolume of another one", "a volume without subvolumes") if mount.subvolume else None

    def plan(self, place: Place) -> PlannedFilesystem:
        what, smallest = self._smallest(place.sector)
        if place.size < smallest:
            raise DoesNotFit(place.path, f"{mib(place.size)} is too small for {what}, which needs {mib(smallest)}")
        uuid = place.identifiers.filesystem(self.type, place.device)
        return PlannedFilesystem(place.device, place.size, self.type, uuid, self)

    def _smallest(self, sector: int) -> tuple[str, int]:
        """What is too small for less, and how many bytes that is."""
        return self.type, TYPES[self.type].smallest


@dataclass(frozen=True)
class EfiSystemPartition(Filesystem):
    """The file system of an EFI system partition, from which firmware starts the boot loader."""

    role: ClassVar[str] = "esp"
    type: str = "vfat"
    fat32: bool = True

    @classmethod
    def of(cls, filesystem: Filesystem) -> EfiSystemPartition:
        """A file system of the input, taken for one. What arrives in an image may be any FAT, as it is there."""
        return cls(**{**vars(filesystem), "fat32": not filesystem.from_image})

    @property
    def type_guid(self) -> str:
        return ESP

    def _smallest(self, sector: int) -> tuple[str, int]:
        if not self.fat32:
            return super()._smallest(sector)
        return "an EFI system partition", smallest_fat32(sector)


def leaf(content: Content | None) -> Filesystem | None:
    """The file system in a content, whatever it is contained in."""
    found = content.nested() if content else ()
    return next((x for x in found if isinstance(x, Filesystem)), None)


def read(
    value: dict[str, Any], path: str, found: list[Defect], *, images: tuple[str, ...], keep_data: bool
) -> Filesystem | None:
    """The file system that a volume of an input describes, ``None`` where there is to be none.

    :param found: takes the defects.
    :param images: those that it belongs to.
    :param keep_data: whether what is there is to be kept.
    """
    point = value.get("mount")
    point = None if point == "none" else point
    default = SWAP if point == SWAP else "xfs" if point else None
    kind: str | None = value.get("file_system", default)
    if kind is None:
        if "disk_label" in value:
            found.append(Defect(f"{path}.disk_label", "there is no file system to label"))
        if "mkfs_options" in value:
            found.append(Defect(f"{path}.mkfs_options", "there is no file system to make"))
        return None
    options, enabled = value.get("fstab_options", "defaults"), value.get("fstab_enabled", True)
    return Filesystem(
        type=kind,
        mounts=(Mount(point, options, enabled, images),) if point else (),
        label=value.get("disk_label"),
        keep_data=keep_data,
        images=images,
        mkfs_options=tuple(value.get("mkfs_options", ())),
        path=path,
    )


# Planned.


@dataclass(frozen=True)
class PlannedFilesystem(PlannedContent):
    """A file system on its device, with its UUID in the form that its own tools print.

    ``unseen`` says that it is kept where nobody can look yet, so that its UUID is another one than decided.
    """

    type: str
    uuid: str
    wanted: Filesystem
    unseen: bool = False

    @property
    def label(self) -> str | None:
        """The label that it is to have."""
        return self.wanted.label

    @property
    def mounts(self) -> tuple[Mounted, ...]:
        """Mounts of the file system: one for each of its mount points."""
        return tuple(Mounted(self, mount) for mount in self.wanted.mounts)

    @property
    def is_made(self) -> bool:
        """True where partitioning runs its mkfs: it is not kept, and does not arrive inside an image."""
        return self.decision != "keep" and not self.wanted.from_image

    @property
    def on(self) -> str:
        """What it lies on, for people."""
        return self.device

    @property
    def mapped_at_start(self) -> str | None:
        """The device that it is on in a system that makes it anew at each start; ``None`` for one that stays.

        There is nothing of it in the ramdisk, and what it would have for a UUID is another one each time.
        """
        return None

    @property
    def without(self) -> tuple[str, ...]:
        """The names of the features that it is made without, for the sake of its oldest readers."""
        found = unread(self.type, self.wanted.readers) if self.is_made else ()
        return tuple(x.name for x in mkfsoptions.left_off(found, self.wanted.mkfs_options))

    @property
    def parts(self) -> tuple[Mapping[str, Any], ...]:
        """The subvolumes, each as an item of that section in the JSON of the plan."""
        return ()

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that make it."""
        return (tools.filesystem.maker(self.type),) if self.is_made else ()

    def spoil(self, mount: Mount) -> None:
        """Take away what is at one of its mounts, so that nobody takes a part of an image for all of it.

        :raises CommandError: when it cannot be.
        :raises UnsuitableNode: when it is in use.
        """
        tools.device.wipe([self.device])

    def make(self, action: str) -> Iterator[Step]:
        """The steps of partitioning that make it."""
        if self.is_made:
            yield MakeFilesystem(action, self)

    @property
    def system(self) -> System:
        found = TYPES[self.type]
        modules = (self.type,) if found.own_module else ()
        return System((found.grub_module,) if found.grub_module else (), modules=modules)

    @property
    def signature(self) -> Signature | None:
        return Signature(self.type, self.uuid, self.label)

    @property
    def cells(self) -> tuple[str, str]:
        return self.type, self.wanted.point or "-"

    def differences(self, found: Signature | None, comparison: Comparison) -> Iterator[str]:
        if self.wanted.from_image:
            return  # an image's own file system may be of any kind, and is not there before the image is
        if found is None and comparison.make and not self.wanted.keep_data:
            return  # it is made anew, and a run that was cut off between wiping and making it left nothing there
        kind = found.type if found else "nothing"
        label = found.label if found else None
        if kind != self.type:
            yield f"{self.device}: expected {self.type}, found {kind}"
        elif self.label and self.label != label:
            yield f"{self.device}: expected the label {self.label!r}, found {label or 'none'!r}"

    def adopted(self, found: Signature | None, comparison: Comparison) -> PlannedFilesystem:
        anew = self._anew(comparison)
        if anew or found is None:
            return replace(self, decision="format" if anew else "keep")
        if found == UNKNOWN:
            return replace(self, decision="keep", unseen=True)
        kind = found.type if found.type in TYPES else self.type
        return replace(self, type=kind, decision="keep", uuid=found.uuid or self.uuid)

    def _anew(self, comparison: Comparison) -> bool:
        if self.wanted.from_image:
            # Under clean nothing is to be kept: disks that are as described were made by an earlier stage.
            return comparison.copy and (comparison.policy == "clean" or not self.wanted.keep_data)
        return comparison.make and not self.wanted.keep_data


def may_be_added(content: PlannedContent | None) -> bool:
    """True for a planned file system, in whatever container, for which a device may be made that is not there."""
    while isinstance(content, Structure) and len(content.devices) == 1:
        content = content.devices[0].content
    return isinstance(content, PlannedFilesystem) and content.wanted.may_be_added


@dataclass(frozen=True)
class Mounted:
    """A file system, or a subvolume of it, at one of its mount points.

    One that is ``left`` is used by somebody now, and stays as it is.
    """

    filesystem: PlannedFilesystem
    mount: Mount
    left: bool = False

    @property
    def point(self) -> str:
        return self.mount.point

    @property
    def device(self) -> str:
        return self.filesystem.device

    @property
    def type(self) -> str:
        return self.filesystem.type

    @property
    def uuid(self) -> str:
        return self.filesystem.uuid

    @property
    def source(self) -> str:
        """What it is called in fstab(5)."""
        return self.filesystem.mapped_at_start or f"UUID={self.uuid}"

    @property
    def place(self) -> tuple[str, str]:
        """The device, and the path of the subvolume on it, empty for none: two with the same hold the same files."""
        return self.device, self.mount.subvolume or ""

    @property
    def above(self) -> str:
        """What comes before a path of it to a boot loader, which begins at the top of the file system."""
        return f"/{self.mount.subvolume}" if self.mount.subvolume else ""

    @property
    def flags(self) -> tuple[str, ...]:
        """The options of mount(8) without which another part of the file system would be mounted."""
        return (f"subvol={self.mount.subvolume}",) if self.mount.subvolume else ()

    @property
    def options(self) -> str:
        """Its options in fstab(5)."""
        return ",".join([self.mount.options, *self.flags])

    @property
    def size(self) -> int:
        return self.filesystem.size

    @property
    def kept(self) -> bool:
        """True where the file system is kept with what is in it."""
        return self.filesystem.decision == "keep"


def document(filesystem: object) -> dict[str, Any]:
    """JSON members of the plan for the file system on a device; nulls where there is none."""
    found = filesystem if isinstance(filesystem, PlannedFilesystem) else None
    return {
        "mount": found.wanted.point if found else None,
        "file_system": found.type if found else None,
        "uuid": found.uuid if found and not (found.unseen or found.mapped_at_start) else None,
        "label": found.label if found else None,
        "mkfs": _mkfs(found) if found else None,
        "images": list(found.wanted.images) if found else [],
    }


def _mkfs(filesystem: PlannedFilesystem) -> dict[str, Any] | None:
    wanted = filesystem.wanted
    if not filesystem.is_made or not (wanted.mkfs_options or filesystem.type in FEATURES):
        return None
    return {
        "without": list(filesystem.without),
        "readers": [str(reader) for reader in wanted.readers],
        "options": list(wanted.mkfs_options),
    }


def planned_fields() -> dict[str, schema.Schema]:
    """The schemas of what :func:`document` says."""
    return {
        "mount": schema.optional_string("The mount point in the deployed system, or swap."),
        "file_system": schema.optional_string("The kind of file system."),
        "uuid": schema.optional_string("The UUID of the file system."),
        "label": schema.optional_string("The label of the file system."),
        "mkfs": schema.optional_record(
            "How it is made; null where it is not, or there is nothing to choose.",
            {
                "without": schema.items("The features that it is made without, since a reader does not know them."),
                "readers": schema.items("The oldest programs that are to read it: a kernel, and GRUB where it does."),
                "options": schema.items("The options of mkfs that the input gives."),
            },
        ),
        "images": schema.items("The names of the images it belongs to."),
    }


@dataclass(frozen=True)
class MakeFilesystem(Step):
    """Make a file system with the UUID that was decided for it."""

    filesystem: PlannedFilesystem

    @cached_property
    def description(self) -> str:
        fs = self.filesystem
        points = ", ".join(dict.fromkeys(x.point for x in fs.wanted.mounts if x.point != SWAP))
        return f"Make {fs.type} on {fs.device} ({human(fs.size)})" + (f" for {points}" if points else "")

    @property
    def destroys(self) -> tuple[str, ...]:
        return (self.filesystem.device,) if self.filesystem.decision == "format" else ()

    def preflight(self) -> None:
        # An array or logical volume that does not run yet has no device, and nobody who could use it.
        if self.filesystem.decision == "format" and Path(self.filesystem.device).exists():
            tools.device.refuse_if_busy(self.filesystem.device)

    def run(self, progress: Progress) -> Outcome:
        fs = self.filesystem
        if fs.decision == "format":
            tools.device.wipe([fs.device])
        given = fs.wanted.mkfs_options
        groups = allocation_groups(fs.type, fs.size, striped=tools.lsblk.striped(fs.device))
        if mkfsoptions.named(given).keys() & _GEOMETRY:
            groups = None
        # What it does not know it does not make, and would fail at.
        version = tools.filesystem.version(fs.type) if fs.without else None
        more = mkfsoptions.arguments(fs.type, fs.without, given, version)
        tools.filesystem.make(fs.type, fs.device, fs.uuid, fs.label, fat32=fs.wanted.fat32, groups=groups, more=more)
        tools.udev.look_again(fs.device)
        return {"bytes": fs.size}


def allocation_groups(kind: str, size: int, *, striped: bool) -> int | None:
    """The number of allocation groups to ask for; ``None`` where mkfs is to choose, or there are none.

    Four are its own choice for a single disk of less than 4 TiB. Since xfsprogs 6.8 it takes one for each processor
    where the disk does not rotate.
    """
    return XFS_GROUPS if kind == "xfs" and size < XFS_GROUPS * XFS_LARGEST_GROUP and not striped else None


# The kind.


class _Filesystems(Kind):
    name = "file system"

    def defects(self, deployment: Deployment) -> Iterator[Defect]:
        known = {image.name for image in deployment.images}
        for fs in deployment.filesystems():
            for name, path in fs.asked_images:
                if name not in known:
                    listed = ", ".join(map(repr, sorted(known))) or "none"
                    yield Defect(path, f"no image is named {name!r}; known: {listed}")
            for mount in fs.mounts:
                if (fs.type == SWAP) != (mount.point == SWAP):
                    yield Defect(f"{mount.path or fs.path}.mount", f"{fs.type} cannot be mounted at {mount.point!r}")
                yield from _mount_point(mount.point, mount.path or fs.path)
            yield from _label(fs)
            for number, reason in mkfsoptions.refusals(fs.type, fs.mkfs_options):
                yield Defect(f"{fs.path}.mkfs_options[{number}]", reason)


def _mount_point(point: str, path: str) -> Iterator[Defect]:
    if any(len(part.encode("utf-8", "surrogateescape")) > LONGEST_NAME for part in point.split("/")):
        yield Defect(f"{path}.mount", f"a folder's name has at most {LONGEST_NAME} bytes")
    if reason := mountpoint.refusal(point):
        yield Defect(f"{path}.mount", reason)


def _label(fs: Filesystem) -> Iterator[Defect]:
    if not fs.label:
        return
    limit = TYPES[fs.type].label
    if len(fs.label.encode()) > limit:
        yield Defect(f"{fs.path}.disk_label", f"longer than the {limit} bytes that {fs.type} can hold")
    if fs.label != fs.label.rstrip():
        yield Defect(f"{fs.path}.disk_label", "ends with a space, which no program that reads labels would find")
    if fs.type == "vfat" and (not fs.label.isascii() or set(fs.label) & _NOT_IN_VFAT):
        yield Defect(f"{fs.path}.disk_label", "a vfat label is of ASCII characters, none of them one of " + _LISTED)


KIND = _Filesystems()
