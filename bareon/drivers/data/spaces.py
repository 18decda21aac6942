# SPDX-License-Identifier: Apache-2.0
"""``ks_spaces`` of the nailgun dialect: disks and volume groups, with sizes in MiB of which 0 means: not made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bareon.errors import Defect
from bareon.sizes import MIB, Absolute
from bareon.storage import filesystem
from bareon.storage.disk import Disk, DiskId, DiskIds, Partition
from bareon.storage.kind import Aggregate
from bareon.storage.lvm import LEAST_METADATA, LogicalVolume, PhysicalVolume, VolumeGroup
from bareon.storage.md import Arrays

_METADATA = 64  # MiB of a physical volume, where the input does not say
_LEAST_METADATA = LEAST_METADATA // MIB  # MiB
_UNUSED = 8  # MiB of that, which are in neither copy of the metadata
_WITHOUT_EFFECT = ("boot", "lvm_meta_pool")
_Placed = tuple[dict[str, Any], str]


class Spaces:
    """From the entries to the model. ``defects`` collects what no schema can express, ``warnings`` what is left out.

    :param root: where the entries are, a JSON path.
    :param images: of each file system.
    :param formats: file systems that come with an image, by their mount points.
    """

    def __init__(
        self,
        entries: list[dict[str, Any]],
        root: str,
        images: tuple[str, ...],
        formats: Mapping[str, str],
    ) -> None:
        self.defects: list[Defect] = []
        self.warnings: list[str] = []
        self._images = images
        self._formats = formats
        self._made_up: list[Aggregate] = []
        self._arrays = Arrays(self._made_up, self.defects)
        placed = [(entry, f"{root}[{i}]") for i, entry in enumerate(entries)]
        self._disks = [(entry, path) for entry, path in placed if entry["type"] == "disk"]
        self._groups = [(entry, path) for entry, path in placed if entry["type"] == "vg"]
        volumes = [volume for entry, path in self._disks for volume, _ in _made(entry, path)]
        members = [volume for volume in volumes if volume["type"] == "pv"]
        self._used_groups = {volume["vg"] for volume in members}
        self._kept_groups = {volume["vg"] for volume in members if volume.get("keep_data")}
        self._bootable = self._only_bootable()

    @property
    def keeps_data(self) -> bool:
        """True if any volume is to be kept, so that the disks must be as described already."""
        entries = [volume for entry, path in (*self._disks, *self._groups) for volume, _ in _made(entry, path)]
        return any(volume.get("keep_data") for volume in entries)

    def disks(self) -> tuple[Disk, ...]:
        """The disks on which something is made."""
        found = tuple(self._disk(entry, path) for entry, path in self._disks)
        return tuple(disk for disk in found if disk.volumes)

    def arrays(self) -> tuple[Aggregate, ...]:
        """The arrays, once the disks were asked for."""
        return tuple(self._made_up)

    def groups(self) -> tuple[VolumeGroup, ...]:
        """The volume groups that have a physical volume; of the others ``warnings`` names the volumes.

        Where a physical volume is of a group that is not there, one name may be meant for the other: all are taken.
        """
        if self._used_groups - {entry["id"] for entry, _ in self._groups}:
            found = tuple(self._group(entry, path) for entry, path in self._groups)
            return tuple(group for group in found if group.volumes or group.name in self._used_groups)
        for entry, path in self._groups:
            left = [volume["name"] for volume, _ in _made(entry, path)]
            if left and entry["id"] not in self._used_groups:
                said = f"volume group {entry['id']!r} has no physical volume, so that nothing is made of it"
                self.warnings.append(f"{path}: {said}: {', '.join(left)}")
        made = [x for x in self._groups if x[0]["id"] in self._used_groups]
        return tuple(self._group(entry, path) for entry, path in made)

    def _only_bootable(self) -> str | None:
        """The path of the disk that is said to be the one to boot from."""
        marked = [(entry, path) for entry, path in self._disks if entry.get("bootable")]
        for _, path in marked[1:]:
            message = f"only one disk can be bootable, and {marked[0][1]} already is"
            self.defects.append(Defect(f"{path}.bootable", message))
        offering = [path for entry, path in self._disks if any(_is_boot(x) for x, _ in _made(entry, path))]
        if marked and offering and marked[0][1] not in offering:
            message = f"it has no volume for /boot, and {', '.join(offering)} has"
            self.defects.append(Defect(f"{marked[0][1]}.bootable", message))
        return marked[0][1] if marked else None

    def _disk(self, value: dict[str, Any], path: str) -> Disk:
        made = list(_made(value, path))
        if made and not value["size"]:
            self.defects.append(Defect(f"{path}.size", "a disk of no size cannot hold volumes"))
        volumes = [(x, self._volume(x, where)) for x, where in made]
        wanted = tuple(volume for x, volume in volumes if self._is_wanted(x, path))
        # Fuel has measured that size, in a ramdisk of its own and by its own rules; the real disk is the limit.
        return Disk(DiskIds(tuple(_ranks(value))), None, wanted, path, any_firmware=True)

    def _is_wanted(self, volume: dict[str, Any], disk: str) -> bool:
        return self._bootable is None or disk == self._bootable or not _is_boot(volume)

    def _volume(self, value: dict[str, Any], path: str) -> Partition:
        size = _size(value)
        if value["type"] == "pv":
            metadata, backup = self._metadata(value, path)
            return Partition(size, PhysicalVolume(value["vg"], metadata, backup, path=path), path=path)
        wanted = self._filesystem(value, path, bool(value.get("keep_data")))
        if value["type"] == "partition" or _is_boot(value):
            guid = value.get("partition_guid")
            one_of = _is_boot(value) and self._bootable is None
            return Partition(size, wanted, value.get("name"), guid and guid.upper(), path=path, one_of=one_of)
        return self._arrays.member(value, path, size, wanted)

    def _metadata(self, value: dict[str, Any], path: str) -> tuple[int, int]:
        """Bytes at the start and at the end of a physical volume that are not LVM's to give away."""
        size = int(value.get("lvm_meta_size", _METADATA))
        if size < _LEAST_METADATA:
            self.defects.append(Defect(f"{path}.lvm_meta_size", f"must be at least {_LEAST_METADATA} (MiB)"))
        elif int(value["size"]) <= size:
            message = f"{int(value['size'])} MiB leave no room beside {size} MiB of metadata (lvm_meta_size)"
            self.defects.append(Defect(f"{path}.size", message))
        copy = max(1, (size - _UNUSED) // 2)
        # The first copy begins behind LVM's label, and extents at whole MiB.
        return (copy + 1) * MIB, copy * MIB

    def _group(self, value: dict[str, Any], path: str) -> VolumeGroup:
        kept = value["id"] in self._kept_groups
        volumes = (self._logical_volume(volume, where, kept) for volume, where in _made(value, path))
        return VolumeGroup(value["id"], tuple(volumes), path=path)

    def _logical_volume(self, value: dict[str, Any], path: str, kept: bool) -> LogicalVolume:
        wanted = self._filesystem(value, path, kept or bool(value.get("keep_data")))
        return LogicalVolume(_size(value), wanted, name=value["name"], path=path)

    def _filesystem(self, value: dict[str, Any], path: str, keep_data: bool) -> filesystem.Filesystem | None:
        point = value.get("mount", "none")
        if value.get("file_system") == "none":
            if point != "none":
                self.defects.append(Defect(f"{path}.file_system", f"without one nothing is mounted at {point}"))
            value = {key: x for key, x in value.items() if key not in ("file_system", "mount")}
        elif point in self._formats:
            value = {**value, "file_system": self._formats[point]}
        return filesystem.read(value, path, self.defects, images=self._images, keep_data=keep_data)


def _made(value: dict[str, Any], path: str) -> Iterator[_Placed]:
    """The volumes of a disk or group that are made, with their paths."""
    for number, volume in enumerate(value["volumes"]):
        if volume["type"] not in _WITHOUT_EFFECT and volume["size"] > 0:
            yield volume, f"{path}.volumes[{number}]"


def _is_boot(volume: dict[str, Any]) -> bool:
    return volume.get("mount") == "/boot" and volume["type"] in ("partition", "raid")


def _size(value: dict[str, Any]) -> Absolute:
    return Absolute(int(value["size"]) * MIB)


def _ranks(value: dict[str, Any]) -> Iterator[tuple[DiskId, ...]]:
    """The identities of a disk: any of its links, else its own one, else its name."""
    if links := value.get("extra"):
        yield tuple(DiskId("path", link) for link in links)
    link = value["id"].removeprefix("/dev/")
    yield (DiskId("path", link if link.startswith("disk/") else f"disk/{link}"),)
    yield (DiskId("name", value["name"]),)
