# SPDX-License-Identifier: Apache-2.0
"""Events for a server: lines of JSON, spooled, signed, and sent again until somebody takes them.

Nothing waits for the server: a deployment goes on where nobody listens. ``doc/source/reference/unattended.rst`` has
the form.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bareon.errors import Defect, ImageFailed, InvalidInput
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.text import visible
from bareon.transfer.deadline import Deadline, pause
from bareon.transfer.failure import Broken, named
from bareon.transfer.http import Client

LOG = logging.getLogger(__name__)

#: Where a ramdisk has the key that its events are signed with.
KEY = "etc/bareon/events.key"
_LEAST_KEY = 16  # bytes
LINES, ARCHIVE = "application/jsonl", "application/gzip"
_MOST = 1000  # events that are kept
_BATCH = 100  # events of one request
#: Statuses by which a server says that it is the body which it does not take.
_REFUSED = (400, 413, 415, 422)
#: What an event can do without, since it is large.
_LARGE = ("report", "facts", "options")
_SELDOM = 2.0  # seconds between two events of progress
_REQUEST = 60.0  # seconds for one request


def key(root: Path) -> bytes | None:
    """The key of a ramdisk, less blanks around it; ``None`` where it has none.

    :raises InvalidInput: when it is too short to be one, or cannot be read.
    """
    path = root / KEY
    try:
        found = path.read_bytes().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput([Defect(f"/{KEY}", f"cannot be read: {error.strerror}")]) from None
    if len(found) < _LEAST_KEY:
        raise InvalidInput([Defect(f"/{KEY}", f"must have at least {_LEAST_KEY} bytes")])
    return found


def signature(secret: bytes, run: str, kind: str, body: bytes) -> str:
    """The signature of a request: HMAC-SHA-256 over the run, the type of the body, and the body, in hexadecimal."""
    return hmac.new(secret, f"{run}\n{kind}\n".encode() + body, hashlib.sha256).hexdigest()


class Events:
    """The events of one run of this ramdisk; without a URL they go to the log alone.

    :param node: by what names the node is known.
    """

    def __init__(
        self, url: Location | None, secret: bytes | None, node: Mapping[str, str], settings: TransferSettings
    ) -> None:
        self._url = url
        self._secret = secret
        self._node = dict(node)
        self._settings = settings
        self.run = str(uuid.uuid4())
        self._number = 0
        self._progress = 0.0
        self._waiting: deque[tuple[str, str]] = deque()  # kind and line
        self._changed = threading.Condition()
        self._told = ""
        if url:
            threading.Thread(target=self._send, name="events", daemon=True).start()

    def tell(self, kind: str, **more: Any) -> None:
        """Spool an event. Where too many wait, what tells of progress goes first, then what is oldest."""
        now = time.time()
        with self._changed:
            self._number += 1
            head = {"run": self.run, "sequence": self._number, "time": round(now, 3), "node": self._node}
            if self._url:
                self._waiting.append((kind, json.dumps({**head, "event": kind, **more})))
                self._trim()
                self._changed.notify_all()

    def relay(self, line: str) -> None:
        """Spool an event of bareon-provision, a line of JSON; what is none is passed over."""
        try:
            event = json.loads(line)
            kind = str(event.pop("event"))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            LOG.warning("not an event: %s", visible(line)[:200])
            return
        if kind == "progressed":
            if time.monotonic() - self._progress < _SELDOM:
                return
            self._progress = time.monotonic()
        own = {"run", "sequence", "time", "node", "event", "kind"}
        self.tell(kind, **{name: value for name, value in event.items() if name not in own})

    def flush(self, seconds: float) -> bool:
        """Wait until everything was taken, at most that long; tell whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def bundle(self, path: Path) -> bool:
        """Send the archive that explains a failure, once; tell whether it was taken."""
        if not self._url:
            return False
        try:
            status = self._post(ARCHIVE, path.read_bytes())
        except (OSError, Broken, ImageFailed) as error:
            LOG.warning("the bundle was not sent: %s", error)
            return False
        if status in _REFUSED:
            LOG.warning("the bundle was refused with status %d", status)
        return status not in _REFUSED

    def _trim(self) -> None:
        while len(self._waiting) > _MOST:
            old = next((x for x in self._waiting if x[0] == "progressed"), self._waiting[0])
            self._waiting.remove(old)

    def _send(self) -> None:
        failed, most = 0, _BATCH
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                batch = list(self._waiting)[:most]
            try:
                status = self._post(LINES, "".join(f"{line}\n" for _, line in batch).encode())
            except (Broken, ImageFailed) as error:
                failed += 1
                self._complain(str(error))
                time.sleep(pause(self._settings, failed, min(getattr(error, "after", 0.0), 60.0), random.random()))
                continue
            failed, self._told = 0, ""
            if status in _REFUSED and len(batch) > 1:
                most = len(batch) // 2  # one of them alone may be to blame
                continue
            most = min(_BATCH, 2 * most)
            self._done(batch, _less(*batch[0], status) if status in _REFUSED else None)

    def _done(self, batch: list[tuple[str, str]], instead: tuple[str, str] | None) -> None:
        """Forget what was sent; what is to be sent ``instead`` comes first."""
        with self._changed:
            sent = set(batch)
            left = [x for x in self._waiting if x not in sent]
            self._waiting = deque([instead, *left] if instead else left)
            self._changed.notify_all()

    def _post(self, kind: str, body: bytes) -> int:
        assert self._url
        headers = {"Content-Type": kind, "X-Bareon-Run": self.run}
        if self._secret:
            headers["X-Bareon-Signature"] = f"sha256={signature(self._secret, self.run, kind, body)}"
        with named(self._url):
            return Client(self._settings, Deadline(_REQUEST)).post(self._url, headers, body, _REFUSED)

    def _complain(self, reason: str) -> None:
        if reason != self._told:
            LOG.warning("events are kept: %s", reason)
            self._told = reason


def _less(kind: str, line: str, status: int) -> tuple[str, str] | None:
    """An event that was refused without what is large in it; ``None`` where nothing is, so that it is dropped."""
    event = json.loads(line)
    left_out = [name for name in _LARGE if event.pop(name, None)]
    LOG.warning(
        "event %d (%s) was refused with status %d: %s",
        *(event["sequence"], kind, status, f"sent without {', '.join(left_out)}" if left_out else "dropped"),
    )
    return (kind, json.dumps({**event, "left_out": left_out})) if left_out else None
