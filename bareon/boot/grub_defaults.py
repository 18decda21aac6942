# SPDX-License-Identifier: Apache-2.0
"""``/etc/default/grub`` of a deployed system: the settings in it, and kernel parameters added to it."""

from __future__ import annotations

import re
import shlex

from bareon.system.bindings.kernel_words import OWN
from bareon.system.tree import Tree

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(GRUB_[A-Z_]+)=(.*)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_HARMLESS = re.compile(r"[\w .,:=/@%+-]*")
#: Characters of a line and of a value: shlex takes its time for long ones, and values can double in each line.
_LONGEST = 4096


def defaults(tree: Tree) -> dict[str, str]:
    """The settings in ``/etc/default/grub`` and ``/etc/default/grub.d/*.cfg``."""
    files = ["/etc/default/grub"]
    files += [f"/etc/default/grub.d/{x}" for x in tree.names("/etc/default/grub.d") if x.endswith(".cfg")]
    return parse("\n".join(tree.read(file) or "" for file in files))


def parse(text: str) -> dict[str, str]:
    """The plain assignments in a piece of shell, but for bareon's own, which may be those of an earlier document.

    Nothing is run: those that need a shell are left out.
    """
    found: dict[str, str] = {}
    for line in text.split("\n"):
        match = _ASSIGNMENT.fullmatch(line) if len(line) <= _LONGEST and not line.endswith(OWN) else None
        if not match:
            continue
        try:
            words = shlex.split(match[2], comments=True)
        except ValueError:
            continue
        value = _VARIABLE.sub(lambda x: found.get(x[1] or x[2], ""), words[0] if words else "")
        if len(value) <= _LONGEST and _HARMLESS.fullmatch(value):
            found[match[1]] = value
    return found


def with_kernel_params(text: str, params: str) -> str:
    """``/etc/default/grub`` with the parameters added to those of the image; a former addition is replaced."""
    kept = [line for line in text.rstrip("\n").split("\n") if not line.endswith(OWN)]
    if params:
        kept.append(f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX "{shlex.quote(params)}{OWN}')
    return "\n".join(kept) + "\n"
