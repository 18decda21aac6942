# SPDX-License-Identifier: Apache-2.0
"""Several places of one file as one source: where one fails, the next goes on, in the middle of the file too."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.transfer.deadline import Stopped
from bareon.transfer.failure import NotThere
from bareon.transfer.source import Skippable

LOG = logging.getLogger(__name__)

T = TypeVar("T")
#: Opens a location; the second is whether it is the last, which is tried harder.
Open = Callable[[Location, bool], Skippable]


class Mirrors:
    """A :class:`bareon.transfer.source.Source` over several locations, in their order.

    :param checked: whether what arrives is held to a digest or a signature. Without one nobody would see that a
        mirror has other bytes, so that none goes on where another has begun.
    """

    def __init__(self, locations: Sequence[Location], opened: Open, *, checked: bool) -> None:
        self._left = list(locations)
        self._open = opened
        self._checked = checked
        self._failed: list[tuple[Location, ImageFailed]] = []
        self._lock = threading.Lock()
        self._stopped = False
        self._earlier = 0
        self._here, self._source = self._next(0, None)

    @property
    def length(self) -> int | None:
        return self._source.length

    @property
    def attempts(self) -> int:
        return self._earlier + self._source.attempts

    @property
    def offset(self) -> int:
        return self._source.offset

    def begin(self, offset: int, length: int | None) -> None:
        self._source.begin(offset, length)

    def skip(self, offset: int) -> None:
        self._trying(lambda: self._source.skip(offset))

    def fill(self, buffer: memoryview) -> int:
        begun = self._source.offset
        self._trying(lambda: self._source.fill(buffer[self._source.offset - begun :]))
        return self._source.offset - begun

    def read_at(self, offset: int, length: int) -> bytes | None:
        return self._trying(lambda: self._source.read_at(offset, length))

    def _trying(self, once: Callable[[], T]) -> T:
        while True:
            try:
                return once()
            except ImageFailed as error:
                self._failed.append((self._here, error))
                source = self._source
                if source.offset and not self._checked:
                    raise self._failure("; without a digest no mirror can go on in the middle") from None
                self._earlier += source.attempts
                source.close()
                self._here, self._source = self._next(source.offset, source.length)

    def _next(self, offset: int, length: int | None) -> tuple[Location, Skippable]:
        """The next location that can be opened, at ``offset``."""
        while self._left:
            location = self._left.pop(0)
            try:
                source = self._open(location, not self._left)
                with self._lock:
                    if self._stopped:
                        source.close()
                        raise Stopped
                    self._source = source
                if offset:
                    source.begin(offset, length)
            except ImageFailed as error:
                self._failed.append((location, error))
                continue
            if self._failed:
                LOG.warning("%s: %s; going on with %s at byte %d", *self._failed[-1], location, offset)
            return location, source
        raise self._failure()

    def _failure(self, hint: str = "") -> ImageFailed:
        """What became of each location; that there is none where none of them has it."""
        (_, first), *others = self._failed
        told = "".join(f"; {location}: {error}" for location, error in others)
        kind = NotThere if all(isinstance(error, NotThere) for _, error in self._failed) else ImageFailed
        return kind(f"{first}{told}{hint}")

    def close(self) -> None:
        with self._lock:
            self._stopped = True
            source = getattr(self, "_source", None)
        if source is not None:
            source.close()
