# SPDX-License-Identifier: Apache-2.0
"""An image of a whole disk as it was looked at, once for all steps that bring something of it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bareon.drivers.deploy.parts import chosen, described
from bareon.errors import ImageFailed
from bareon.model.image import Image, Part, Published
from bareon.model.settings import TransferSettings
from bareon.step import Outcome, Progress
from bareon.transfer.partitions import Entry

if TYPE_CHECKING:
    from bareon.transfer.disk import Transfer, WholeDisk
    from bareon.transfer.image import Written


@dataclass(frozen=True)
class Looked:
    """What is known of one image before it is brought; kept, so that the run is held to what ``preflight`` saw."""

    image: Image
    settings: TransferSettings

    @functools.cached_property
    def disk(self) -> WholeDisk:
        """Its table, and what is in the partitions.

        :raises ImageFailed: when it cannot be reached, or is no whole disk.
        """
        from bareon.transfer.disk import survey

        return survey(self.image.url, self.settings, self.image.disk_format)

    @functools.cached_property
    def published(self) -> Published:
        """What is published beside it."""
        from bareon.transfer.published import published

        return published(self.image, self.settings)

    def compare(self) -> None:
        """See that it is as large as is published.

        :raises ImageFailed: naming the size that differs.
        """
        from bareon.transfer.image import compare

        compare(self.image.url, self.disk.offer, self.published)

    def entries(self, parts: Sequence[Part]) -> list[Entry]:
        """The partitions that are meant.

        :raises ImageFailed: when one is not there, or is meant twice.
        """
        found: list[Entry] = []
        for part in parts:
            entry = chosen(part, self.disk.table, self.disk.contents)
            if entry in found:
                raise ImageFailed(f"{part.path}.partition: {part.partition!r} is a partition that another part has")
            found.append(entry)
        return found

    @contextlib.contextmanager
    def naming(self, entry: Entry) -> Iterator[None]:
        """Put the partition in front of an ImageFailed in the ``with`` block."""
        try:
            yield
        except ImageFailed as error:
            raise ImageFailed(f"partition {described(entry, self.disk.contents)}: {error}") from error

    def transfer(self, progress: Progress) -> Transfer:
        """What its transfer is held to."""
        from bareon.transfer.disk import Transfer

        image = self.image
        return Transfer(image.url, image.digest, self.published, self.settings, image.disk_format, progress)

    def figures(self, written: Written) -> Outcome:
        """The figures of a transfer for the report."""
        found: Outcome = {
            "bytes": written.size,
            "served_bytes": written.served,
            "attempts": written.attempts,
            "form": f"disk, {written.format}",
        }
        return {**found, "digest": written.digest} if written.digest else found
