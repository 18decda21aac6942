# SPDX-License-Identifier: Apache-2.0
"""System calls that Python 3.11 has no function for: unshare(2) and mount(2), by the C library."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 1 << 5, 1 << 12, 1 << 13, 1 << 14, 1 << 18

# Loaded here, since the calls are also made between fork and exec, where another thread may have held a lock.
_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Give this process namespaces of its own.

    :raises OSError: when the kernel refuses (not root).
    """
    if _libc.unshare(flags) != 0:
        raise _error("namespace")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount, or change a mount, as ``flags`` (``MS_…``) say. ``data`` are options of a file system.

    :raises OSError: with the target.
    """
    words = [None if x is None else os.fsencode(x) for x in (source, target, kind, data)]
    if _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]) != 0:
        raise _error(target)


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
