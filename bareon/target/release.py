# SPDX-License-Identifier: Apache-2.0
"""What a deployed system calls itself: os-release(5)."""

from __future__ import annotations

import shlex

from bareon.target.tree import Tree

#: Characters of a line; shlex takes its time for long ones.
_LONGEST = 4096


def release(tree: Tree) -> dict[str, str]:
    """The fields of ``/etc/os-release``; none where there is no such file."""
    text = tree.read("/etc/os-release") or tree.read("/usr/lib/os-release") or ""
    found = {}
    for line in text.split("\n"):
        if len(line) > _LONGEST:
            continue
        name, equals, value = line.partition("=")
        try:
            words = shlex.split(value) if equals else []
        except ValueError:
            continue
        if words:
            found[name.strip()] = "".join(char for char in words[0] if char.isprintable())
    return found
