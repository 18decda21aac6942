# SPDX-License-Identifier: Apache-2.0
"""Images of whole disks, as vendors publish them: their partitions, as blocks or as trees, never their table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bareon.actions.base import COPY_IMAGE, Job
from bareon.drivers.deploy.archive import OneFile
from bareon.drivers.deploy.asblocks import CheckOwnFstab, as_blocks
from bareon.drivers.deploy.fitness import unfit_for_trees
from bareon.drivers.deploy.offer import check_room, check_type, programs_of, sector_of
from bareon.drivers.deploy.overlap import neighbours
from bareon.drivers.deploy.parttree import CopyParts
from bareon.drivers.deploy.swift import (
    FitFilesystem,
    LeaveVolume,
    SpreadTree,
    empty_inside,
    unfetchable,
    unsigned,
    unwritten,
)
from bareon.drivers.deploy.wholedisk import Looked
from bareon.errors import Defect, UnsuitableNode
from bareon.model.deployment import Deployment
from bareon.model.image import Image, Part
from bareon.model.layout import Layout
from bareon.model.settings import TransferSettings
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import Mounted
from bareon.system.tree import holds
from bareon.tools import blkid, device, loop, udev
from bareon.transfer.partitions import Entry
from bareon.transfer.superblock import read


@dataclass(frozen=True)
class WriteParts(Step):
    """Stream partitions of one image onto a volume each. Until all is found right, none holds a file system.

    ``held`` are the parts with their volumes and the bytes of a logical sector of these.
    """

    looked: Looked
    held: tuple[tuple[Part, Mounted, int], ...]

    @property
    def description(self) -> str:
        image = self.looked.image
        where = ", ".join(f"{part.partition!r} to {fs.device}" for part, fs, _ in self.held)
        return f"Write partitions of image {image.name!r} from {image.url}: {where}"

    @property
    def destroys(self) -> tuple[str, ...]:
        return tuple(fs.device for _, fs, _ in self.held if fs.filesystem.decision == "format")

    def preflight(self) -> None:
        from bareon.transfer.beginning import check_whole

        image = self.looked.image
        self.looked.compare()
        for entry, (part, fs, sector) in zip(self._entries, self.held, strict=True):
            found = self.looked.disk.contents.get(entry.number)
            if found:
                with self.looked.naming(entry):
                    check_type(image, part.target, found)
                    check_whole(found, entry.size)
            try:
                check_room(image, fs, sector, found, entry.size)
            except UnsuitableNode as error:
                remedy = [f'it may come as a tree: "parts": [{{"partition": {part.partition}, "as": "tree"}}, …]']
                raise UnsuitableNode(*error.reasons, *(remedy if part.found else [])) from error
            if fs.filesystem.decision == "format" and Path(fs.device).exists():
                device.refuse_if_busy(fs.device)

    @property
    def _entries(self) -> list[Entry]:
        return self.looked.entries([part for part, _, _ in self.held])

    def run(self, progress: Progress) -> Outcome:
        from bareon.transfer.disk import write_parts

        device.wipe([fs.device for _, fs, _ in self.held])
        devices = {x: (fs.device, fs.size) for x, (_, fs, _) in zip(self._entries, self.held, strict=True)}
        written = write_parts(self.looked.transfer(progress), self.looked.disk, devices)
        udev.settle()
        return {**self.looked.figures(written), "written_bytes": written.written}


class Disk(OneFile):
    """Files with a whole disk in them."""

    name = "disk"
    title = "image of a whole disk"
    has_parts = True
    step = CopyParts

    def recognises(self, beginning: bytes) -> bool:
        return read(beginning).table is not None

    def settled(self, image: Image, deployment: Deployment, settings: TransferSettings) -> Image:
        if image.parts:
            return image
        return replace(image, parts=as_blocks(image, deployment, Looked(image, settings).disk))

    def fills(self, image: Image) -> Iterable[str]:
        return tuple(x.target for x in image.parts if x.form == "block")

    def requires(self, images: Sequence[Image], job: Job) -> Iterable[str]:
        tools = (*blkid.PROGRAMS, *udev.PROGRAMS, *loop.PROGRAMS)
        return {*super().requires(images, job), *tools, *programs_of(job.layout)}

    def unfit(self, images: Sequence[Image], deployment: Deployment) -> Iterator[Defect]:
        yield from unfit_for_trees(images, deployment)
        for image in images:
            yield from unfetchable(image, f"an {self.title}")

    def defects(self, images: Sequence[Image], job: Job) -> Iterator[Defect]:
        for image in images:
            yield from unsigned(image, job.settings)
            yield from unwritten(image, self.fills(image), job)
            yield from _misplaced(image, job.layout)
            yield from _without_its_own(image, job)

    def fetch(self, image: Image, alike: Sequence[Image], job: Job) -> Sequence[Step]:
        name, layout = COPY_IMAGE, job.layout
        mounts, looked = layout.tree(image.system), Looked(image, job.settings)
        steps: list[Step] = []
        held = [(x, _at(x.target, mounts)) for x in image.parts if x.form == "block"]
        fresh = [(part, fs) for part, fs in held if not fs.kept]
        steps += [LeaveVolume(name, image, fs) for _, fs in held if fs.kept]
        if fresh:
            steps.append(WriteParts(name, looked, tuple((x, fs, sector_of(layout, fs.device)) for x, fs in fresh)))
        if fresh and fresh == held and all(x.found for x in image.parts):
            steps.append(CheckOwnFstab(name, looked, tuple(fresh)))
        for _, fs in fresh:
            inner = empty_inside(fs, mounts)
            steps.append(FitFilesystem(name, image, fs.filesystem))
            steps += [SpreadTree(name, image, fs, inner)] if inner else []
        trees = tuple(x for x in image.parts if x.form == "tree")
        if trees or not image.parts:
            beside = frozenset(x.point for x in neighbours(layout, job.deployment.images, image))
            clean = layout.policy == "clean"
            steps.append(CopyParts(name, image, mounts, job.settings, clean, beside, looked, trees))
        return steps


CopyParts.kind = Disk()


def _at(point: str, mounts: Iterable[Mounted]) -> Mounted:
    return next(x for x in mounts if x.point == point)


def _without_its_own(image: Image, job: Job) -> Iterator[Defect]:
    """A defect of parts that leave the volume empty which the image itself is for, such as that of a root."""
    others = [x.target for x in job.deployment.images if x is not image and x.system == image.system]
    targets = [x.target for x in image.parts]
    at = [x for x in job.layout.tree(image.system) if x.point == image.target]
    below = bool(targets) and all(holds(image.target, x) for x in targets)
    if below and image.target not in (*targets, *others) and not any(x.kept for x in at):
        reason = f"{image.target} is made anew, and none of the parts has it for its target: it would stay empty"
        yield Defect(f"{image.path}.parts", reason)


def _misplaced(image: Image, layout: Layout) -> Iterator[Defect]:
    """Defects of the places of an image's parts."""
    points = [x.point for x in layout.tree(image.system)]
    seen: dict[str, Part] = {}
    for part in image.parts:
        path = f"{part.path}.target"
        if part.target in seen:
            yield Defect(path, f"{part.target} is already the target of {seen[part.target].path}")
        seen.setdefault(part.target, part)
        if not holds(image.target, part.target):
            yield Defect(path, f"{part.target} does not lie below {image.target}, the target of image {image.name!r}")
        if part.form == "block" and part.target not in points:
            there = ", ".join(points[:20]) or "none"
            message = f"no volume of image {image.name!r} is mounted at {part.target}; its mount points: {there}"
            yield Defect(path, f"{message}; or bring it as a tree")
