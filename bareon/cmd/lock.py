# SPDX-License-Identifier: Apache-2.0
"""One run at a time on a node."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bareon import reaper
from bareon.errors import Locked, UnsuitableNode

PATH = "/run/lock/bareon.lock"


@contextlib.contextmanager
def node_lock(path: str = PATH) -> Iterator[None]:
    """Hold the lock for the length of a ``with`` block. The kernel releases it when the process dies, and with it all
    that it has started.

    :raises Locked: naming the process that holds it.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnsuitableNode(f"the lock {path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 200).decode(errors="replace").strip() or "unknown"
            raise Locked(f"another run works on this node: {holder} ({path})") from None
        os.ftruncate(fd, 0)
        os.pwrite(
            fd,
            f"process {os.getpid()} since {time.strftime('%FT%TZ', time.gmtime())}\n".encode(),
            0,
        )
        with reaper.watching(fd):
            yield
    finally:
        os.close(fd)
