# SPDX-License-Identifier: Apache-2.0
"""Trees of files from one mounted place to another: cp(1), find(1)."""

from __future__ import annotations

from bareon.run import run

PROGRAMS = ("cp", "find")


def tree(source: str, target: str) -> None:
    """Copy what is in a folder, and the folder's own owner and mode, with links, ACLs, attributes and holes.

    What has the name of a copy in ``target`` is replaced; a link there is never followed.
    """
    flags = ("--archive", "--one-file-system", "--remove-destination")
    run(["cp", *flags, f"{source}/.", f"{target}/"], timeout=None)


def empty(folder: str) -> None:
    """Remove everything in a folder, however deep; links are removed, never followed."""
    run(["find", folder, "-xdev", "-mindepth", "1", "-delete"], timeout=None)
