# SPDX-License-Identifier: Apache-2.0
"""Images as squashfs: staged, then unpacked as the archive that sqfs2tar makes of them.

So each member is judged as those of an archive are, whatever the squashfs says of its sizes and names.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bareon.actions.base import Job
from bareon.drivers.deploy.archive import OneFile, UnpackArchive
from bareon.drivers.deploy.listing import Survey
from bareon.drivers.deploy.placing import Placing
from bareon.errors import CommandError, ImageFailed, UnsuitableNode
from bareon.model.image import Image
from bareon.sizes import mib
from bareon.step import Progress
from bareon.system.tree import Tree
from bareon.tools import mount, squashfs
from bareon.tools.sandbox import available_memory

if TYPE_CHECKING:
    from bareon.transfer.archive import Brought

_MAGIC = b"hsqs"
#: Of the memory that is there, a staged file may take one part of so many.
_OF_MEMORY = 2


@dataclass(frozen=True)
class UnpackSquashfs(UnpackArchive):
    """Bring a squashfs to memory, or else to a volume that is to be filled, and unpack it onto the volumes."""

    def brought(
        self, placing: Placing, tree: Tree | None, unpack: Callable[[int], object] | None, progress: Progress
    ) -> Brought:
        from bareon.transfer.stage import convert, stage
        from bareon.transfer.tarstream import Walk

        url, settings, limit = self.image.url, self.settings, self.limit(placing.survey)
        with self._place(placing.survey, tree) as (place, room), tempfile.TemporaryDirectory() as nowhere:
            served = stage(
                url,
                place,
                digest=self.image.digest,
                published=self.published,
                settings=settings,
                limit=room,
                progress=progress,
            )
            archive = convert(
                url,
                lambda sink: self._archived(place, sink, nowhere),
                Walk(placing),
                unpack,
                settings=settings,
                limit=limit,
                progress=lambda done, total: None,
            )
        return type(served)(served.served, archive.size, served.attempts, served.format, served.digest)

    def _archived(self, place: int, sink: int, nowhere: str) -> None:
        try:
            squashfs.to_tar(place, sink, nowhere, self.settings.total_timeout)
        except CommandError as error:
            raise ImageFailed(f"is damaged: {squashfs.reason(error)}") from error

    @contextmanager
    def _place(self, survey: Survey, tree: Tree | None) -> Iterator[tuple[int, int]]:
        """A file without a name that the image is brought into, and how many bytes it may have.

        :raises UnsuitableNode: when there is none that is large enough, and no volume that is nobody's.
        """
        from bareon.transfer.stage import length

        size, most = length(self.image.url, self.settings), available_memory() // _OF_MEMORY
        if size is not None and size <= most:
            place, room = os.memfd_create("bareon-image", os.MFD_CLOEXEC), most
        else:
            place, room = self._on_a_volume(survey, tree, size, most), self.limit(survey)
        try:
            yield place, room
        finally:
            os.close(place)

    def _on_a_volume(self, survey: Survey, tree: Tree | None, size: int | None, most: int) -> int:
        free = [x.mount for x in survey.shares if x.mount.point not in self.kept and x.lost is None]
        if tree is None or not free:
            has = f"has {mib(size)}" if size is not None else "comes without a length"
            raise UnsuitableNode(
                f"image {self.image.name!r} {has}, and is to be read whole before it changes what is kept; the memory"
                f" that is there for it is {mib(most)}"
            )
        return tree.scratch(max(free, key=lambda x: mount.free(tree.folder(x.point))).point)


class Squashfs(OneFile):
    """Squashfs files, as live systems have them."""

    name = "squashfs"
    title = "squashfs"
    endings = (".squashfs", ".sqfs", ".squash")
    step = UnpackSquashfs

    def recognises(self, beginning: bytes) -> bool:
        return beginning.startswith(_MAGIC)

    def requires(self, images: Sequence[Image], job: Job) -> Iterable[str]:
        return {*super().requires(images, job), *squashfs.PROGRAMS}


UnpackSquashfs.kind = Squashfs()
