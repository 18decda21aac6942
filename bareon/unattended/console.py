# SPDX-License-Identifier: Apache-2.0
"""What people see who stand before the machine, or look at it from afar: a line on every console."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from bareon.text import visible


def say(text: str, root: Path) -> None:
    """Write a line to each console of the kernel's; one that takes none is passed over."""
    line = f"\r\nbareon: {visible(text)}\r\n".encode(errors="backslashreplace")
    try:
        names = (root / "sys/class/tty/console/active").read_text().split()
    except OSError:
        names = []
    for name in names:
        with contextlib.suppress(OSError):
            fd = os.open(root / "dev" / name, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)
