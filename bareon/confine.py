# SPDX-License-Identifier: Apache-2.0
"""Confinement of a process to writing below one folder, by Landlock; landlock(7) and linux/landlock.h.

What it names by a path elsewhere it can read, as before, but neither write, make, rename nor remove, whatever links
lie on the way. The descriptors that it has stay what they are.
"""

from __future__ import annotations

import ctypes
import os
import struct

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all architectures
_VERSION = 1  # flag: give the version of the interface
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
#: From this version on files can be linked and renamed from one folder to another, where that is allowed.
_OLDEST = 2
_WRITING = 0b11_1111_1111_0010  # write a file; remove, make of all kinds; refer
_TRUNCATE = 1 << 14  # version 3

_libc = ctypes.CDLL(None, use_errno=True)


def is_possible() -> bool:
    """True if this kernel can confine."""
    return _version() >= _OLDEST


def to(folder: str) -> None:
    """Confine this process, and all that it will start, to writing below ``folder`` and what is mounted there.

    :raises OSError: when the kernel refuses.
    """
    rights = _WRITING | (_TRUNCATE if _version() >= 3 else 0)
    ruleset = _called(_CREATE_RULESET, struct.pack("=Q", rights), 8, 0)
    place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    _called(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _called(_RESTRICT_SELF, ruleset, 0)
    os.close(place)
    os.close(ruleset)


def _version() -> int:
    return int(_libc.syscall(_CREATE_RULESET, None, 0, _VERSION))


def _called(number: int, *arguments: int | bytes) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "Landlock")
    return result
