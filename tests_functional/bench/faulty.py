# SPDX-License-Identifier: Apache-2.0
"""Small trees to serve: a plain one, one that cannot be read whole, one with too many files."""

from __future__ import annotations

from pathlib import Path

#: Files of :func:`many_files`; more than the inodes of an ext4 of 32 MiB (8192).
MANY = 12_000


def small(place: Path) -> Path:
    """Make a tree of a few files, for cases in which the content does not matter."""
    (place / "etc").mkdir(parents=True)
    (place / "etc/os-release").write_text('NAME="Small"\nVERSION_ID=1\n')
    (place / "hello").write_text("hello\n")
    return place


def unreadable(place: Path) -> Path:
    """Make a tree with a file that only root can read."""
    small(place)
    (place / "secret").write_text("not for everybody\n")
    (place / "secret").chmod(0o600)
    return place


def many_files(place: Path) -> Path:
    """Make a tree with more files than a small file system can hold, though they are empty."""
    small(place)
    for number in range(MANY):
        directory = place / f"{number // 1000}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number}").touch()
    return place
