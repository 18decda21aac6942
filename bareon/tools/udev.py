# SPDX-License-Identifier: Apache-2.0
"""Waiting for udev after a change: within a time limit, and for the devices that are needed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
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


def wait_for(devices: Iterable[str], sizes: dict[str, int], seconds: float = 30.0) -> None:
    """Wait until each device node is there and as large as the kernel was told.

    :raises ActionFailed: naming those that are not, after the time limit.
    """
    wanted = list(devices)
    deadline = time.monotonic() + seconds
    settle()
    while True:
        absent = [device for device in wanted if not _present(device, sizes.get(device))]
        if not absent:
            return
        if time.monotonic() > deadline:
            raise ActionFailed(f"not there {seconds:g} s after the table was written: {', '.join(absent)}")
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
