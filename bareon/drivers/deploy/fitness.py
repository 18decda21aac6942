# SPDX-License-Identifier: Apache-2.0
"""Whether a tree that was surveyed can be brought onto its volumes, before anything is written."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from bareon.drivers.deploy.listing import Share, Survey, described
from bareon.errors import Defect, InvalidInput, UnsuitableNode
from bareon.model.deployment import Deployment
from bareon.model.image import Image
from bareon.sizes import MIB, human, mib
from bareon.system.tree import holds
from bareon.tools import inode

_OF_THE_KERNEL = ("/dev", "/proc", "/run", "/sys")
_OF_A_SYSTEM = ("/", "/usr", "/var")
_ROOT_FOLDER = 512  # slots of the top folder of a FAT12 or FAT16, by mkfs.fat(8)
_FAT32 = 512 * MIB  # from this size on mkfs.fat makes FAT32
_SHOWN = 5  # reasons of a kind


def unfit_for_trees(images: Sequence[Image], deployment: Deployment, *, archives: bool = False) -> Iterator[Defect]:
    """Defects of volumes that cannot hold what every tree of a system has, of these images' systems.

    :param archives: that the trees come as archives, of which nothing at all can be brought to vfat.
    """
    systems = {image.system for image in images}
    points = (*_OF_A_SYSTEM, "/boot") if archives else _OF_A_SYSTEM
    for fs in deployment.filesystems():
        for mount in fs.mounts:
            if fs.type == "vfat" and mount.point in points and systems & set(mount.images):
                reason = f"vfat keeps no owners, modes and links, which a system needs at {mount.point}"
                yield Defect(f"{fs.path}.file_system", reason)


def judge(name: str, survey: Survey, *, sparse: bool) -> None:
    """Refuse a tree that could not be brought.

    :param name: that of the image.
    :param sparse: whether holes of files stay holes, so that sizes say nothing of the room that is needed.
    :raises InvalidInput: for what the author of the input must mend, at its JSON path.
    :raises UnsuitableNode: when a volume is too small.
    """
    if defects := [*_mount_points(name, survey), *_not_in_vfat(name, survey)]:
        raise InvalidInput(defects)
    fresh = [share for share in survey.shares if not share.mount.kept]
    together: dict[str, list[Share]] = {}
    for share in fresh:
        together.setdefault(share.mount.device, []).append(share)
    reasons = [] if sparse else [x for shares in together.values() for x in _too_large(name, shares)]
    reasons += [x for share in fresh for x in _too_many(name, share)]
    if reasons:
        raise UnsuitableNode(*reasons)


def _mount_points(name: str, survey: Survey) -> Iterator[Defect]:
    points = [share.mount for share in survey.shares]
    for place, (kind, link) in survey.instead.items():
        for mount in points:
            if not holds(place, mount.point):
                continue
            found = f"image {name!r} has {described(kind, link)} at {place}"
            found += "" if place == mount.point else f", on the way to {mount.point}"
            remedy = "choose another mount point"
            if link is not None:
                led = posixpath.normpath(posixpath.join(posixpath.dirname(place), link))
                other = posixpath.join(led, mount.point[len(place) + 1 :]).rstrip("/")
                taken = not other or other in [x.point for x in points]
                if not taken and not any(holds(x, other) for x in _OF_THE_KERNEL):
                    remedy = f"mount it at {other}"
            yield Defect(f"{mount.filesystem.wanted.path}.mount", f"{found}, where no volume can be; {remedy}")


def _not_in_vfat(name: str, survey: Survey) -> Iterator[Defect]:
    for share in survey.shares:
        if share.lost is None:
            continue
        path = f"{share.mount.filesystem.wanted.path}.file_system"
        reasons = share.lost.reasons
        for reason in reasons[:_SHOWN]:
            yield Defect(path, f"image {name!r}: {reason}")
        if len(reasons) > _SHOWN:
            yield Defect(path, f"image {name!r}: and {len(reasons) - _SHOWN} more like these")
        fixed = share.mount.size < _FAT32 and not share.mount.filesystem.wanted.fat32
        if fixed and not share.mount.kept and share.lost.slots > _ROOT_FOLDER:
            message = f"has more in {share.mount.point} than the top folder of such a vfat can hold"
            yield Defect(path, f"image {name!r} {message}; from {human(_FAT32)} on it has no limit")


def _too_large(name: str, shares: Sequence[Share]) -> Iterator[str]:
    """The reason why what is to lie on one device does not fit there."""
    mount, needed = shares[0].mount, sum(x.bytes for x in shares)
    if needed <= mount.size:
        return
    points = ", ".join(x.mount.point for x in shares)
    reason = f"image {name!r} has {mib(needed)} for {points}, and {mount.device} holds {mib(mount.size)}"
    size, path = max(x.largest for x in shares)
    if needed - size <= mount.size:
        reason += f"; {mib(size)} are {path}: if it is sparse, add --sparse to rsync_flags"
    yield reason


def _too_many(name: str, share: Share) -> Iterator[str]:
    mount = share.mount
    most = inode.at_most(mount.type, mount.size)
    # A lost+found of the image is the one that is there.
    if most is None or share.files - 1 <= most:
        return
    counts = f"{share.files} files for {mount.point}, and {mount.device} ({mib(mount.size)})"
    yield f"image {name!r} has {counts} has inodes for {most} at most as {mount.type}; make it larger, or btrfs"
