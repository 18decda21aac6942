# SPDX-License-Identifier: Apache-2.0
"""Image of a whole disk, of which partitions are brought: looked at beforehand, then streamed once for all of them.

Where something is known by which the file can be checked, all its bytes pass the checks, whichever of them are
wanted. Else only what is wanted is fetched, of a file that can be read in parts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bareon.errors import ImageFailed
from bareon.model.image import Digest, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.sizes import GIB
from bareon.transfer import qcow2, superblock
from bareon.transfer.beginning import Plain, check_whole
from bareon.transfer.check import is_checked
from bareon.transfer.deadline import Deadline
from bareon.transfer.device import Device
from bareon.transfer.extents import Ranged, Scattered, joined
from bareon.transfer.failure import named
from bareon.transfer.foreign import refuse
from bareon.transfer.format import HEAD, refuse_nested
from bareon.transfer.image import (
    DiskFormat,
    Offer,
    PlainChecks,
    Written,
    looked_at,
    open_source,
    reshaping,
)
from bareon.transfer.partitions import Entry, Read, Table, read_table
from bareon.transfer.pipeline import Pipeline, Reshape, Target
from bareon.transfer.source import Skippable
from bareon.transfer.stage import File
from bareon.transfer.superblock import SEEN, Superblock

_CHANGED = "is another than when it was looked at: somebody has changed it meanwhile"
_BEHIND = GIB  # what a disk of unknown size may have behind its last partition


@dataclass(frozen=True)
class WholeDisk:
    """An image of a whole disk as its source serves it. ``beginning`` are its first bytes, the table among them.

    ``contents`` are the superblocks of its partitions by their numbers, as far as they can be read beforehand.
    ``tables`` are the bytes that the table was read from, with their offsets, ``heads`` those of the superblocks.
    """

    offer: Offer
    table: Table
    contents: Mapping[int, Superblock]
    beginning: bytes
    tables: tuple[tuple[int, bytes], ...] = ()
    heads: Mapping[int, bytes] = field(default_factory=dict)


def survey(location: Location, settings: TransferSettings, disk_format: DiskFormat = None) -> WholeDisk:
    """Reach an image and read its partition table; nothing is changed.

    :raises ImageFailed: when it cannot be reached, has no table, or is not what it should be.
    :raises UnsuitableNode: when an option that it needs is missing or wrong.
    """
    deadline = Deadline(settings.total_timeout)
    with named(location), contextlib.closing(open_source(location, settings, deadline)) as source:
        offer, head = looked_at(source, disk_format)
        if offer.format == "qcow2":
            qcow2.Map(qcow2.header(head), source.length, source.read_at)  # none of its tables may lie
        plain = Plain(offer.format, head, source)
        beginning = plain.beginning(HEAD)
        if beginning is None:
            raise ImageFailed("is compressed so that its beginning cannot be read before the rest")
        refuse_nested(offer.format, beginning)
        refuse(beginning)
        tables = _Recorded(plain.at)
        table = read_table(tables, offer.size)
        if table is None:
            found = superblock.read(beginning).type
            raise ImageFailed(f"is no whole disk with a partition table: it holds {found or 'nothing that is known'}")
        heads = {x.number: plain.at(x.start, min(SEEN, x.size)) for x in table.partitions}
        contents = {number: superblock.read(head) for number, head in heads.items() if len(head) >= HEAD}
        return WholeDisk(offer, table, contents, beginning, tuple(tables.found.items()), heads)


class _Recorded:
    """Reads, and keeps what was read by its offset. A table is read in parts, few and small."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.found: dict[int, bytes] = {}

    def __call__(self, offset: int, length: int) -> bytes:
        data = self._read(offset, length)
        if len(data) > len(self.found.get(offset, b"")):
            self.found[offset] = data
        return data


@dataclass(frozen=True)
class _Window:
    """The place in the image whose bytes go to a target, from ``start`` to ``end``."""

    start: int
    end: int
    target: Target


class _Windows:
    """Takes the image, and hands on what lies in one of the windows: a :class:`bareon.transfer.pipeline.Target`."""

    path = "its partitions"

    def __init__(self, windows: Sequence[_Window], limit: int) -> None:
        self._windows = windows
        self.limit = limit

    def write(self, offset: int, data: memoryview) -> None:
        for window, start, end in self._inside(offset, len(data)):
            window.target.write(start - window.start, data[start - offset : end - offset])

    def zero(self, offset: int, length: int) -> None:
        for window, start, end in self._inside(offset, length):
            window.target.zero(start - window.start, end - start)

    def flush(self) -> None:
        for window in self._windows:
            window.target.flush()

    def _inside(self, offset: int, length: int) -> list[tuple[_Window, int, int]]:
        found = ((x, max(offset, x.start), min(offset + length, x.end)) for x in self._windows)
        return [(window, start, end) for window, start, end in found if start < end]


