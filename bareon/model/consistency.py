# SPDX-License-Identifier: Apache-2.0
"""What a deployment must satisfy whatever its dialect and whatever the node. No hardware is needed to know it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from bareon.errors import Defect
from bareon.model.deployment import Deployment
from bareon.model.disk import Partition, PhysicalVolume, RaidMember
from bareon.model.filesystem import LABEL_LIMITS, Filesystem
from bareon.model.lvm import LONGEST_DEVICE_NAME, NAMES_IN_DEV, RESERVED, RESERVED_PARTS
from bareon.model.raid import FEWEST, Array

#: Bytes of a name in a folder; Linux has no file system of which bareon makes that takes more.
LONGEST_NAME = 255
#: Folders at the root that the kernel and systemd fill while a system runs.
OF_THE_KERNEL = ("dev", "proc", "run", "sys")


def defects(deployment: Deployment) -> list[Defect]:
    """Every contradiction inside ``deployment``, in no particular order."""
    return [
        *_disks(deployment),
        *_guids(deployment),
        *_arrays(deployment),
        *_groups(deployment),
        *_image_names(deployment),
        *_filesystems(deployment),
        *_mounts(deployment),
        *_targets(deployment),
    ]


def _repeated(items: Iterable[tuple[object, str]]) -> Iterator[tuple[object, str, str]]:
    """(key, path of the first, path of the repetition) for every key that comes again."""
    first: dict[object, str] = {}
    for key, path in items:
        if key in first:
            yield key, first[key], path
        else:
            first[key] = path


_LISTED = '*?.,;:/\\|+=<>[]"'
_NOT_IN_VFAT = set(_LISTED)


def _disks(deployment: Deployment) -> Iterator[Defect]:
    ids = ((x, disk.path) for disk in deployment.disks for x in dict.fromkeys(sum(disk.id.ranks(), ())))
    for first, again in dict.fromkeys((first, again) for _, first, again in _repeated(ids)):
        yield Defect(f"{again}.id", f"the same disk as {first}: describe a disk once, with all its volumes")


def _guids(deployment: Deployment) -> Iterator[Defect]:
    partitions = (v for disk in deployment.disks for v in disk.volumes if isinstance(v, Partition))
    guids = ((partition.guid, partition.path) for partition in partitions if partition.guid)
    for guid, first, again in _repeated(guids):
        yield Defect(f"{again}.partition_guid", f"{guid} is already the GUID of {first}")


def _arrays(deployment: Deployment) -> Iterator[Defect]:
    for name, first, again in _repeated((array.name, array.path) for array in deployment.arrays):
        yield Defect(f"{again}.name", f"the array of {first} is already called {name!r}: give one another name")
    for array in deployment.arrays:
        members = [
            (disk, volume)
            for disk in deployment.disks
            for volume in disk.volumes
            if isinstance(volume, RaidMember) and volume.array == array.name
        ]
        if len(members) < FEWEST[array.level]:
            needed = FEWEST[array.level]
            yield Defect(array.path, f"{array.level} needs {needed} members or more, found {len(members)}")
        for _, first, again in _repeated((disk.path, volume.path) for disk, volume in members):
            yield Defect(again, f"a second member of array {array.name!r} on one disk, beside {first}")


def physical_volumes(deployment: Deployment) -> list[PhysicalVolume | Array]:
    """All that is to be a physical volume."""
    partitions = [v for disk in deployment.disks for v in disk.volumes if isinstance(v, PhysicalVolume)]
    return [*partitions, *(array for array in deployment.arrays if array.vg)]


def _groups(deployment: Deployment) -> Iterator[Defect]:
    groups = {group.name for group in deployment.volume_groups}
    for name, first, again in _repeated((group.name, group.path) for group in deployment.volume_groups):
        yield Defect(f"{again}.id", f"{name!r} is already the volume group of {first}")
    for group in deployment.volume_groups:
        if group.name in NAMES_IN_DEV or re.fullmatch(
            r"(sd|vd|hd|xvd|nvme|md|dm-|loop|ram|tty|sr|mmcblk).*\d.*", group.name
        ):
            yield Defect(f"{group.path}.id", f"/dev/{group.name} is something else: give the group another name")
    members = physical_volumes(deployment)
    for member in members:
        if member.vg not in groups:
            listed = ", ".join(map(repr, sorted(groups))) or "none"
            yield Defect(f"{member.path}.vg", f"there is no volume group {member.vg!r}; there are: {listed}")
    for group in deployment.volume_groups:
        if not any(member.vg == group.name for member in members):
            yield Defect(group.path, f"volume group {group.name!r} has no physical volume: no pv names it by 'vg'")
        for name, first, again in _repeated((volume.name, volume.path) for volume in group.volumes):
            yield Defect(f"{again}.name", f"{name!r} is already the name of {first}")
        for volume in group.volumes:
            if volume.name.startswith(RESERVED) or any(part in volume.name for part in RESERVED_PARTS):
                yield Defect(f"{volume.path}.name", f"LVM keeps the name {volume.name!r} for itself")
            if len(f"{group.name}{volume.name}".replace("-", "--")) + 1 > LONGEST_DEVICE_NAME:
                yield Defect(f"{volume.path}.name", "the names of group and volume are too long together")


def _image_names(deployment: Deployment) -> Iterator[Defect]:
    for name, first, again in _repeated((image.name, image.path) for image in deployment.images):
        yield Defect(f"{again}.name", f"{name!r} is already the name of {first}")
    booting = [image for image in deployment.images if image.boot]
    for image in booting[1:]:
        yield Defect(
            f"{image.path}.boot",
            f"only one image can be the default, and {booting[0].path} is already",
        )


def _filesystems(deployment: Deployment) -> Iterator[Defect]:
    known = {image.name for image in deployment.images}
    for fs in deployment.filesystems():
        for name in fs.images:
            if name not in known:
                listed = ", ".join(map(repr, sorted(known))) or "none"
                yield Defect(f"{fs.path}.images", f"no image is named {name!r}; known: {listed}")
        if (fs.type == "swap") != (fs.mount == "swap") and fs.mount is not None:
            yield Defect(f"{fs.path}.mount", f"a {fs.type} file system cannot be mounted at {fs.mount!r}")
        yield from _mount_point(fs)
        if fs.label and len(fs.label.encode()) > LABEL_LIMITS[fs.type]:
            limit = LABEL_LIMITS[fs.type]
            yield Defect(f"{fs.path}.disk_label", f"longer than the {limit} bytes that {fs.type} can hold")
        if fs.label and fs.label != fs.label.rstrip():
            yield Defect(f"{fs.path}.disk_label", "ends with a space, which no program that reads labels would find")
        if fs.label and fs.type == "vfat" and (not fs.label.isascii() or set(fs.label) & _NOT_IN_VFAT):
            yield Defect(
                f"{fs.path}.disk_label", "a vfat label is of ASCII characters, none of them one of " + _LISTED
            )


def _mount_point(fs: Filesystem) -> Iterator[Defect]:
    parts = (fs.mount or "").split("/")
    if any(len(part.encode("utf-8", "surrogateescape")) > LONGEST_NAME for part in parts):
        yield Defect(f"{fs.path}.mount", f"a folder's name has at most {LONGEST_NAME} bytes")
    if len(parts) > 1 and parts[1] in OF_THE_KERNEL:
        yield Defect(f"{fs.path}.mount", f"/{parts[1]} belongs to the kernel of the running system")


def _trees(deployment: Deployment) -> dict[str, list[Filesystem]]:
    """The mounted file systems of each image, swap left out.

    Without images they still belong to one system, which has the empty name.
    """
    found: dict[str, list[Filesystem]] = defaultdict(list)
    for fs in deployment.filesystems():
        if fs.mount not in (None, "swap"):
            for image in fs.images or ("",):
                found[image].append(fs)
    return found


def _mounts(deployment: Deployment) -> Iterator[Defect]:
    for image, filesystems in _trees(deployment).items():
        for mount, first, again in _repeated((fs.mount, fs.path) for fs in filesystems):
            where = f" of image {image!r}" if image else ""
            yield Defect(f"{again}.mount", f"{mount} is already the mount point of {first}{where}")


def _targets(deployment: Deployment) -> Iterator[Defect]:
    trees = _trees(deployment)
    for image in deployment.images:
        mounts = [str(fs.mount) for fs in trees.get(image.system, ())]
        if image.target not in mounts:
            listed = ", ".join(mounts[:20]) or "none"
            message = f"no volume of image {image.name!r} is mounted at {image.target}; its mount points: {listed}"
            yield Defect(f"{image.path}.target", message)
