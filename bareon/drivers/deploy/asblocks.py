# SPDX-License-Identifier: Apache-2.0
"""Whether all of a whole disk can come as blocks where the input names no parts: settled before a plan is made.

Nobody can read a file of a remote file system, so that the image's own fstab is not there yet; the types of the
partitions say where they belong. That the fstab agrees shows when they have arrived: :class:`CheckOwnFstab`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bareon.drivers.deploy import ownfstab
from bareon.drivers.deploy.parts import placed_by_type
from bareon.drivers.deploy.wholedisk import Looked
from bareon.errors import CommandError, ImageFailed
from bareon.model.deployment import Deployment
from bareon.model.image import Image, Part
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import Filesystem, Mounted
from bareon.system.tree import ROOT, Tree
from bareon.tools import blkid, device, filesystem, mount
from bareon.transfer.partitions import Entry

if TYPE_CHECKING:
    from bareon.transfer.disk import WholeDisk

#: What mounts a read-only file system of somebody's, and what keeps an ext4 from stopping the machine.
OPTIONS = ("ro", "nosuid", "nodev", "noexec")
ALSO = {"xfs": ("nouuid",), **dict.fromkeys(("ext2", "ext3", "ext4"), ("errors=continue",))}
FSTAB = "/etc/fstab"


def as_blocks(image: Image, deployment: Deployment, disk: WholeDisk) -> tuple[Part, ...]:
    """The parts of an image, as blocks, where each has a volume of its own that is made anew, of the same type.

    None where one has not; where types do not tell where all partitions belong; and for a Btrfs, whose subvolumes are
    parts by themselves.
    """
    placed = placed_by_type(disk.table, disk.contents)
    if placed is None or any(fs.type == "vfat" for fs in _own(image, deployment)):
        return ()  # a vfat would be for the files of the image's ESP
    parts = []
    for entry, point in placed:
        target = posixpath.join(image.target, point.lstrip("/"))
        found = disk.contents.get(entry.number)
        if (
            not found
            or not found.type
            or found.type == "btrfs"
            or not _fits(image, deployment, entry, target, found.type)
        ):
            return ()
        parts.append(Part(entry.number, target, "block", image.path, found=True))
    return tuple(parts)


def _own(image: Image, deployment: Deployment) -> Iterator[Filesystem]:
    return (x for x in deployment.filesystems() if any(image.system in mount.images for mount in x.mounts))


def _fits(image: Image, deployment: Deployment, entry: Entry, target: str, kind: str) -> bool:
    fs = next((x for x in _own(image, deployment) if any(mount.point == target for mount in x.mounts)), None)
    if fs is None or fs.type != kind or fs.mkfs_options or any(mount.subvolume for mount in fs.mounts):
        return False
    if [mount.images for mount in fs.mounts] != [(image.system,)] or (deployment.policy != "clean" and fs.keep_data):
        return False
    given = deployment.given(fs)
    return given is None or given >= entry.size


@dataclass(frozen=True)
class CheckOwnFstab(Step):
    """See that the fstab of an image mounts its partitions where their types have sent them."""

    looked: Looked
    held: tuple[tuple[Part, Mounted], ...]

    @property
    def description(self) -> str:
        return f"See that the fstab of image {self.looked.image.name!r} mounts its partitions there"

    def run(self, progress: Progress) -> Outcome:
        entries = self.looked.entries([part for part, _ in self.held])
        placed = {entry: (part.target, fs.device) for entry, (part, fs) in zip(entries, self.held, strict=True)}
        try:
            self._compare(placed)
        except ImageFailed as error:
            device.wipe([fs.device for _, fs in self.held])
            raise ImageFailed(f"image {self.looked.image.name!r}: {error}") from error
        return {}

    def _compare(self, placed: Mapping[Entry, tuple[str, str]]) -> None:
        image = self.looked.image
        text = self._fstab(next(where for target, where in placed.values() if target == image.target))
        found = blkid.probe([where for _, where in placed.values()])
        tags = {entry: found.get(where, {}) for entry, (_, where) in placed.items()}
        others: dict[Entry, Mapping[str, str]] = {x: {} for x in self.looked.disk.table.partitions if x not in placed}
        for own in ownfstab.mounts(text, {**tags, **others}, beside=("vfat",)):
            target = posixpath.join(image.target, own.point.lstrip("/")).rstrip("/") or "/"
            there = placed.get(own.entry)
            if there is None and own.kind == "vfat":
                continue
            if there is None or there[0] != target or own.subvolume:
                wanted = f"its type says {there[0]}" if there else "it was taken for none of a system"
                number = own.entry.number
                raise ImageFailed(f"its fstab mounts partition {number} at {own.point}, and {wanted}: give parts")

    def _fstab(self, root: str) -> str:
        """Read it from the root file system, after a check."""
        kind = blkid.probe([root]).get(root, {}).get("TYPE", "")
        if kind not in filesystem.KINDS:
            raise ImageFailed(f"its root holds {kind or 'no file system'}")
        Path(ROOT).mkdir(parents=True, exist_ok=True)
        try:
            filesystem.check(kind, root, ROOT)
            options = ",".join([*OPTIONS, *ALSO.get(kind, ())])
            with mount.mounted(root, ROOT, kind=kind, options=options):
                return Tree(ROOT, name="the image").read(FSTAB) or ""
        except CommandError as error:
            raise ImageFailed(f"its {kind} file system is damaged: {error}") from error
