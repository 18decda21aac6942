# SPDX-License-Identifier: Apache-2.0
"""Images as tar archives, served as one file, spread over all volumes of the image while they arrive."""

from __future__ import annotations

import contextlib
import functools
import logging
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bareon.actions.base import COPY_IMAGE, Job
from bareon.drivers.deploy import fitness, staging
from bareon.drivers.deploy.fitness import unfit_for_trees
from bareon.drivers.deploy.kind import Kind
from bareon.drivers.deploy.listing import Survey, listed
from bareon.drivers.deploy.overlap import neighbours
from bareon.drivers.deploy.placing import Placing, of_the_node
from bareon.drivers.deploy.swift import SCHEMES, is_fetchable, unfetchable, unsigned
from bareon.errors import ActionFailed, CommandError, Defect, ImageFailed, UnsuitableNode
from bareon.model.deployment import Deployment
from bareon.model.image import Image, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.sizes import mib
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import Mounted
from bareon.system.tree import Tree, mounted_tree
from bareon.tools import copy, device, gpgv, mount, tar

if TYPE_CHECKING:
    from bareon.transfer.archive import Brought

LOG = logging.getLogger(__name__)

_ENDINGS = (".tgz", ".tbz", ".tbz2", ".txz", ".tzst")
#: Bytes of an archive beside those of its files, whatever the volumes hold: headers, and files that come twice.
_BESIDES = 1 << 30


class OneFile(Kind):
    """A kind of image that is a tree in one file. ``step`` unpacks one."""

    step: ClassVar[type[UnpackArchive]]
    forms = ", ".join(f"{x}://" for x in SCHEMES)

    def takes(self, location: Location) -> bool:
        return is_fetchable(location)

    def requires(self, images: Sequence[Image], job: Job) -> Iterable[str]:
        signed = gpgv.PROGRAMS if job.settings.keyring else ()
        return {*tar.PROGRAMS, *copy.PROGRAMS, *device.PROGRAMS, *signed}

    def unfit(self, images: Sequence[Image], deployment: Deployment) -> Iterator[Defect]:
        yield from unfit_for_trees(images, deployment, archives=True)
        for image in images:
            yield from unfetchable(image, f"a {self.title}")
            if image.disk_format:
                yield Defect(f"{image.path}.image_disk_format", f"a {self.title} has none; remove it")

    def defects(self, images: Sequence[Image], job: Job) -> Iterator[Defect]:
        return (x for image in images for x in unsigned(image, job.settings))

    def fetch(self, image: Image, alike: Sequence[Image], job: Job) -> Sequence[Step]:
        clean = job.layout.policy == "clean"
        beside = frozenset(x.point for x in neighbours(job.layout, job.deployment.images, image))
        return [self.step(COPY_IMAGE, image, job.layout.tree(image.system), job.settings, clean, beside)]


