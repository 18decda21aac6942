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


#: Not by the name of the file, which may have all the length that a name can have.
_TEMPORARY = ".bareon-new"


@contextlib.contextmanager
def replacing_in(folder: int, name: str, mode: int) -> Iterator[IO[bytes]]:
    """As :func:`replacing`, in a folder that is open, and onto the disk. Nobody else may write there meanwhile."""
    with _taking_place(folder, name):
        fd = os.open(_TEMPORARY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            yield file
            file.flush()
            os.fsync(fd)


def linked_in(folder: int, name: str, target: str) -> None:
    """As :func:`replacing_in`, by a symbolic link to ``target``."""
    with _taking_place(folder, name):
        os.symlink(target, _TEMPORARY, dir_fd=folder)


@contextlib.contextmanager
def _taking_place(folder: int, name: str) -> Iterator[None]:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_TEMPORARY, dir_fd=folder)  # of a run that was killed
    try:
        yield
        os.replace(_TEMPORARY, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(_TEMPORARY, dir_fd=folder)
        raise
