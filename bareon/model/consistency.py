# SPDX-License-Identifier: Apache-2.0
"""Contradictions within a deployment, of any dialect and for any node.

Those within one kind of storage are found by that kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from bareon.errors import Defect
from bareon.model.deployment import Deployment
from bareon.storage.filesystem import SWAP, Filesystem
from bareon.storage.kinds import KINDS


def defects(deployment: Deployment) -> list[Defect]:
    """Every contradiction inside ``deployment``, in no particular order."""
    return [
        *_disks(deployment),
        *(defect for kind in KINDS for defect in kind.defects(deployment)),
        *_image_names(deployment),
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


def _disks(deployment: Deployment) -> Iterator[Defect]:
    ids = ((x, disk.path) for disk in deployment.disks for x in dict.fromkeys(sum(disk.id.ranks(), ())))
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


def _trees(deployment: Deployment) -> dict[str, list[tuple[str, Filesystem]]]:
    """The mount points of each image with their file systems, swap left out.

    Without images they still belong to one system, which has the empty name.
    """
    found: dict[str, list[tuple[str, Filesystem]]] = defaultdict(list)
    for fs in deployment.filesystems():
        for mount in fs.mounts:
            if mount.point != SWAP:
                for image in mount.images or ("",):
                    found[image].append((mount.point, fs))
    return found


def _mounts(deployment: Deployment) -> Iterator[Defect]:
    for image, mounts in _trees(deployment).items():
        for point, first, again in _repeated((point, fs.path) for point, fs in mounts):
            where = f" of image {image!r}" if image else ""
            yield Defect(f"{again}.mount", f"{point} is already the mount point of {first}{where}")


def _targets(deployment: Deployment) -> Iterator[Defect]:
    trees = _trees(deployment)
    for image in deployment.images:
        points = [point for point, _ in trees.get(image.system, ())]
        if image.target not in points:
            listed = ", ".join(points[:20]) or "none"
            message = f"no volume of image {image.name!r} is mounted at {image.target}; its mount points: {listed}"
            yield Defect(f"{image.path}.target", message)
