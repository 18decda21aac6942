# SPDX-License-Identifier: Apache-2.0
"""Waiting for udev after a change: within a time limit, and for the devices that are needed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from bareon.errors import ActionFailed
from bareon.run import run

PROGRAMS = ("udevadm",)


def settle(seconds: int = 30) -> None:
    """Wait until udev has handled all events so far."""
    run(["udevadm", "settle", f"--timeout={seconds}"], timeout=seconds + 10.0)


def look_again(device: str) -> None:
    """Have udev read a device that was written to, and wait until its links are up to date.

    udev watches devices itself, but misses a change while it handles an earlier event of the same device; links in
    ``/dev/disk/by-uuid`` would then stay stale.
    """
    run(["udevadm", "trigger", "--settle", "--action=change", device], timeout=60.0)


def wait_for(sizes: Mapping[str, int | None], seconds: float = 30.0) -> None:
    """Wait until each device node is there and has as many bytes as is said of it; ``None`` where nothing is.

    :raises ActionFailed: naming those that are not, after the time limit.
    """
    deadline = time.monotonic() + seconds
    settle()
    while True:
        absent = [device for device, size in sizes.items() if not _present(device, size)]
        if not absent:
            return
        if time.monotonic() > deadline:
            raise ActionFailed(f"not there, or not of its size, after {seconds:g} s: {', '.join(absent)}")
        run(
            ["udevadm", "wait", f"--timeout={max(1, int(deadline - time.monotonic()))}", *absent],
            ok=(0, 1),
        )


def _present(device: str, size: int | None) -> bool:
    path = Path(device)
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    if not stat.S_ISBLK(status.st_mode):
        return False
    if size is None:
        return True
    fd = os.open(device, os.O_RDONLY)
    try:
        return os.lseek(fd, 0, os.SEEK_END) == size
    finally:
        os.close(fd)
