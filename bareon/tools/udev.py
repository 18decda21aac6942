# SPDX-License-Identifier: Apache-2.0
"""Waiting for udev after a change: within a time limit, and for the devices that are needed."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from bareon.errors import ActionFailed
from bareon.run import run

LOG = logging.getLogger(__name__)

PROGRAMS = ("udevadm",)
DEVICES = Path("/sys/dev/block")
"""The kernel's block devices, by their numbers."""


def settle(seconds: int = 30) -> None:
    """Wait until udev has handled all events so far, at most some seconds; at once where there is no udev.

    That it takes longer is no error: it may be busy for minutes with a device that is nobody's concern. What is
    needed is waited for by :func:`wait_for`.
    """
    done = run(["udevadm", "settle", f"--timeout={seconds}"], timeout=seconds + 10.0, ok=(0, 1))
    if done.code:
        LOG.warning("udev is still busy after %d s; going on", seconds)


def look_again(device: str) -> None:
    """Have udev read a device that was written to, and wait until its links are up to date, or for a minute.

    udev watches devices itself, but misses a change while it handles an earlier event of the same device; links in
    ``/dev/disk/by-uuid`` would then stay stale.

    :raises ActionFailed: when the kernel has no such device.
    """
    # What ``udevadm trigger`` does; in an emulated machine it takes as long as to make a file system.
    try:
        number = Path(device).stat().st_rdev
        (DEVICES / f"{os.major(number)}:{os.minor(number)}/uevent").write_text("change")
    except OSError as error:
        raise ActionFailed(f"{device}: udev cannot be told to read it again: {error.strerror}") from error
    settle(60)


def wait_for(sizes: Mapping[str, int | None], seconds: float = 30.0) -> None:
    """Wait until each device node is there and has as many bytes as is said of it; ``None`` where nothing is.

    :raises ActionFailed: naming those that are not, after the time limit.
    """
    settle()
    deadline = time.monotonic() + seconds
    while True:
        absent = [device for device, size in sizes.items() if not _present(device, size)]
        if not absent:
            return
        if time.monotonic() > deadline:
            raise ActionFailed(f"not there, or not of its size, after {seconds:g} s: {', '.join(absent)}")
        left = max(1, int(deadline - time.monotonic()))
        # What udev has not come to yet, or never will where there is none, is there all the same.
        run(["udevadm", "wait", "--initialized=no", f"--timeout={left}", *absent], ok=(0, 1))


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
