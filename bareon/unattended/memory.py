# SPDX-License-Identifier: Apache-2.0
"""Sees whether a deployment has room in the memory that the ramdisk leaves."""

from __future__ import annotations

from pathlib import Path

from bareon.errors import UnsuitableNode
from bareon.sizes import human
from bareon.tools.sandbox import available_memory

LEAST = 256 << 20
"""Bytes for the programs of a deployment; the largest of them, which unpacks a tree, stays below 150 MiB."""


def check(root: Path) -> None:
    """Refuse a node with too little memory, rather than have the kernel end a program in the middle of a disk.

    :param root: the folder with ``proc``.
    :raises UnsuitableNode: when less is left.
    """
    if (left := available_memory(root)) < LEAST:
        raise UnsuitableNode(
            f"the memory is too small: the ramdisk leaves {human(left)}, and a deployment needs {human(LEAST)};"
            " use a node with more, or the ramdisk of the profile small"
        )
