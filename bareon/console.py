# SPDX-License-Identifier: Apache-2.0
"""What people see who stand before the machine, or look at it from afar: a line on every console."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import TextIO

from bareon.text import visible

#: The device that stands for the last console of the command line; Documentation/admin-guide/devices.txt.
_LAST = os.makedev(5, 1)


def say(text: str, root: Path) -> None:
    """Write a line to each console of the kernel's; one that takes none is passed over."""
    for name in _names(root):
        _write(root / "dev" / name, text)


def tell(text: str, root: Path) -> None:
    """Write a line to standard error, and to each console that this is not."""
    sys.stderr.write(f"{visible(text)}\n")
    sys.stderr.flush()
    own = _device(sys.stderr)
    names = _names(root)
    for name in names:
        if own is None or own not in (_device(root / "dev" / name), _LAST if name == names[-1] else None):
            _write(root / "dev" / name, text)


def _device(what: Path | TextIO) -> int | None:
    """The number of a device of characters; ``None`` for anything else."""
    try:
        found = what.stat() if isinstance(what, Path) else os.fstat(what.fileno())
    except (OSError, ValueError):  # not there, closed, or a stream without a file
        return None
    return found.st_rdev if stat.S_ISCHR(found.st_mode) else None


def _names(root: Path) -> list[str]:
    """The consoles; the last one is /dev/console."""
    try:
        return (root / "sys/class/tty/console/active").read_text().split()
    except OSError:
        return []


def _write(place: Path, text: str) -> None:
    line = f"\r\n{visible(text)}\r\n".encode(errors="backslashreplace")
    with contextlib.suppress(OSError):
        fd = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
