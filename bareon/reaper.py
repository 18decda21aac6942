# SPDX-License-Identifier: Apache-2.0
"""Watchdog that ends the commands of a run when the run itself was killed.

A command dies with the process that started it, see ``run.py``, but its own children do not. rsync runs as two
processes: if one is killed, the other waits minutes for its peer and keeps the disks busy. A watchdog, which signals
to the run do not reach, therefore records the process group of each command, and kills the groups when the run is
gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP)
_PAUSE = 0.05  # seconds
_END = b"end\n"  # of a run that was not killed

#: Where a command writes the number of its group; ``None`` while nobody reads it.
_pipe: int | None = None


@contextlib.contextmanager
def watching(lock: int) -> Iterator[None]:
    """End the commands of a ``with`` block, and what they have started, should this process be killed in it.

    :param lock: a file descriptor that stays open until they have ended, and with it the lock on its file. The file
        then says what the lock is still held for.
    """
    global _pipe
    reading, writing = os.pipe()
    run = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _watch(reading, lock, run)
        finally:
            os._exit(0)
    os.close(reading)
    _pipe = writing
    try:
        yield
    finally:
        _pipe = None
        with contextlib.suppress(OSError):  # the watchdog was killed itself
            os.write(writing, _END)
        os.close(writing)
        os.waitpid(pid, 0)


def enrol() -> None:
    """Register the calling process, a group leader, with the watchdog; to be called between fork and exec."""
    if _pipe is None:
        return
    # Without a watchdog the command runs all the same.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        os.write(_pipe, f"{os.getpid()}\n".encode())
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _watch(reading: int, lock: int, run: int) -> None:
    """The watchdog: record process groups until the run is gone, then kill those that still exist."""
    os.setsid()
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    # An SSH session ends only when nobody has its standard streams open.
    for number in {int(path.name) for path in Path("/proc/self/fd").iterdir()} - {reading, lock}:
        with contextlib.suppress(OSError):  # the descriptor of iterdir() itself, closed already
            os.close(number)
    os.chdir("/")
    groups: set[int] = set()
    rest = b""
    while data := os.read(reading, 4096):
        text = rest + data
        if text.endswith(_END):
            return
        *numbers, rest = text.split(b"\n")
        # Groups that have ended are dropped, since their numbers are used again.
        groups = {group for group in groups | set(map(int, numbers)) if _signal(group, 0)}
    while groups := {group for group in groups if _signal(group, signal.SIGKILL)}:
        said = f"what process {run} left behind when it was killed, groups {sorted(groups)}\n".encode()
        os.ftruncate(lock, os.pwrite(lock, said, 0))
        time.sleep(_PAUSE)


def _signal(group: int, number: int) -> bool:
    """Send a signal, or none if it is 0; tell whether the group exists."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
