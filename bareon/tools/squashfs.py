# SPDX-License-Identifier: Apache-2.0
"""Squashfs as archives: sqfs2tar(1) of squashfs-tools-ng, prlimit(1)."""

from __future__ import annotations

from bareon.errors import CommandError
from bareon.run import run
from bareon.sizes import GIB

PROGRAMS = ("prlimit", "sqfs2tar")
_FILE = "/proc/self/fd/0"
_KEPT = 64 * 1024  # bytes of what it says
_MEMORY = GIB  # address space; an honest one needs a few blocks of a MiB


def to_tar(file: int, archive: int, folder: str, timeout: float) -> None:
    """Write all that a squashfs has as an archive.

    :param file: a descriptor of the squashfs, a regular file.
    :param archive: the descriptor that the archive goes to.
    :param folder: an empty one, the only place that it could write to by a path.
    :param timeout: seconds.
    :raises CommandError: when it is damaged, or something in it cannot be in an archive.
    """
    run(
        ["prlimit", f"--as={_MEMORY}", "sqfs2tar", "--no-skip", "--root-becomes=.", _FILE],
        timeout=timeout,
        at_most=_KEPT,
        source=file,
        sink=archive,
        confined_to=folder,
    )


def reason(error: CommandError) -> str:
    """The reason for its failure, as it says it."""
    lines = error.stderr.strip().splitlines()
    return lines[-1].removeprefix(f"{_FILE}: ").rstrip(".") if lines else error.reason
