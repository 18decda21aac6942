# SPDX-License-Identifier: Apache-2.0
"""Subvolumes of btrfs: btrfs-subvolume(8), and btrfs-inspect-internal(8) for one that nobody has mounted."""

from __future__ import annotations

import re

from bareon.run import run

PROGRAMS = ("btrfs",)

_TOP = 5
"""The number of the tree that a btrfs begins with; BTRFS_FS_TREE_OBJECTID of the kernel."""
_TOP_FOLDER = 256
"""The number of its top folder; BTRFS_FIRST_FREE_OBJECTID."""

# There is no other form: of all that can be had without a mount, which may write, it is the only one with names.
_REFERENCE = re.compile(r"^\titem \d+ key \((\S+) ROOT_REF \d+\) ")
_NAMED = re.compile(r"^\t\troot ref key dirid (\d+) sequence \d+ name (.*)$")


def at_top(device: str) -> tuple[str, ...]:
    """The names of the subvolumes in the top folder of a btrfs, sorted. Nothing is mounted, and nothing written.

    :raises CommandError: when it cannot be read, as one that lies on several devices.
    """
    done = run(["btrfs", "inspect-internal", "dump-tree", "--noscan", "-t", "root", device], timeout=60.0)
    return done.read(names)


def names(output: str) -> tuple[str, ...]:
    """The names in what ``btrfs inspect-internal dump-tree -t root`` says.

    :raises ValueError: when that is something else.
    """
    if not output.startswith("btrfs-progs ") or "\nroot tree" not in output:
        raise ValueError("no root tree")
    found, parent = [], ""
    for line in output.split("\n"):
        if item := _REFERENCE.match(line):
            parent = item[1]
        elif named := _NAMED.match(line):
            if parent in ("FS_TREE", str(_TOP)) and int(named[1]) == _TOP_FOLDER:
                found.append(named[2])
            parent = ""
    return tuple(sorted(found))


def create(path: str) -> None:
    """Make a subvolume, empty, in a btrfs that is mounted."""
    run(["btrfs", "subvolume", "create", path])


def delete(path: str) -> None:
    """Take a subvolume away with all that is in it, but for subvolumes: with one of those it stays, and this fails.

    :raises CommandError: also then.
    """
    run(["btrfs", "subvolume", "delete", "--commit-after", path], timeout=600.0)


def set_default(path: str) -> None:
    """Have a subvolume mounted where none is named."""
    run(["btrfs", "subvolume", "set-default", path])


def set_default_to_top(top: str) -> None:
    """Have the top itself mounted where no subvolume is named: what is the default cannot be taken away."""
    run(["btrfs", "subvolume", "set-default", str(_TOP), top])
