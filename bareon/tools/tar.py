# SPDX-License-Identifier: Apache-2.0
"""Archives of files: GNU tar(1)."""

from __future__ import annotations

import re

from bareon.errors import CommandError
from bareon.run import run

PROGRAMS = ("tar",)
# Records of 256 KiB: each one that it reads wakes its writer, and by the usual 10 KiB that is half of the time.
_BLOCKS = 512
_KEPT = 64 * 1024  # bytes of it: an archive can make it say more than the memory holds
_SHOWN = 5  # lines of what tar says


def extract(archive: int, folder: str) -> None:
    """Bring the members of an archive into a folder, with all that it says of them, and write nowhere else.

    What has the name of a member there is replaced, a link too; folders stay with what is in them.

    :param archive: the descriptor that the archive, which is not compressed, is read from.
    :raises CommandError: when not all of it could be brought.
    """
    run(
        [
            *("tar", "--extract", "--file=-", f"--blocking-factor={_BLOCKS}", f"--directory={folder}"),
            *("--numeric-owner", "--same-owner", "--preserve-permissions", "--acls"),
            *("--xattrs", "--xattrs-include=*"),
            *("--warning=no-timestamp", "--warning=no-unknown-keyword"),
        ],
        timeout=None,
        env={"TAR_OPTIONS": ""},
        at_most=_KEPT,
        source=archive,
        confined_to=folder,
    )


def create(folder: str, archive: int, nowhere: str) -> None:
    """Write all that is in a folder as an archive that is not compressed.

    The folder of what a check found without a name is left out: each file system has its own.

    :param archive: the descriptor that it goes to.
    :param nowhere: an empty folder, the only place that it could write to by a path.
    :raises CommandError: when something cannot be read.
    """
    run(
        [
            *("tar", "--create", "--file=-", f"--directory={folder}", "--format=pax", "--numeric-owner", "--sparse"),
            *("--acls", "--xattrs", "--xattrs-include=*"),
            *("--anchored", "--exclude=./lost+found", "."),
        ],
        timeout=None,
        env={"TAR_OPTIONS": ""},
        at_most=_KEPT,
        sink=archive,
        confined_to=nowhere,
    )


def reason(error: CommandError) -> str:
    """The reason for tar's failure: its messages, less the ones that only repeat the exit code."""
    lines = [line.strip().removeprefix("tar: ") for line in error.stderr.splitlines()]
    telling = [x for x in lines if x and not re.match("Exiting with failure|Error is not recoverable", x)]
    more = [f"and {len(telling) - _SHOWN} more like these"] if len(telling) > _SHOWN else []
    return "; ".join(telling[:_SHOWN] + more) or str(error)
