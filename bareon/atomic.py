# SPDX-License-Identifier: Apache-2.0
"""Atomic replacement of files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """A file that replaces ``path`` atomically when the ``with`` block succeeds: no reader ever sees half of it.

    A link at ``path`` is replaced, never followed.
    """
    # Not a name that others could guess and put a link at, in /tmp.
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            yield file
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
