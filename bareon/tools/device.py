# SPDX-License-Identifier: Apache-2.0
"""Block devices: whether one is free, by the kernel's own answer, and writing one as a whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from bareon.errors import ActionFailed, UnsuitableNode

_PIECE = 1 << 20  # bytes


def refuse_if_busy(device: str) -> None:
    """Ask the kernel itself whether a disk is in use: an exclusive open fails for what is mounted or held.

    :raises UnsuitableNode: when it is, or cannot be opened.
    """
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        reason = "it is in use" if error.errno == errno.EBUSY else f"it cannot be opened: {error.strerror}"
        raise UnsuitableNode(f"{device}: {reason}") from error


def overwrite(device: str, content: bytes, size: int) -> None:
    """Write ``content`` to the start of a device, and zeros to the rest of its ``size`` bytes.

    :raises ActionFailed: when the kernel cannot write it.
    """
    zeros = bytes(_PIECE)
    try:
        with Path(device).open("r+b", buffering=0) as file:
            view = memoryview(content)
            while view:
                view = view[file.write(view[:_PIECE]) :]
            while (left := size - file.tell()) > 0:
                file.write(zeros[:left])
            os.fsync(file.fileno())
    except OSError as error:
        raise ActionFailed(f"{device} cannot be written: {error.strerror}") from error
