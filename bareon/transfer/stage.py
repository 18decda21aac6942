# SPDX-License-Identifier: Apache-2.0
"""A file that is needed whole: brought into one without a name, of which a program then makes an archive."""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
from collections.abc import Callable

from bareon.errors import ImageFailed
from bareon.model.image import Digest, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer.archive import Brought, checked_source, unpacked
from bareon.transfer.check import Checks
from bareon.transfer.deadline import Deadline, Stopped
from bareon.transfer.failure import named
from bareon.transfer.format import HEAD, recognised
from bareon.transfer.image import open_source
from bareon.transfer.pipeline import Pipeline, decoding
from bareon.transfer.tarstream import Walk


class File:
    """The file that is written, a :class:`bareon.transfer.pipeline.Target`."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self._descriptor = descriptor
        self._size = 0
        self.limit = limit
        self.path = "the place that it is brought to first"

    def write(self, offset: int, data: memoryview) -> None:
        self._size = max(self._size, offset + len(data))
        while data:
            try:
                count = os.pwrite(self._descriptor, data, offset)
            except OSError as error:
                raise ImageFailed(f"cannot be brought whole to {self.path}: {error.strerror}") from None
            offset, data = offset + count, data[count:]

    def zero(self, offset: int, length: int) -> None:
        self._size = max(self._size, offset + length)

    def flush(self) -> None:
        os.ftruncate(self._descriptor, self._size)


def length(location: Location, settings: TransferSettings) -> int | None:
    """Bytes of a file as it is served; ``None`` where its server does not tell.

    :raises ImageFailed: when it cannot be reached.
    """
    deadline = Deadline(settings.total_timeout)
    with named(location), contextlib.closing(open_source(location, settings, deadline)) as source:
        source.fill(memoryview(bytearray(1)))
        return source.length


def stage(
    location: Location,
    descriptor: int,
    *,
    digest: Digest | None,
    published: Published,
    settings: TransferSettings,
    limit: int,
    progress: Callable[[int, int | None], None],
) -> Brought:
    """Bring a file, decoded where it is compressed, into an empty one that is open for writing.

    :param digest: of the bytes as they are served.
    :param published: what is known of it besides.
    :raises ImageFailed: when it cannot be fetched, is not what it should be, or has more bytes than ``limit``.
    """
    deadline = Deadline(settings.total_timeout)
    with checked_source(location, settings, deadline, digest, published) as (source, checks):
        buffer = memoryview(bytearray(HEAD))
        head = bytes(buffer[: source.fill(buffer)])
        kind = recognised(head)
        if kind == "qcow2":
            raise ImageFailed("is a qcow2 image")
        pipeline = Pipeline(source, File(descriptor, limit), deadline, checks.served)
        pipeline.run(head, None if kind == "raw" else decoding(kind), progress)
        checks.verify()
    return Brought(pipeline.served, pipeline.size, source.attempts, kind, checks.digest)


class _Output:
    """What a program writes, a :class:`bareon.transfer.source.Source`. Its failure is raised at the end of it."""

    length: int | None = None
    attempts = 1
    offset = 0

    def __init__(self, program: Callable[[int], object], deadline: Deadline) -> None:
        self._deadline = deadline
        self._failed: list[BaseException] = []
        self._reading, writing = os.pipe()
        work = contextvars.copy_context().run
        self._thread = threading.Thread(target=work, args=(self._work, program, writing), name="archive", daemon=True)
        self._thread.start()

    def _work(self, program: Callable[[int], object], writing: int) -> None:
        try:
            program(writing)
        except BaseException as error:  # noqa: BLE001  it is raised again by the thread that reads
            self._failed.append(error)
        finally:
            os.close(writing)

    def fill(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer):
            if self._deadline.stopped:
                raise Stopped
            count = os.readv(self._reading, [buffer[filled:]])
            if not count:
                break
            filled += count
        if not filled:
            self._thread.join()
            if self._failed:
                raise self._failed[0]
        return filled

    def begin(self, offset: int, length: int | None) -> None:
        raise ImageFailed("is made by a program, which begins at its beginning alone")

    def read_at(self, offset: int, length: int) -> bytes | None:
        return None

    def close(self) -> None:
        """Nothing: a read under way ends when the program does, and :func:`convert` sees to that."""

    def end(self) -> None:
        """Let the program end, which meets a broken pipe."""
        os.close(self._reading)
        self._thread.join()


def convert(
    location: Location,
    program: Callable[[int], object],
    walk: Walk,
    unpack: Callable[[int], object] | None,
    *,
    settings: TransferSettings,
    limit: int,
    progress: Callable[[int, int | None], None],
) -> Brought:
    """Stream the archive that a program makes to one that unpacks it, as :func:`bareon.transfer.archive.bring` does.

    :param location: where the file came from, for errors.
    :param program: starts the program, with the descriptor that it writes the archive to, and waits for its end.
    """
    deadline = Deadline(settings.total_timeout)
    source = _Output(program, deadline)
    try:
        with named(location), Checks(None, Published(), settings) as none:
            return unpacked(source, deadline, walk, unpack, checks=none, limit=limit, progress=progress)
    finally:
        source.end()
