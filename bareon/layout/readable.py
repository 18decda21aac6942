# SPDX-License-Identifier: Apache-2.0
"""The oldest programs that are to read each file system: kernels of the images it belongs to, and their GRUB."""

from __future__ import annotations

from dataclasses import replace

from bareon.model.deployment import Deployment
from bareon.storage.filesystem import Filesystem
from bareon.storage.reader import GRUB, LINUX, Reader, oldest


def readable(deployment: Deployment) -> Deployment:
    """The deployment with the oldest readers of each file system that belongs to images.

    What nobody has seen is assumed. GRUB reads what holds ``/boot``, or lies in it; that of several images is not
    theirs but the ramdisk's, of which no more is known. A file system of no image, such as the multiboot partition,
    has the readers that are assumed.
    """
    seen = {name: _seen(deployment, name) for name in {x.system for x in deployment.images}}
    booted = deployment.booted()

    def read(fs: Filesystem) -> Filesystem:
        found = [x for name in fs.images for x in seen.get(name, (LINUX, GRUB))]
        by_grub = any((name, mount.point) in booted for mount in fs.mounts for name in mount.images)
        kept = [x for x in found if x.name == "Linux" or by_grub]
        return replace(fs, readers=oldest(kept)) if fs.images else fs

    return deployment.with_filesystems(read)


def _seen(deployment: Deployment, name: str) -> tuple[Reader, ...]:
    """The kernel and the GRUB of a system, each as it was seen, else as it is assumed."""
    found = {x.name: x for x in oldest(x for y in deployment.images if y.system == name for x in y.readers)}
    return found.get("Linux", LINUX), GRUB if deployment.multiboot else found.get("GRUB", GRUB)
