# SPDX-License-Identifier: Apache-2.0
"""Waits until the neighbours of this node's ports have been heard: a server may choose the document by them."""

from __future__ import annotations

import time
from pathlib import Path

from bareon import hardware

_PAUSE = 0.5


def awaited(root: Path, seconds: float) -> list[str]:
    """Wait until somebody was heard at each port that has a link; return the names of those where nobody was.

    Where nobody listens, as outside of the ramdisk, nobody is waited for.

    :param seconds: the longest wait; with 0 nothing is looked at.
    :param root: the folder with ``sys`` and ``run``.
    """
    if not seconds:
        return []
    deadline = time.monotonic() + seconds
    while (silent := _silent(root)) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return silent


def _silent(root: Path) -> list[str]:
    return [port.name for port in hardware.read(root).ports if port.link and port.neighbours == ()]
