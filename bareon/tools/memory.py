# SPDX-License-Identifier: Apache-2.0
"""Files that are in no file system: what passes a secret to a program, or takes one from it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def held(content: bytes = b"") -> Iterator[int]:
    """A descriptor to read ``content`` from, or to write to, for the length of a ``with`` block."""
    fd = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def content(fd: int) -> bytes:
    """All that such a descriptor holds."""
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(fd), "rb") as file:
        return file.read()
