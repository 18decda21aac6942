# SPDX-License-Identifier: Apache-2.0
"""Trees of files from one mounted place to another: cp(1)."""

from __future__ import annotations

import shutil
from pathlib import Path

from bareon.run import run

PROGRAMS = ("cp",)


def tree(source: str, target: str) -> None:
    """Copy what is in a folder, and the folder's own owner and mode, with links, ACLs, attributes and holes."""
    run(["cp", "--archive", "--one-file-system", f"{source}/.", f"{target}/"], timeout=None)


def empty(folder: str) -> None:
    """Remove everything in a folder; links are removed, never followed."""
    for entry in Path(folder).iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
