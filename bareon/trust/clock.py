# SPDX-License-Identifier: Apache-2.0
"""The clock, which certificates are judged by: a server without a battery starts in 1970, or years ago."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from bareon.run import run

#: Servers that are asked, at most; more of them would not make it better.
_MOST = 4
#: Seconds until the servers are given up.
LIMIT = 10.0
#: For which a ramdisk may be in use: a clock beyond them was set by an accident, or by somebody.
YEARS = 20
_SERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,253}|[0-9A-Fa-f:]{2,45}(%[A-Za-z0-9._-]{1,15})?")


def servers(text: str) -> list[str]:
    """Return the names and addresses of a list with commas; an IPv6 address may have brackets.

    :raises ValueError: for one that is neither; its text is for people.
    """
    found = [word.removeprefix("[").removesuffix("]") for word in text.split(",")]
    for word in found:
        if not _SERVER.fullmatch(word):
            raise ValueError(f"{word or 'nothing'} is neither the name nor the address of a server")
    return found


def command(names: Sequence[str]) -> list[str]:
    """Return the command that sets the clock once by these servers; chronyd(8)."""
    # A port of its own for commands would only be something more that listens.
    lines = [*(f"server {name} iburst maxsamples 4" for name in names[:_MOST]), "cmdport 0"]
    # Lines here take the place of the file with the settings.
    return ["chronyd", "-q", "-t", f"{LIMIT:g}", *lines]


def set_by(names: Sequence[str]) -> None:
    """Set the clock by the first servers of these that answer.

    :raises CommandError: when none does.
    """
    run(command(names), timeout=LIMIT + 20.0)


def plausible(built: float, set_clock: Callable[[float], None]) -> bool:
    """Set a clock that is wrong for sure to the time at which this ramdisk was built; return whether it was right.

    It is wrong before that time, and :data:`YEARS` after it.

    :param built: seconds since 1970.
    """
    if built <= time.time() < built + YEARS * 365.25 * 86400:
        return True
    set_clock(built)
    return False