class _Seen:
    """Bytes of the image that were looked at before, a :class:`bareon.transfer.pipeline.Target`."""

    path = "memory"

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.content = bytearray(limit)

    def write(self, offset: int, data: memoryview) -> None:
        self.content[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        self.content[offset : offset + length] = bytes(length)

    def flush(self) -> None:
        pass


@dataclass(frozen=True)
class Transfer:
    """What a transfer of an image is held to; ``progress`` is told the bytes served so far and in all."""

    location: Location
    digest: Digest | None
    published: Published
    settings: TransferSettings
    disk_format: DiskFormat
    progress: Callable[[int, int | None], None]


def write_parts(transfer: Transfer, disk: WholeDisk, devices: Mapping[Entry, tuple[str, int]]) -> Written:
    """Stream partitions onto block devices, given by their paths and the bytes that may be written.

    No device shows a file system until all of the image is there and was found right.

    :raises ImageFailed: when the image cannot be fetched or is not what it should be.
    :raises ActionFailed: when a device cannot be written.
    """
    with contextlib.ExitStack() as stack:
        targets = {entry: stack.enter_context(Device(*place)) for entry, place in devices.items()}
        for target in targets.values():
            target.begin()
        done = _bring(transfer, disk, targets)
        with named(transfer.location):
            for entry, target in targets.items():
                check_whole(superblock.read(bytes(target.head)), entry.size)
        for target in targets.values():
            target.commit()
        return _written(done, sum(x.written for x in targets.values()))


def stage_parts(transfer: Transfer, disk: WholeDisk, files: Mapping[Entry, int]) -> Written:
    """Stream partitions into empty files, given by their descriptors.

    :raises ImageFailed: when the image cannot be fetched, is not what it should be, or the files have no room.
    """
    return _bring(transfer, disk, {entry: File(file, entry.size) for entry, file in files.items()})


def _written(done: Written, written: int) -> Written:
    return Written(done.served, done.size, written, done.attempts, done.seconds, done.format, done.digest)


def _bring(transfer: Transfer, disk: WholeDisk, targets: Mapping[Entry, Target]) -> Written:
    started = time.monotonic()
    settings, known = transfer.settings, transfer.published
    deadline = Deadline(settings.total_timeout)
    checked = is_checked(transfer.digest, known) or known.plain is not None
    heads = [(x.start, disk.heads[x.number]) for x in targets if disk.heads.get(x.number)]
    seen = [(offset, data, _Seen(len(data))) for offset, data in ((0, disk.beginning), *disk.tables, *heads)]
    windows = [_Window(offset, offset + target.limit, target) for offset, _, target in seen]
    windows += [_Window(x.start, x.end, target) for x, target in targets.items()]
    with (
        named(transfer.location),
        contextlib.closing(open_source(transfer.location, settings, deadline, checked=checked)) as source,
    ):
        offer, head = looked_at(source, transfer.disk_format)
        limit = disk.table.end + _BEHIND if offer.size is None or offer.format == "zstd" else offer.size
        with PlainChecks(offer.format, transfer.digest, known, settings) as checks:
            whole = checked or offer.format not in ("raw", "qcow2")
            if whole:
                pipeline = Pipeline(source, _Windows(windows, limit), deadline, checks.served)
                pipeline.run(head, reshaping(offer.format, head, source, checks.seen), transfer.progress)
            else:
                stream, reshape = _parts_alone(source, offer, head, windows)
                pipeline = Pipeline(stream, _Windows(windows, limit), deadline)
                pipeline.run(head, reshape, transfer.progress)
            if seen[0][2].content != disk.beginning:
                raise ImageFailed(_CHANGED)
            if pipeline.size < (end := max(x.end for x in targets)):
                raise ImageFailed(f"is cut short: it has {pipeline.size} bytes, and its partitions go up to {end}")
            if whole:
                checks.judge(pipeline)
            elif (offer.served, offer.size) != (disk.offer.served, disk.offer.size):
                raise ImageFailed(_CHANGED)
            if any(target.content != data for _, data, target in seen):
                raise ImageFailed(_CHANGED)
            seconds = time.monotonic() - started
            digest = checks.digest if whole else None
            return Written(pipeline.served, pipeline.size, 0, source.attempts, seconds, offer.format, digest)


def _parts_alone(source: Skippable, offer: Offer, head: bytes, windows: Sequence[_Window]) -> tuple[Ranged, Reshape]:
    """The stream of what lies in the windows, and what makes bytes of the image of it."""
    spans = [(x.start, x.end) for x in windows]
    if offer.format == "raw":
        extents = joined(spans, len(head))
        return Ranged(source, extents), Scattered(extents)
    mapped = qcow2.Map(qcow2.header(head), source.length, source.read_at)
    runs = mapped.within(spans)
    extents = joined(mapped.hosts(runs), len(head))
    return Ranged(source, extents), qcow2.Placing(mapped, runs, extents)
