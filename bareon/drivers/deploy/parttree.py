# SPDX-License-Identifier: Apache-2.0
"""Partitions of an image as trees: staged all at once, mounted read-only, copied as the archives that tar makes.

So each file is judged as those of an archive are, and goes to the volume that it lies on in the deployed system.
"""

from __future__ import annotations

import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bareon.drivers.deploy import fitness, ownfstab
from bareon.drivers.deploy.archive import UnpackArchive
from bareon.drivers.deploy.asblocks import ALSO, FSTAB, OPTIONS
from bareon.drivers.deploy.listing import Survey
from bareon.drivers.deploy.offer import check_type
from bareon.drivers.deploy.parts import found_by_type
from bareon.drivers.deploy.placing import Placing
from bareon.drivers.deploy.staging import places
from bareon.drivers.deploy.wholedisk import Looked
from bareon.errors import CommandError, ImageFailed
from bareon.model.image import Part
from bareon.step import Outcome, Progress
from bareon.storage.filesystem import ESP
from bareon.system.tree import Tree, mounted_tree
from bareon.tools import blkid, filesystem, loop, mount, tar
from bareon.transfer.partitions import Entry

if TYPE_CHECKING:
    from bareon.transfer.archive import Brought

_PARTS = "/run/bareon/parts"
_SUBVOLUME = re.compile(r"[\w@.+-]+")


@dataclass(frozen=True)
class _Part(UnpackArchive):
    """The tree of one partition, mounted at ``folder``; its ``image`` has the target of the part."""

    folder: str = ""

    def brought(
        self, placing: Placing, tree: Tree | None, unpack: Callable[[int], object] | None, progress: Progress
    ) -> Brought:
        from bareon.transfer.stage import convert
        from bareon.transfer.tarstream import Walk

        with tempfile.TemporaryDirectory() as nowhere:
            return convert(
                self.image.url,
                lambda sink: tar.create(self.folder, sink, nowhere),
                Walk(placing),
                unpack,
                settings=self.settings,
                limit=self.limit(placing.survey),
                progress=lambda done, total: None,
            )


@dataclass(frozen=True)
class CopyParts(UnpackArchive):
    """Bring partitions of one image to memory, or else to a volume that is to be filled, and copy their files.

    Without ``parts`` these are its root, and what the image's own fstab mounts.
    """

    looked: Looked | None = None
    parts: tuple[Part, ...] = ()

    @property
    def description(self) -> str:
        what = ", ".join(f"{x.partition!r} to {x.target}" for x in self.parts)
        what = what or f"its root, and what its fstab mounts, to {self.image.target}"
        return f"Copy files of partitions of image {self.image.name!r} from {self.image.url}: {what}"

    @property
    def _of(self) -> Looked:
        assert self.looked
        return self.looked

    def preflight(self) -> None:
        """See that its table has what is asked for; where it is to change what is kept, look at all of it."""
        self._of.compare()
        loop.check()
        for entry, target in self._selected():
            if found := self._of.disk.contents.get(entry.number):
                with self._of.naming(entry):
                    if target is not None:
                        check_type(self.image, target, found)
        if self.kept:
            self._carried(None, lambda done, total: None)

    def _selected(self) -> list[tuple[Entry, str | None]]:
        """The partitions that are staged, and their targets; ``None`` for those that the fstab tells of."""
        if self.parts:
            return list(zip(self._of.entries(self.parts), (x.target for x in self.parts), strict=True))
        root, others = found_by_type(self._of.disk.table, self._of.disk.contents)
        return [(root, self.image.target), *((x, None) for x in others)]

    def run(self, progress: Progress) -> Outcome:
        try:
            with mounted_tree(self.mounts) as tree:
                return self._carried(tree, progress)
        except BaseException:
            self._spoil(Survey(self.image.target, self.mounts))
            raise

    def _carried(self, tree: Tree | None, progress: Progress) -> Outcome:
        """Stage the partitions, and copy them; without a tree see that they could be copied."""
        from bareon.transfer.disk import stage_parts

        selected = self._selected()
        entries = [entry for entry, _ in selected]
        free = [x for x in Survey(self.image.target, self.mounts).shares if x.mount.point not in self.kept]
        with places(self.image.name, len(entries), sum(x.size for x in entries), free, tree) as (files, _):
            staged = dict(zip(entries, files, strict=True))
            written = stage_parts(self._of.transfer(progress), self._of.disk, staged)
            outcomes: list[Outcome] = []
            with ExitStack() as stack:
                opened = _Opened(self._of, stack, staged)
                for folder, target in self._trees(opened, dict(selected)):
                    outcomes.append(self._copied(folder, target, tree))
        files_in_all = sum(int(x["files"]) for x in outcomes)
        told = {key: value for x in outcomes for key, value in x.items() if " " in key}
        return {**self._of.figures(written), "files": files_in_all, **told}

    def _copied(self, folder: str, target: str, tree: Tree | None) -> Outcome:
        image = replace(self.image, target=target)
        part = _Part(self.action, image, self.mounts, self.settings, self.clean, self.beside, folder)
        placing = part._placing()
        if tree is not None:
            return part._unpacked(placing, tree, lambda done, total: None)
        part.brought(placing, None, None, lambda done, total: None)
        fitness.judge(self.image.name, placing.survey, sparse=True)
        return {"files": 0}

    def _trees(self, opened: _Opened, selected: Mapping[Entry, str | None]) -> Iterator[tuple[str, str]]:
        """Folders with trees, and where they go, parents before children."""
        if self.parts:
            for entry, target in sorted(selected.items(), key=lambda x: str(x[1]).split("/")):
                yield opened.mounted(entry), str(target)
            return
        root = next(iter(selected))
        folder = opened.root(root)
        yield folder, self.image.target
        text = Tree(folder, name=f"image {self.image.name!r}").read(FSTAB) or ""
        for own in ownfstab.mounts(text, opened.tags()):
            target = posixpath.join(self.image.target, own.point.lstrip("/"))
            if own.point == "/" or (own.entry.type == ESP and not any(x.point == target for x in self.mounts)):
                continue
            yield opened.mounted(own.entry, own.subvolume), target


