# SPDX-License-Identifier: Apache-2.0
"""The manifest of an image's files: written when its system is complete, and compared by ``do_verify``."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from bareon.actions.base import Job
from bareon.errors import ActionFailed
from bareon.model.layout import Layout
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import Mounted
from bareon.system import mtree
from bareon.system.inventory import EXCLUDED, Inventory, drift
from bareon.system.tree import Tree, actual, mounted_tree
from bareon.text import visible
from bareon.tools import mount

LOG = logging.getLogger(__name__)

PLACE = "/etc/bareon/manifest.mtree.gz"
"""Where the manifest lies: on the root file system of each image, which ``/etc`` never leaves."""

_MOST = 1000
"""Differences of an image that are told one by one."""

#: How a file system is mounted without its journal being played back: the driver, and its option.
_UNREPLAYED = {
    **dict.fromkeys(("ext2", "ext3", "ext4"), ("ext4", "noload")),
    "xfs": ("xfs", "norecovery"),
    "btrfs": ("btrfs", "rescue=nologreplay"),
}


def manifests(action: str, job: Job) -> Sequence[Step]:
    """The steps that write the manifests of images, behind the last action of a run that changes their files."""
    deployment = job.deployment
    if not deployment.manifest:
        return ()
    names = [x.name for x in deployment.images if deployment.brings(x) and job.layout.has_root(x.name)]
    return [WriteManifest(action, x, job.layout, deployment.manifest_exclude) for x in names]


def own_volumes(layout: Layout, image: str) -> tuple[Mounted, ...]:
    """The mounted volumes that an image has for itself, parents first: what others change is none of its manifest."""
    return tuple(x for x in layout.tree(image) if not x.left and x.mount.images == (image,))


@contextlib.contextmanager
def seen(volume: Mounted, in_use: Collection[str]) -> Iterator[str | None]:
    """The folder where the files of a volume can be read, and nothing is written by that, not even a time.

    It is ``None`` where the volume cannot be read: one of ``in_use`` that is mounted where this process does not see
    it, or whose device is not started.
    """
    with contextlib.ExitStack() as stack:
        at = mount.place(volume.device, volume.above or "/")
        if not at and (volume.device in in_use or not Path(volume.device).is_block_device()):
            yield None
            return
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bareon-"))
        if at:
            yield stack.enter_context(mount.seen(at, folder))
        else:
            kind, option = _UNREPLAYED.get(volume.type, (volume.type, "ro"))
            options = ",".join(["ro", option, *volume.flags])
            yield stack.enter_context(mount.mounted(volume.device, folder, kind=kind, options=options))


@dataclass(frozen=True)
class WriteManifest(Step):
    """Write the manifest of an image: all that lies on its own volumes, as it is now, with digests.

    ``exclude`` are globs of what is left out, besides the usual ones.
    """

    image: str
    layout: Layout
    exclude: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        return f"Write the manifest of the files of image {self.image!r} to its {PLACE}"

    def run(self, progress: Progress) -> Outcome:
        tree = self.layout.tree(self.image)
        root = next(x for x in actual(tree) if x.point == "/")
        globs = tuple(dict.fromkeys([*EXCLUDED, *self.exclude]))
        with mounted_tree([root], writing=(PLACE,)) as system, system.writing_private(PLACE) as file:
            writer = mtree.Writer(file, mtree.Head(self.image, root.uuid, globs))
            figures = {"files": 0, "bytes": 0, "left_out": 0}
            for volume in actual(own_volumes(self.layout, self.image)):
                found = self._put(volume, writer, globs, lambda done: progress(figures["bytes"] + done, None))
                figures["bytes"] += found.size
                figures["left_out"] += found.left_out
            figures["files"] = writer.count
            return {**figures, "sha256": writer.end()}

    def _put(
        self, volume: Mounted, writer: mtree.Writer, globs: Sequence[str], done: Callable[[int], None]
    ) -> Inventory:
        points = {x.point for x in self.layout.mounts(self.image)}
        with seen(volume, ()) as folder:
            if folder is None:
                raise ActionFailed(f"{volume.device}, which is {volume.point} of image {self.image!r}, is not there")
            inventory = Inventory(folder, volume.point, points, globs, done)
            writer.volume(volume.point)
            for thing, entry in inventory.things():
                if thing.facts["type"] == "file":
                    thing.facts["sha256digest"] = inventory.digest(entry)
                writer.put(thing)
        return inventory


@dataclass(frozen=True)
class Comparison:
    """A comparison of an image with its manifest: what differs, and what could not be compared, a line each."""

    image: str
    layout: Layout
    in_use: Collection[str]
    progress: Progress

    def differences(self, system: Tree, root: Mounted, passed_over: list[str]) -> list[str]:
        """Where the files of a system differ from its manifest; ``passed_over`` gets what was not compared.

        :raises ActionFailed: when its files cannot be read.
        """
        with system.opened(PLACE) as file:
            if file is None:
                return [f"{PLACE} is missing: no files are compared"]
            try:
                head, digest = mtree.check(file)
                if (head.image, head.root) != (self.image, root.uuid):
                    whose = f"of image {head.image!r} on the file system {visible(head.root)}"
                    return [f"{PLACE} is {whose}, of another deployment: no files are compared"]
                LOG.info("image %s: the manifest has the SHA-256 %s", self.image, digest)
                found = self._drift(file, head, passed_over)
                lines = [*islice(found, _MOST)]
                more = sum(1 for _ in found)
            except mtree.BadManifestError as error:
                return [f"{PLACE} {error}: no files are compared"]
        return [*lines, *([f"and {more} more"] if more else [])]

    def _drift(self, file: IO[bytes], head: mtree.Head, passed_over: list[str]) -> Iterator[str]:
        there = {x.point: x for x in own_volumes(self.layout, self.image)}
        points = mtree.points(file)
        for point in sorted(there.keys() - points):
            passed_over.append(f"image {self.image!r}: the manifest tells nothing of the files of {point}")
        for point in points:
            with contextlib.ExitStack() as stack:
                volume = there.get(point)
                folder = stack.enter_context(seen(volume, self.in_use)) if volume else None
                if folder is None:
                    files = f"the files of {visible(point)}"
                    passed_over.append(f"image {self.image!r}: {files} cannot be compared as it is now")
                    continue
                mounts = {x.point for x in self.layout.mounts(self.image)}
                inventory = Inventory(*(folder, point, mounts, head.exclude), lambda done: self.progress(done, None))
                yield from drift(mtree.things(file, point), inventory)
                LOG.info("image %s: %s: %d names were left out", self.image, point, inventory.left_out)
