# SPDX-License-Identifier: Apache-2.0
"""An image from a server as one stream of bytes, resumed after broken connections.

After a broken connection the stream goes on where it stopped, by ``Range``; from a server without ranges the bytes
that are here already are read once more and dropped. So digest and decoder keep their state.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import TypeVar

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer.coding import told
from bareon.transfer.deadline import Deadline, Stopped, retrying
from bareon.transfer.failure import Broken
from bareon.transfer.format import Format
from bareon.transfer.http import Answer, Client
from bareon.transfer.source import drop

LOG = logging.getLogger(__name__)

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")
_DROP = 1 << 20  # bytes read at once to be dropped

T = TypeVar("T")
#: Where to ask and with which headers of ours; called with True when the server no longer accepts the last ones.
Entry = Callable[[bool], tuple[Location, dict[str, str]]]


class HttpSource:
    """A :class:`bareon.transfer.source.Source` over http and https, encoded by ``coding`` if by any.

    :param size: bytes of the file as published, where they are known beforehand.
    """

    def __init__(
        self,
        location: Location,
        settings: TransferSettings,
        deadline: Deadline,
        entry: Entry | None = None,
        size: int | None = None,
    ) -> None:
        self._location = location
        self._size = size
        self._settings = settings
        self._deadline = deadline
        self._client = Client(settings, deadline)
        self._renewable = entry is not None
        self._entry: Entry = entry or (lambda again: (location, {}))
        self._answer: Answer | None = None
        self._open: set[Answer] = set()
        self._lock = threading.Lock()
        self._offset = 0
        self._etag: str | None = None
        self._modified: str | None = None
        self._begun = False
        self.length: int | None = None
        self.coding: Format | None = None
        self.attempts = 0
        self._parts = True  # until an answer to a Range says otherwise

    @property
    def offset(self) -> int:
        return self._offset

    def begin(self, offset: int, length: int | None) -> None:
        """Go on at ``offset`` with what another server has begun to send, of ``length`` bytes in all."""
        self._offset, self.length, self._begun = offset, length, length is not None

    def skip(self, offset: int) -> None:
        if not self._parts:
            drop(self, offset)
            return
        if self._answer is not None:
            self._hang_up(self._answer)
            self._answer = None
        self._offset = offset

    def fill(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer):
            count = self._receive(buffer[filled:])
            if not count:
                break
            filled += count
        return filled

    def _receive(self, buffer: memoryview) -> int:
        """Some bytes, from a new connection where the last one broke."""
        self._deadline.check()
        if self._begun and self._offset == self.length:
            return 0
        try:
            return self._advance(buffer) if self._answer is not None else self._again(buffer)
        except Broken as broken:
            LOG.warning("%s: %s after %d bytes, trying again", self._location, broken, self._offset)
            return self._again(buffer)

    def _again(self, buffer: memoryview) -> int:
        def once() -> int:
            if self._answer is None:
                self._answer = self._connected()
            return self._advance(buffer)

        return self._retried(once)

    def _advance(self, buffer: memoryview) -> int:
        assert self._answer is not None
        left = None if self.length is None else self.length - self._offset
        try:
            count = self._answer.readinto(buffer[:left])
            if left and not count:  # an answer may say that it has less than is left
                raise Broken("the server ended its answer before the end of the image")
        except Broken:
            self._hang_up(self._answer)
            self._answer = None
            raise
        self._offset += count
        return count

    def _retried(self, once: Callable[[], T]) -> T:
        settings = self._settings
        again = retrying(
            settings,
            lambda error: isinstance(error, Broken),
            lambda error, number: LOG.warning("%s: %s, attempt %d, trying again", self._location, error, number),
            self._deadline.pause,
            lambda error: error.after if isinstance(error, Broken) else 0.0,
        )
        try:
            return again(once)
        except Broken as broken:
            self._deadline.check()
            place = f" after {self._offset} of {self.length or 'an unknown number of'} bytes" if self._offset else ""
            tries = "1 attempt" if settings.attempts == 1 else f"{settings.attempts} attempts in a row"
            raise ImageFailed(f"{broken}{place}, {tries}") from None

    def _connected(self) -> Answer:
        """A connection whose next byte is the one that is wanted."""
        self.attempts += 1
        headers = {}
        if self._offset:
            headers["Range"] = f"bytes={self._offset}-"
            if validator := self._etag or self._modified:
                headers["If-Range"] = validator
        answer = self._asked(headers)
        try:
            self._checked(answer)
            if answer.status == 200 and self._offset:
                self._parts = False
                self._drop(answer)
        except BaseException:
            self._hang_up(answer)
            raise
        return answer

    def _asked(self, headers: dict[str, str]) -> Answer:
        answer = self._client.get(*self._with(headers, False))
        if answer.status == 401 and self._renewable:
            # The token's life may be shorter than the transfer.
            answer.close()
            answer = self._client.get(*self._with(headers, True))
        if answer.status in (401, 416):
            answer.close()
            if answer.status == 416 and self._offset:
                raise ImageFailed(f"changed while it was read: it ends before byte {self._offset}")
            raise ImageFailed(answer.refusal)
        with self._lock:
            self._open.add(answer)
        return answer

    def _with(self, headers: dict[str, str], renew: bool) -> tuple[Location, dict[str, str], dict[str, str]]:
        location, secret = self._entry(renew)
        return location, headers, secret

    def _checked(self, answer: Answer) -> None:
        """Take what the first answer tells of the image, and hold the others to it."""
        start, total = _place(answer) if answer.status == 206 else (0, answer.length)
        if answer.status == 206 and start != self._offset:
            raise ImageFailed("the server sent another part than asked for")
        if not self._begun:
            coding = self._told(answer, total)
            if coding and self._offset:
                raise ImageFailed(f"nothing can go on in the middle of it (Content-Encoding: {coding})")
            if not coding and self._size is not None:
                if total not in (None, self._size):
                    raise ImageFailed(f"has {total} bytes, {self._size} are wanted")
                total = self._size
            self.coding, self._begun = coding, True
            self.length, self._etag, self._modified = total, _strong(answer), answer.header("Last-Modified")
        self._unchanged(answer, total)

    def _unchanged(self, answer: Answer, total: int | None) -> None:
        if self._told(answer, total) != self.coding:
            raise ImageFailed("changed while it was read: its Content-Encoding is another")
        strong, modified = _strong(answer), answer.header("Last-Modified")
        for was, now in ((self._etag, strong), (self.length, total), (None if strong else self._modified, modified)):
            if was is not None and now is not None and was != now:
                raise ImageFailed("changed while it was read")

    def _told(self, answer: Answer, total: int | None) -> Format | None:
        if total is not None and total == self._size:  # what stands there is how the file itself is packed
            return None
        return told(answer.header("Content-Encoding"), self._location.name)

    def _drop(self, answer: Answer) -> None:
        buffer = memoryview(bytearray(_DROP))
        left = self._offset
        while left:
            self._deadline.check()
            count = answer.readinto(buffer[: min(left, _DROP)])
            if not count:
                raise ImageFailed(f"changed while it was read: it ends before byte {self._offset}")
            left -= count

    def read_at(self, offset: int, length: int) -> bytes | None:
        def once() -> bytes | None:
            answer = self._asked({"Range": f"bytes={offset}-{offset + length - 1}"})
            try:
                return self._part(answer, offset, length)
            finally:
                self._hang_up(answer)

        return self._retried(once)

    def _part(self, answer: Answer, offset: int, length: int) -> bytes | None:
        if answer.status != 206:
            self._parts = False
            return None
        start, total = _place(answer)
        if start != offset:
            raise ImageFailed("the server sent another part than asked for")
        self._unchanged(answer, total)
        data = memoryview(bytearray(length))
        filled = 0
        while filled < length:
            self._deadline.check()
            count = answer.readinto(data[filled:])
            if not count:
                raise ImageFailed(f"ends before byte {offset + length}")
            filled += count
        return bytes(data)

    def _hang_up(self, answer: Answer) -> None:
        answer.close()
        with self._lock:
            self._open.discard(answer)
        if self._deadline.stopped:
            raise Stopped

    def close(self) -> None:
        with self._lock:
            answers = tuple(self._open)
        for answer in answers:
            answer.close()


def _strong(answer: Answer) -> str | None:
    """The entity tag, if it is a strong one (RFC 9110, 8.8.3)."""
    etag = answer.header("ETag")
    return None if etag is None or etag.startswith("W/") else etag


def _place(answer: Answer) -> tuple[int, int | None]:
    """First byte and total of a 206; (-1, None) when it does not say."""
    match = _CONTENT_RANGE.fullmatch(answer.header("Content-Range") or "")
    if match is None:
        return -1, None
    return int(match[1]), None if match[3] == "*" else int(match[3])
