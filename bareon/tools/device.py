# SPDX-License-Identifier: Apache-2.0
"""Whether a block device is free: the kernel's own answer."""

from __future__ import annotations

import errno
import os

from bareon.errors import UnsuitableNode


def refuse_if_busy(device: str) -> None:
    """Ask the kernel itself whether a disk is in use: an exclusive open fails for what is mounted or held.

    :raises UnsuitableNode: when it is, or cannot be opened.
    """
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        reason = "it is in use" if error.errno == errno.EBUSY else f"it cannot be opened: {error.strerror}"
        raise UnsuitableNode(f"{device}: {reason}") from error
