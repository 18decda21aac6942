# SPDX-License-Identifier: Apache-2.0
"""Trees of files from one mounted place to another: cp(1), find(1), ln(1)."""

from __future__ import annotations

from bareon.run import run

PROGRAMS = ("cp", "find", "ln")


def tree(source: str, target: str) -> None:
    """Copy what is in a folder, and the folder's own owner and mode, with links, ACLs, attributes and holes.

    What has the name of a copy in ``target`` is replaced; a link there is never followed.
    """
    flags = ("--archive", "--one-file-system", "--remove-destination")
    run(["cp", *flags, f"{source}/.", f"{target}/"], timeout=None)


def empty(folder: str) -> None:
    """Remove everything in a folder, however deep; links are removed, never followed."""
    run(["find", folder, "-xdev", "-mindepth", "1", "-delete"], timeout=None)


def file(source: str, target: str) -> None:
    """Copy a file, or a link as it is, with all that :func:`tree` keeps; what is at ``target`` is replaced."""
    run(["cp", "--archive", "--no-target-directory", "--remove-destination", source, target], timeout=None)


def link(source: str, target: str) -> None:
    """Make ``target`` another name of a file on the same file system; what is there is replaced."""
    run(["ln", "--physical", "--force", "--no-target-directory", source, target])
