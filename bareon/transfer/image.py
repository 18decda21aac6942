# SPDX-License-Identifier: Apache-2.0
"""A block image from its URL onto a device: looked at beforehand by :func:`inspect`, brought by :func:`write`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from bareon.errors import ImageFailed
from bareon.model.image import Digest, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.sizes import mib
from bareon.transfer import qcow2, superblock
from bareon.transfer.beginning import check_whole, decoded, look
from bareon.transfer.check import Checks, DigestCheck, is_checked
from bareon.transfer.coding import Undone
from bareon.transfer.deadline import Deadline
from bareon.transfer.device import Device
from bareon.transfer.failure import named
from bareon.transfer.format import HEAD, Format, decoded_size, recognised
from bareon.transfer.mirrors import Mirrors
from bareon.transfer.pipeline import Pipeline, Reshape, decoding
from bareon.transfer.resume import HttpSource
from bareon.transfer.source import FileSource, Skippable, Source
from bareon.transfer.superblock import Superblock
from bareon.transfer.swift import Account

DiskFormat = Literal["raw", "qcow2"] | None


@dataclass(frozen=True)
class Offer:
    """An image as its source serves it.

    ``served`` is its bytes on the wire, ``size`` its bytes once decoded; ``None`` where only reading all of it would
    tell. ``format`` is what the content is, whatever its name, and ``superblock`` what is in it, ``None`` where that
    does not show yet.
    """

    served: int | None
    size: int | None
    format: Format
    superblock: Superblock | None = None


@dataclass(frozen=True)
class Written:
    """The figures of a transfer. ``written`` leaves out runs of zeros; ``attempts`` counts connections."""

    served: int
    size: int
    written: int
    attempts: int
    seconds: float
    format: Format
    digest: str | None


def open_source(
    location: Location, settings: TransferSettings, deadline: Deadline, *, checked: bool = False
) -> Skippable:
    """The source of what is at a location, or at one of its mirrors.

    :param checked: whether what arrives is held to a digest or a signature.
    :raises ImageFailed: where nothing can come from it.
    """
    if not location.mirrors:
        return _source(location, settings, deadline)
    return Mirrors(
        [replace(location, mirrors=()), *location.mirrors],
        lambda one, last: _source(one, settings if last else settings.hasty(), deadline),
        checked=checked,
    )


def _source(location: Location, settings: TransferSettings, deadline: Deadline) -> Skippable:
    if location.scheme == "file":
        return FileSource(location, deadline)
    if location.scheme == "swift":
        return Undone(HttpSource(location, settings, deadline, Account(location, settings).entry))
    if not location.sound:
        raise ImageFailed("is not a URL that can be fetched")
    if location.scheme in ("http", "https"):
        return Undone(HttpSource(location, settings, deadline))
    raise ImageFailed("images come by http, https, file and swift only")


def first_bytes(location: Location, settings: TransferSettings) -> bytes:
    """The first bytes of what is in a file, decoded where it is compressed; nothing is changed.

    :returns: fewer than 64 KiB where it has fewer, none where too much would have to be read for them.
    :raises ImageFailed: when it cannot be reached, or its beginning is damaged.
    :raises UnsuitableNode: when an option that it needs is missing or wrong.
    """
    deadline = Deadline(settings.total_timeout)
    with named(location), contextlib.closing(open_source(location, settings, deadline)) as source:
        buffer = memoryview(bytearray(HEAD))
        head = bytes(buffer[: source.fill(buffer)])
        return decoded(recognised(head), head, source)


def inspect(location: Location, settings: TransferSettings, disk_format: DiskFormat = None) -> Offer:
    """Reach an image and read its first bytes; nothing is changed.

    :raises ImageFailed: when it cannot be reached, or is not what it should be.
    :raises UnsuitableNode: when an option that it needs is missing or wrong.
    """
    deadline = Deadline(settings.total_timeout)
    with named(location), contextlib.closing(open_source(location, settings, deadline)) as source:
        offer, head = looked_at(source, disk_format)
        found, size = look(offer.format, offer.size, head, source)
        return replace(offer, size=size, superblock=found)


def compare(location: Location, offer: Offer, published: Published) -> None:
    """See that an image is as large as is published, and holds all of its file system, as far as both are known.

    :raises ImageFailed: naming the size that differs.
    """
    with named(location):
        # Other frames may follow the one of zstd whose header tells a size: that is the least it can be.
        more = offer.format == "zstd" and offer.size is not None and offer.size < (published.size or 0)
        _check_sizes(published, offer.served, None if more else offer.size)
        if offer.superblock:
            check_whole(offer.superblock, published.size if offer.size is None else offer.size)


def _check_sizes(published: Published, served: int | None, size: int | None) -> None:
    for what, found, wanted in (("file", served, published.served), ("image", size, published.size)):
        if found is not None and wanted is not None and found != wanted:
            raise ImageFailed(f"the {what} has {found} bytes, {wanted} are published")


def looked_at(source: Source, disk_format: DiskFormat) -> tuple[Offer, bytes]:
    """The image as far as the first bytes of the source tell, and these bytes."""
    buffer = memoryview(bytearray(HEAD))
    head = bytes(buffer[: source.fill(buffer)])
    if not head:
        raise ImageFailed("is empty")
    kind = recognised(head)
    if disk_format == "qcow2" and kind != "qcow2":
        raise ImageFailed(f"is no qcow2 image, as its disk format says it is ({kind})")
    if disk_format == "raw" and kind == "qcow2":
        raise ImageFailed("is a qcow2 image, its disk format says raw")
    size = qcow2.header(head).size if kind == "qcow2" else decoded_size(kind, head, source)
    return Offer(source.length, size, kind), head


def write(
    location: Location,
    device: str,
    *,
    limit: int,
    digest: Digest | None,
    settings: TransferSettings,
    disk_format: DiskFormat = None,
    published: Published | None = None,
    progress: Callable[[int, int | None], None],
) -> Written:
    """Stream an image onto a block device, at most ``limit`` bytes of it.

    An image that is known to be too large is refused before anything is written. From then on the first MiB of the
    device is zero until all the rest is there and the length, the end of the compressed stream, the digest and the
    size of the file system were found right; then it is written, last.

    :param digest: of the bytes as they are served.
    :param published: what is known of it besides. All that is known must hold; a digest of the image in a packed
        file counts where there is none of the file.
    :param progress: called in this thread with the bytes served so far and in all.
    :raises ImageFailed: when the image cannot be fetched or is not what it should be.
    :raises ActionFailed: when the device cannot be written.
    """
    started = time.monotonic()
    deadline = Deadline(settings.total_timeout)
    known = published or Published()
    checked = is_checked(digest, known) or known.plain is not None
    with named(location), contextlib.closing(open_source(location, settings, deadline, checked=checked)) as source:
        offer, head = looked_at(source, disk_format)
        if offer.size is not None and offer.size > limit:
            more = f"{mib(offer.size - limit)} more than the {mib(limit)} of {device}"
            raise ImageFailed(f"is {mib(offer.size)}, {more}")
        with (
            PlainChecks(offer.format, digest, known, settings) as checks,
            Device(device, limit) as target,
        ):
            reshape = reshaping(offer.format, head, source, checks.seen)
            target.begin()
            pipeline = Pipeline(source, target, deadline, checks.served)
            pipeline.run(head, reshape, progress)
            checks.judge(pipeline)
            check_whole(superblock.read(bytes(target.head)), pipeline.size)
            target.commit()
            return Written(
                served=pipeline.served,
                size=pipeline.size,
                written=target.written,
                attempts=source.attempts,
                seconds=time.monotonic() - started,
                format=offer.format,
                digest=checks.digest,
            )


class PlainChecks(Checks):
    """The checks of an image, where none of its file is known one of what is in it: ``seen`` takes those bytes."""

    def __init__(self, kind: Format, digest: Digest | None, published: Published, settings: TransferSettings) -> None:
        known = digest or published.listed or published.digest
        plain = None if known else published.plain
        super().__init__(plain if kind == "raw" and plain else digest, published, settings)
        self._published = published
        self._plain = DigestCheck(plain) if plain and kind != "raw" else None
        self.seen = self._plain.update if self._plain else None

    def judge(self, pipeline: Pipeline) -> None:
        """Raise ImageFailed when something is not as it should be."""
        _check_sizes(self._published, pipeline.served, pipeline.size)
        self.verify()
        if self._plain:
            self._plain.verify()


def reshaping(
    kind: Format, head: bytes, source: Source, seen: Callable[[bytes | memoryview], None] | None
) -> Reshape | None:
    """The converter from the served bytes to the image; ``None`` where they are the image."""
    if kind == "raw":
        return None
    if kind == "qcow2":
        return qcow2.Placing(qcow2.Map(qcow2.header(head), source.length, source.read_at))
    return decoding(kind, seen)
