# SPDX-License-Identifier: Apache-2.0
"""An archive from its URL to whoever unpacks it: streamed, decoded, each member judged, the digest taken."""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bareon.errors import ImageFailed
from bareon.model.image import Digest, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.sizes import mib
from bareon.transfer.check import Check, Checks, is_checked
from bareon.transfer.deadline import Deadline, Stopped
from bareon.transfer.decode import Decoding
from bareon.transfer.failure import named
from bareon.transfer.format import HEAD, Format, recognised, refuse_nested
from bareon.transfer.image import open_source
from bareon.transfer.pipeline import Packer, Pipeline, Reshape
from bareon.transfer.ring import PIECE
from bareon.transfer.source import Source
from bareon.transfer.tarstream import Walk

_ZEROS = bytes(PIECE)
_TOGETHER = "all volumes of the image together"


@dataclass(frozen=True)
class Brought:
    """The figures of a transfer: bytes served, bytes of the archive once decoded, connections."""

    served: int
    size: int
    attempts: int
    format: Format
    digest: str | None


def bring(
    location: Location,
    walk: Walk,
    unpack: Callable[[int], object] | None,
    *,
    digest: Digest | None,
    published: Published,
    settings: TransferSettings,
    limit: int,
    progress: Callable[[int, int | None], None],
) -> Brought:
    """Stream an archive to a program.

    The end of the archive goes to the program only after the digest and the end of the stream were found right.

    :param unpack: starts the program, with the descriptor that it reads the plain archive from, and waits for its
        end; without one the archive is read through and judged alone. It is called in a thread.
    :param digest: of the bytes as they are served.
    :param published: what is known of it besides.
    :param limit: bytes that the decoded archive may have.
    :param progress: called in this thread with the bytes served so far and in all.
    :raises ImageFailed: when the archive cannot be fetched or is not what it should be; and what ``unpack`` raises.
    """
    deadline = Deadline(settings.total_timeout)
    with checked_source(location, settings, deadline, digest, published) as (source, checks):
        return unpacked(source, deadline, walk, unpack, checks=checks, limit=limit, progress=progress)


@contextlib.contextmanager
def checked_source(
    location: Location, settings: TransferSettings, deadline: Deadline, digest: Digest | None, published: Published
) -> Iterator[tuple[Source, Checks]]:
    """A file's source, and all that its bytes are held to; ImageFailed in the ``with`` block gets its location."""
    checked = is_checked(digest, published)
    with (
        named(location),
        contextlib.closing(open_source(location, settings, deadline, checked=checked)) as source,
        Checks(digest, published, settings) as checks,
    ):
        yield source, checks


def unpacked(
    source: Source,
    deadline: Deadline,
    walk: Walk,
    unpack: Callable[[int], object] | None,
    *,
    checks: Checks,
    limit: int,
    progress: Callable[[int, int | None], None],
) -> Brought:
    """As :func:`bring`, of an archive that comes from a source, which is at its beginning."""
    buffer = memoryview(bytearray(HEAD))
    head = bytes(buffer[: source.fill(buffer)])
    kind = recognised(head)
    with _piped(unpack, limit) as pipe:
        pipeline = Pipeline(source, pipe, deadline, checks.served)
        pipeline.run(head, _walking(kind, walk, limit, checks.plain), progress)
        last = walk.finish()
        checks.verify()
        pipe.write(0, memoryview(last))
    return Brought(pipeline.served, pipeline.size, source.attempts, kind, checks.digest)


def _walking(kind: Format, walk: Walk, limit: int, checks: Sequence[Check]) -> Reshape:
    def plain(served: Iterator[memoryview]) -> Iterator[bytes | memoryview]:
        if kind in ("raw", "qcow2"):  # that is no archive, as the walk says
            yield from served
            return
        first = True
        for piece in Decoding(kind).run(served, lambda: PIECE):
            if first:
                refuse_nested(kind, piece)
            first = False
            yield piece

    def reshape(served: Iterator[memoryview], packer: Packer) -> None:
        done = 0
        for piece in plain(served):
            # What does not go on counts as well, as members that are left out, and zeros behind the end.
            done += len(piece)
            if done > limit:
                raise ImageFailed(f"holds more than the {mib(limit)} of {_TOGETHER}")
            for check in checks:
                check.update(piece)
            for found in walk.feed(piece):
                part = memoryview(found)
                while part:
                    count = packer.room()
                    packer.add(part[:count])
                    part = part[count:]

    return reshape


class _Pipe:
    """The end of a pipe that an archive is written to, a :class:`bareon.transfer.pipeline.Target`."""

    def __init__(self, descriptor: int | None, limit: int) -> None:
        self._descriptor = descriptor
        self.broken = False
        self.limit = limit
        self.path = _TOGETHER

    def write(self, offset: int, data: memoryview) -> None:
        while self._descriptor is not None and data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BrokenPipeError:
                self.broken = True
                raise Stopped from None  # who read has ended, and says why

    def zero(self, offset: int, length: int) -> None:
        while length:
            part = min(length, PIECE)
            self.write(offset, memoryview(_ZEROS)[:part])
            length -= part

    def flush(self) -> None:
        pass


@contextlib.contextmanager
def _piped(unpack: Callable[[int], object] | None, limit: int) -> Iterator[_Pipe]:
    """A pipe to the program, which has ended at the end of the block."""
    if unpack is None:
        yield _Pipe(None, limit)
        return
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIECE)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            unpack(reading)
        except BaseException as error:  # noqa: BLE001  it is raised again by the thread that waits
            failed.append(error)
        finally:
            os.close(reading)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="unpack", daemon=True)
    thread.start()
    pipe = _Pipe(writing, limit)
    try:
        yield pipe
    except (Stopped, ImageFailed):
        # Where the program ended first, its reason is the first one; else it only missed the end.
        if not pipe.broken:
            raise
    finally:
        os.close(writing)
        thread.join()
    if failed:
        raise failed[0]
    if pipe.broken:
        raise ImageFailed("was not read to its end")