class _Opened:
    """The staged partitions as block devices, and their file systems where they were asked for."""

    def __init__(self, looked: Looked, stack: ExitStack, staged: Mapping[Entry, int]) -> None:
        self._looked = looked
        self._stack = stack
        self._staged = staged
        self._devices = {entry: stack.enter_context(loop.attached(file)) for entry, file in staged.items()}
        self._kinds: dict[Entry, str] = {}
        self._count = 0

    def tags(self) -> dict[Entry, Mapping[str, str]]:
        """The tags of each as blkid tells them."""
        found = blkid.probe(list(self._devices.values()))
        return {entry: found.get(device, {}) for entry, device in self._devices.items()}

    def mounted(self, entry: Entry, subvolume: str | None = None) -> str:
        """The folder that its file system is mounted on, after a check.

        :raises ImageFailed: when it holds none that is sound.
        """
        folder = self._folder()
        kind = self._kind(entry, folder)
        options = [*OPTIONS, *ALSO.get(kind, ())]
        if kind == "btrfs" and subvolume:
            options.append(f"subvol={subvolume}")
        device = self._devices[entry]
        try:
            return self._stack.enter_context(mount.mounted(device, folder, kind=kind, options=",".join(options)))
        except CommandError as error:
            raise self._failed(entry, f"its {kind} cannot be mounted: {error}") from error

    def root(self, entry: Entry) -> str:
        """As :meth:`mounted`, of the root file system: of a btrfs perhaps the subvolume that has it."""
        folder = self.mounted(entry)
        tree = Tree(folder, name="the image")
        if tree.has("/etc") or self._kinds[entry] != "btrfs":
            return folder
        found = [x for x in tree.names("/") if _SUBVOLUME.fullmatch(x) and tree.is_file(f"/{x}{FSTAB}")]
        if len(found) != 1:
            subvolumes = ", ".join(found) or "none"
            raise self._failed(entry, f"one of its subvolumes needs to have {FSTAB}; those that have: {subvolumes}")
        return self.mounted(entry, found[0])

    def _folder(self) -> str:
        self._count += 1
        folder = Path(_PARTS, str(self._count))
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder.resolve())

    def _kind(self, entry: Entry, folder: str) -> str:
        if entry not in self._kinds:
            self._kinds[entry] = self._checked(entry, folder)
        return self._kinds[entry]

    def _checked(self, entry: Entry, folder: str) -> str:
        """The type of a file system that was found sound."""
        from bareon.transfer.beginning import check_whole
        from bareon.transfer.superblock import SEEN, read

        found = read(os.pread(self._staged[entry], SEEN, 0))
        with self._looked.naming(entry):
            check_type(self._looked.image, "", found)
            check_whole(found, entry.size)
        kind = str(found.type)
        try:
            filesystem.check(kind, self._devices[entry], folder)
        except CommandError as error:
            raise self._failed(entry, f"its {kind} file system is damaged: {error}") from error
        return kind

    def _failed(self, entry: Entry, reason: str) -> ImageFailed:
        with self._looked.naming(entry):
            raise ImageFailed(f"image {self._looked.image.name!r}: {reason}")