@dataclass(frozen=True)
class UnpackArchive(Step):
    """Unpack the archive of one image onto its mounted volumes.

    ``clean`` is the policy, under which what an earlier stage made is kept, and nobody's. ``beside`` are the mount
    points where an image before this one brings files too; those stay.
    """

    image: Image
    mounts: tuple[Mounted, ...]
    settings: TransferSettings
    clean: bool = False
    beside: frozenset[str] = frozenset()
    kind: ClassVar[OneFile]

    @property
    def description(self) -> str:
        return f"Unpack image {self.image.name!r} from {self.image.url} to {self.image.target}"

    def preflight(self) -> None:
        """See that it is what it should be; where it is to change what is kept, that all of it is."""
        self.recognise()
        _ = self.published
        if self.kept:
            LOG.info("image %s: reading it through, since it changes what is kept", self.image.name)
            placing = self._placing()
            self.brought(placing, None, None, lambda done, total: None)
            fitness.judge(self.image.name, placing.survey, sparse=True)

    def recognise(self) -> None:
        """See that it begins as a file of its kind; raises ImageFailed otherwise."""
        from bareon.transfer import ocilayout
        from bareon.transfer.image import first_bytes
        from bareon.transfer.superblock import read

        beginning = first_bytes(self.image.url, self.settings)
        if not self.kind.recognises(beginning):
            found = read(beginning)
            holds = found.type or ("a whole disk" if found.table else "nothing that is known")
            if ocilayout.begins(beginning):  # which a name that ends with .tar hid while nobody could look
                holds = "a layout of an OCI image, whose name should end with .oci.tar"
            where = f"image {self.image.name!r}: {self.image.url}"
            raise ImageFailed(f"{where} is no {self.kind.title}: it holds {holds}")

    @property
    def kept(self) -> tuple[str, ...]:
        """The mount points of volumes of the image that have files of somebody."""
        shares = Survey(self.image.target, self.mounts).shares
        return () if self.clean else tuple(x.mount.point for x in shares if x.mount.kept)

    @functools.cached_property
    def published(self) -> Published:
        """What is published beside the image; kept, so that the run is held to what ``preflight`` has seen."""
        from bareon.transfer.published import published

        return published(self.image, self.settings)

    def _placing(self) -> Placing:
        own = of_the_node(self.image.target)
        return Placing(Survey(self.image.target, self.mounts), self.kept, own)

    def run(self, progress: Progress) -> Outcome:
        placing = self._placing()
        try:
            with mounted_tree(self.mounts) as tree:
                figures = self._unpacked(placing, tree, progress)
        except BaseException:
            self._spoil(placing.survey)
            raise
        return figures

    def _unpacked(self, placing: Placing, tree: Tree, progress: Progress) -> Outcome:
        folder = tree.folder(self.image.target)
        placing.into(tree, self.beside)
        try:
            brought = self.brought(placing, tree, lambda archive: tar.extract(archive, folder), progress)
            join(placing, tree)
            for share in (x for x in placing.survey.shares if not x.mount.left):
                mount.write_back(tree.folder(share.mount.point))
        except CommandError as error:
            raise self._explained(error, tree) from error
        figures: Outcome = {
            "bytes": brought.size,
            "served_bytes": brought.served,
            "files": placing.survey.entries,
            "attempts": brought.attempts,
            "form": f"{self.kind.name}, {brought.format}" if brought.format != "raw" else self.kind.name,
        }
        if brought.digest:
            figures["digest"] = brought.digest
        if placing.copies:
            figures["hard links that became copies"] = str(placing.copies)
        if placing.left:
            figures["left to other images"] = listed(placing.left)
        return {**figures, **placing.survey.left_out()}

    def brought(
        self, placing: Placing, tree: Tree | None, unpack: Callable[[int], object] | None, progress: Progress
    ) -> Brought:
        """Stream the archive to ``unpack``, or, without a tree and that, read it through."""
        from bareon.transfer import ocilayout
        from bareon.transfer.archive import bring
        from bareon.transfer.tarstream import Walk

        return bring(
            self.image.url,
            Walk(ocilayout.refusing(placing)),
            unpack,
            digest=self.image.digest,
            published=self.published,
            settings=self.settings,
            limit=self.limit(placing.survey),
            progress=progress,
        )

    @contextlib.contextmanager
    def staged(self, placing: Placing, tree: Tree | None, progress: Progress) -> Iterator[tuple[int, Brought]]:
        """All of the file, decoded and found right: in memory, or else on a volume that is to be filled."""
        from bareon.transfer.stage import length, stage

        url, settings, limit = self.image.url, self.settings, self.limit(placing.survey)
        free = [x for x in placing.survey.shares if x.mount.point not in self.kept]
        with staging.places(self.image.name, 1, length(url, settings), free, tree) as ((place,), room):
            served = stage(
                url,
                place,
                digest=self.image.digest,
                published=self.published,
                settings=settings,
                limit=limit if room is None else room,
                progress=progress,
            )
            yield place, served

    def limit(self, survey: Survey) -> int:
        """The bytes that the archive may have."""
        sizes = {share.mount.device: share.mount.size for share in survey.shares}
        return 2 * sum(sizes.values()) + _BESIDES

    def _explained(self, error: CommandError, tree: Tree) -> ActionFailed:
        """What a failure of tar means for this deployment."""
        for fs in self.mounts:
            if lacking := tree.lacks(fs.point):
                return ActionFailed(
                    f"{fs.device} ({mib(fs.size)}) for {fs.point} has no {lacking} left, "
                    f"image {self.image.name!r} does not fit"
                )
        return ActionFailed(f"image {self.image.name!r} cannot be unpacked: {tar.reason(error)}")

    def _spoil(self, survey: Survey) -> None:
        """Take the file systems away that hold a part of an image, or one that is not what it should be."""
        for share in survey.shares:
            if share.mount.point not in self.kept:
                try:
                    share.mount.filesystem.spoil(share.mount.mount)
                except (CommandError, UnsuitableNode) as error:  # the first error matters more
                    LOG.error("%s still has its file system: %s", share.mount.device, error)


def join(placing: Placing, tree: Tree) -> None:
    """Bring the names of files that lie on other volumes: a copy for each, to which further names there lead."""
    copies: dict[tuple[str, str], str] = {}
    for path, first in placing.torn:
        there = placing.survey.holding(path).mount.point, first
        with tree.same_times(posixpath.dirname(path)):
            if there in copies:
                copy.link(tree.outside(copies[there]), tree.outside(path))
            else:
                copy.file(tree.outside(first), tree.outside(path))
                copies[there] = path
    placing.copies += len(copies)
    placing.torn.clear()


class Archive(OneFile):
    """Tar archives, compressed or not."""

    name = "tar"
    title = "tar archive"
    endings = (*(f".tar{x}" for x in ("", ".gz", ".xz", ".zst", ".bz2")), *_ENDINGS)
    step = UnpackArchive

    def recognises(self, beginning: bytes) -> bool:
        from bareon.transfer import ocilayout
        from bareon.transfer.tarstream import begins

        return begins(beginning) and not ocilayout.begins(beginning)


UnpackArchive.kind = Archive()
