# SPDX-License-Identifier: Apache-2.0
"""The operator's terminal, for what no file may hold."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from bareon.errors import ActionFailed

_TERMINAL = "/dev/tty"


def terminal(path: str = _TERMINAL) -> Callable[[str], None] | None:
    """What writes a line to the terminal that this process was started from; ``None`` where there is none.

    Not standard output: it may be a file, a pipe, or what a conductor keeps, whatever else is shown there. What it
    returns raises ActionFailed when the terminal has gone meanwhile, as with the connection that it belonged to.
    """
    try:
        os.close(_opened(path))
    except OSError:
        return None

    def write(words: str) -> None:
        try:
            with contextlib.closing(os.fdopen(_opened(path), "w")) as opened:
                opened.write(f"{words}\n")
        except OSError as error:
            raise ActionFailed(f"the terminal on which something was to be shown is gone: {error.strerror}") from None

    return write


def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_NOCTTY)
