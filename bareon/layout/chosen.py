# SPDX-License-Identifier: Apache-2.0
"""Some images of several: what a run that brings these alone leaves as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bareon.errors import Defect, InvalidInput, UsageError
from bareon.model.deployment import Deployment
from bareon.storage.filesystem import Filesystem


def chosen(deployment: Deployment, names: Sequence[str]) -> Deployment:
    """The deployment that brings the images of these names alone.

    Every file system that another image has as well, or that none of these has, is kept, whatever is said of it. What
    is these images' alone may be added where it is not there.

    :raises UsageError: for no name, as of a variable that is empty, for names that no image has, and for some
        of the images that make up one system: its file systems are made anew, and the others would be gone.
    :raises InvalidInput: for a deployment that clears its disks, and with them whatever other images are there.
    """
    if not names:
        raise UsageError("--image: names no image")
    known = [image.name for image in deployment.images]
    if strange := [name for name in names if name not in known]:
        listed = ", ".join(map(repr, known)) or "none"
        raise UsageError(f"--image: no image is named {', '.join(map(repr, strange))}; known: {listed}")
    systems = {image.system for image in deployment.images if image.name in names}
    if torn := [x.name for x in deployment.images if x.system in systems and x.name not in names]:
        listed = ", ".join(map(repr, torn))
        raise UsageError(f"--image: {listed} would be lost: of images that make up one system, name all or none")
    others = {image.system for image in deployment.images} - systems
    if deployment.policy != "verify":
        message = f"--image is for 'verify': {deployment.policy!r} clears the disks, with all other images on them"
        raise InvalidInput([Defect("$.partitions_policy", message)])

    def changed(fs: Filesystem) -> Filesystem:
        if fs.images and systems.issuperset(fs.images):
            return replace(fs, may_be_added=True)
        return replace(fs, keep_data=True) if others else fs

    return replace(deployment.with_filesystems(changed), brought=frozenset(names))


def without(deployment: Deployment, names: Sequence[str]) -> Deployment:
    """The deployment that takes images of these names, which it has no longer, out of the menu and brings none.

    Every file system is kept, whatever is said of it.

    :raises UsageError: for no name, and for one that the deployment still has.
    :raises InvalidInput: for a deployment that clears its disks, and for one that keeps no menu.
    """
    if not names:
        raise UsageError("--remove_image: names no image")
    if there := [image.name for image in deployment.images if image.name in names]:
        listed = ", ".join(map(repr, there))
        raise UsageError(
            f"--remove_image: the document still has {listed}: leave it out there, its volumes described"
        )
    if deployment.policy != "verify":
        message = f"--remove_image is for 'verify': {deployment.policy!r} clears the disks"
        raise InvalidInput([Defect("$.partitions_policy", message)])
    if not deployment.multiboot:
        message = "one image is left: have '\"multiboot\": true' on the disk with the menu, which it keeps"
        raise InvalidInput([Defect("$.partitions", message)])
    kept = deployment.with_filesystems(lambda fs: replace(fs, keep_data=True))
    return replace(kept, brought=frozenset(), removed=tuple(names))
