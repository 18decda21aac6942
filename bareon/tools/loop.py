# SPDX-License-Identifier: Apache-2.0
"""Loop devices of files that have no name, which losetup(8) cannot open; loop(4).

The kernel detaches one by itself when nobody has it open or mounted any more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from bareon.errors import ActionFailed, CommandError, UnsuitableNode
from bareon.run import run

PROGRAMS = ("modprobe",)

_CONTROL = "/dev/loop-control"
# linux/loop.h
_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
_CONFIG = struct.Struct("=II 52xI 176x 64x")  # struct loop_config: fd, block_size, info.lo_flags
_AUTOCLEAR = 4
_ATTEMPTS = 16  # somebody else may take the free one first
_PATIENCE, _PAUSE = 30.0, 0.02  # seconds


def check(control: str = _CONTROL) -> None:
    """See that the kernel has loop devices; its module is loaded where it is one.

    :raises UnsuitableNode: otherwise.
    """
    if not Path(control).exists():
        try:
            run(["modprobe", "loop"])
        except CommandError as error:
            raise UnsuitableNode(
                f"a part of an image needs a loop device, and the kernel has none: {error}"
            ) from None


@contextlib.contextmanager
def attached(file: int) -> Iterator[str]:
    """A block device with the content of a file, for the length of a ``with`` block.

    :param file: a descriptor of it, open for reading and writing.
    :raises ActionFailed: when the kernel has none to give.
    """
    try:
        device, name = _attached(file)
    except OSError as error:
        raise ActionFailed(f"no loop device for a part of an image: {error.strerror}") from error
    try:
        yield name
    finally:
        os.close(device)
        _wait_until_free(name)


def _wait_until_free(name: str) -> None:
    """Wait for the end of who looks at it at the moment, as udev does; until then the file's volume is in use."""
    held = Path("/sys/block", Path(name).name, "loop")
    end = time.monotonic() + _PATIENCE
    while held.exists() and time.monotonic() < end:
        time.sleep(_PAUSE)


def _attached(file: int) -> tuple[int, str]:
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for attempt in range(_ATTEMPTS):
            name = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _CONFIGURE, _CONFIG.pack(file, 0, _AUTOCLEAR))
                return device, name
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY or attempt + 1 == _ATTEMPTS:
                    raise
    finally:
        os.close(control)
    raise AssertionError
