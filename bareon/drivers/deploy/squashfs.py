# SPDX-License-Identifier: Apache-2.0
"""Images as squashfs: staged, then unpacked as the archive that sqfs2tar makes of them.

So each member is judged as those of an archive are, whatever the squashfs says of its sizes and names.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bareon.actions.base import Job
from bareon.drivers.deploy.archive import OneFile, UnpackArchive
from bareon.drivers.deploy.placing import Placing
from bareon.errors import CommandError, ImageFailed
from bareon.model.image import Image
from bareon.step import Progress
from bareon.system.tree import Tree
from bareon.tools import squashfs

if TYPE_CHECKING:
    from bareon.transfer.archive import Brought

_MAGIC = b"hsqs"


@dataclass(frozen=True)
class UnpackSquashfs(UnpackArchive):
    """Bring a squashfs to memory, or else to a volume that is to be filled, and unpack it onto the volumes."""

    def brought(
        self, placing: Placing, tree: Tree | None, unpack: Callable[[int], object] | None, progress: Progress
    ) -> Brought:
        from bareon.transfer.stage import convert
        from bareon.transfer.tarstream import Walk

        with self.staged(placing, tree, progress) as (place, served), tempfile.TemporaryDirectory() as nowhere:
            archive = convert(
                self.image.url,
                lambda sink: self._archived(place, sink, nowhere),
                Walk(placing),
                unpack,
                settings=self.settings,
                limit=self.limit(placing.survey),
                progress=lambda done, total: None,
            )
        return type(served)(served.served, archive.size, served.attempts, served.format, served.digest)

    def _archived(self, place: int, sink: int, nowhere: str) -> None:
        try:
            squashfs.to_tar(place, sink, nowhere, self.settings.total_timeout)
        except CommandError as error:
            raise ImageFailed(f"is damaged: {squashfs.reason(error)}") from error


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
