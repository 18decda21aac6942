# SPDX-License-Identifier: Apache-2.0
"""Contradictions within a deployment, of any dialect and for any node.

Those within one kind of storage are found by that kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from bareon.errors import Defect
from bareon.model.deployment import Deployment
from bareon.sizes import Absolute, mib
from bareon.storage.filesystem import ESP_MOUNT, SWAP, smallest_fat32
from bareon.storage.kinds import KINDS

_ESP_LEFT_OUT = "leave it out, bareon makes one on each disk that has none"


def defects(deployment: Deployment) -> list[Defect]:
    """Every contradiction inside ``deployment``, in no particular order."""
    return [
        *_disks(deployment),
        *(defect for kind in KINDS for defect in kind.defects(deployment)),
        *_image_names(deployment),
        *_mounts(deployment),
        *_esps(deployment),
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


def _disks(deployment: Deployment) -> Iterator[Defect]:
    ids = ((x, disk.path) for disk in deployment.disks for x in dict.fromkeys(disk.id.all))
    for first, again in dict.fromkeys((first, again) for _, first, again in _repeated(ids)):
        yield Defect(f"{again}.id", f"the same disk as {first}: describe a disk once, with all its volumes")


def _image_names(deployment: Deployment) -> Iterator[Defect]:
    for name, first, again in _repeated((image.name, image.path) for image in deployment.images):
        yield Defect(f"{again}.name", f"{name!r} is already the name of {first}")
    booting = [image for image in deployment.images if image.boot]
    for image in booting[1:]:
        yield Defect(
            f"{image.path}.boot",
            f"only one image can be the default, and {booting[0].path} is already",
        )


def _trees(deployment: Deployment) -> dict[str, list[tuple[str, str]]]:
    """The mount points of each image with the paths of what describes them, swap left out.

    Without images they still belong to one system, which has the empty name.
    """
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for fs in deployment.filesystems():
        for mount in fs.mounts:
            if mount.point != SWAP:
                for image in mount.images or ("",):
                    found[image].append((mount.point, mount.path or fs.path))
    return found


def _mounts(deployment: Deployment) -> Iterator[Defect]:
    for image, mounts in _trees(deployment).items():
        for point, first, again in _repeated(mounts):
            where = f" of image {image!r}" if image else ""
            hint = f": {_ESP_LEFT_OUT}" if point == ESP_MOUNT else ""
            yield Defect(f"{again}.mount", f"{point} is already the mount point of {first}{where}{hint}")


def _esps(deployment: Deployment) -> Iterator[Defect]:
    """Defects of what is mounted where the EFI system partition is, which it is to be on a UEFI node."""
    plain = {id(volume.content): volume for disk in deployment.disks for volume in disk.volumes}
    for fs in deployment.filesystems():
        for point in (mount.point for mount in fs.mounts):
            if point.startswith(f"{ESP_MOUNT}/"):
                yield Defect(f"{fs.path}.mount", f"{point} lies in the EFI system partition, which is one whole")
            if point != ESP_MOUNT:
                continue
            volume = plain.get(id(fs))
            if deployment.multiboot:
                message = f"with several images it is that of the boot loader that starts them all: {_ESP_LEFT_OUT}"
                yield Defect(f"{fs.path}.mount", message)
            elif not volume:
                message = f"firmware reads an EFI system partition from a plain partition alone: {_ESP_LEFT_OUT}"
                yield Defect(f"{fs.path}.mount", message)
            elif fs.type != "vfat":
                message = f"{fs.type} at {ESP_MOUNT}: firmware reads an EFI system partition as vfat alone"
                yield Defect(f"{fs.path}.file_system", message)
            elif isinstance(volume.size, Absolute) and volume.size.size < (least := smallest_fat32(512)):
                what = f"{mib(volume.size.size)} is too small for an EFI system partition"
                yield Defect(f"{volume.path}.size", f"{what}, which needs {mib(least)}")


def shared_targets(deployment: Deployment) -> Iterator[Defect]:
    """Defects of images that would be brought to one place: the files of the second would replace the first's."""
    for fs in deployment.filesystems():
        for place in fs.mounts:
            images = [x for x in deployment.images if x.system in place.images and x.target == place.point]
            for image in images[1:]:
                message = f"the volume at {place.point} ({fs.path}) is already that of image {images[0].name!r}"
                yield Defect(f"{image.path}.target", message)


def _targets(deployment: Deployment) -> Iterator[Defect]:
    trees = _trees(deployment)
    for image in deployment.images:
        points = [point for point, _ in trees.get(image.system, ())]
        if image.target not in points:
            listed = ", ".join(points[:20]) or "none"
            message = f"no volume of image {image.name!r} is mounted at {image.target}; its mount points: {listed}"
            yield Defect(f"{image.path}.target", message)
