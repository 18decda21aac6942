# SPDX-License-Identifier: Apache-2.0
"""do_verify: sees whether the disks are still what the input describes, and changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bareon.actions.base import Action, Job
from bareon.actions.manifest import Comparison, seen
from bareon.errors import DisksDiffer, UsageError
from bareon.layout.stack import on_disks
from bareon.model.layout import Layout
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import Mounted
from bareon.storage.kind import UNKNOWN
from bareon.system.bindings import fstab
from bareon.system.tree import Tree
from bareon.tools import mount

LOG = logging.getLogger(__name__)


class Verify(Action):
    """Has the disks compared with the input, whatever its policy, as in every decision that makes no tables.

    Disks may be in use, and containers that are closed stay so.
    """

    name = "do_verify"
    mounts = False  # an array that is started for it would be written to
    writes = False

    def requires(self, job: Job) -> Sequence[str]:
        return mount.PROGRAMS

    def validate(self, job: Job) -> None:
        if job.makes:
            others = ", ".join(name for name in job.queued if name != self.name)
            raise UsageError(
                f"--actions: {self.name} compares what is there before a run: not together with {others}"
            )

    def warnings(self, job: Job) -> Iterator[str]:
        for structure in on_disks(job.node, {disk.device for disk in job.layout.disks}):
            for device in (device for device, content in structure.offers if content == UNKNOWN):
                yield f"{device} cannot be looked at as it is now: what it holds is not compared"

    def plan(self, job: Job) -> Sequence[Step]:
        images = tuple(
            x.name for x in job.deployment.images if job.deployment.brings(x) and job.layout.has_root(x.name)
        )
        in_use = frozenset(use.device for use in job.node.uses)
        return [CompareFiles(self.name, images, job.layout, in_use, job.deployment.manifest)] if images else []


@dataclass(frozen=True)
class CompareFiles(Step):
    """Compare what bareon has written into ``/etc/fstab`` of images with what is there, and files with a manifest.

    A root file system that is mounted is read there. One of ``in_use`` that is mounted where this process does not
    see it, or whose device is not started, is passed over. All others are mounted without their journals being
    played back, which would write them. ``manifest`` is whether the files are compared.
    """

    writes = False
    images: tuple[str, ...]
    layout: Layout
    in_use: frozenset[str]
    manifest: bool = False

    @property
    def description(self) -> str:
        names = ", ".join(f"image {x!r}" for x in self.images)
        files = ", and the files with the manifest" if self.manifest else ""
        return f"Compare /etc/fstab of {names} with the input{files}"

    def run(self, progress: Progress) -> Outcome:
        passed_over: list[str] = []
        differences: list[str] = []
        for image in self.images:
            root = next(x for x in self.layout.tree(image) if x.point == "/")
            with seen(root, self.in_use) as folder:
                if folder is None:
                    passed_over.append(f"image {image!r}: {root.device} cannot be read as it is now")
                    continue
                tree = Tree(folder)
                lines = [
                    f"{fstab.PLACE}: {x}" for x in fstab.differences(tree.read(fstab.PLACE), self.volumes(image))
                ]
                if self.manifest:
                    comparison = Comparison(image, self.layout, self.in_use, progress)
                    lines += comparison.differences(tree, root, passed_over)
                differences += [f"image {image!r}: {x}" for x in lines]
        for line in passed_over:
            LOG.warning(line)
        if differences:
            raise DisksDiffer(differences)
        return {"passed_over": "; ".join(passed_over)} if passed_over else {}

    def volumes(self, image: str) -> list[Mounted]:
        """What the fstab of an image is written of."""
        esp = self.layout.mounted_esp(image)
        here = (*self.layout.tree(image), *([esp] if esp else []), *self.layout.swaps(image))
        return [*here, *self.layout.made_at_start(image)]
