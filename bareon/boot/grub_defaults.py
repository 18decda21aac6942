# SPDX-License-Identifier: Apache-2.0
"""What an image says about GRUB in ``/etc/default/grub``, for menus that its own ``grub-mkconfig`` does not write."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

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
    """The plain assignments in a piece of shell. Nothing is run: what needs a shell to be known is left out."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        match = _ASSIGNMENT.fullmatch(line) if len(line) <= _LONGEST else None
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


def command_line(settings: Mapping[str, str]) -> str:
    """The kernel parameters of an ordinary entry."""
    values = (settings.get(name, "") for name in ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"))
    return " ".join(word for value in values for word in value.split())


def arguments(settings: Mapping[str, str], root: str, params: str) -> str:
    """All arguments of a kernel: its root file system by UUID, the image's parameters, and those to be added."""
    return " ".join(f"root=UUID={root} ro {command_line(settings)} {params}".split())


def terminal(settings: Mapping[str, str]) -> list[str]:
    """The lines of ``grub.cfg`` that put the menu onto the image's serial console; none where it has none."""
    both = settings.get("GRUB_TERMINAL", "")
    used = {x: settings.get(f"GRUB_TERMINAL_{x.upper()}", "") or both for x in ("input", "output")}
    if not any("serial" in value.split() for value in used.values()):
        return []
    command = settings.get("GRUB_SERIAL_COMMAND", "serial")
    if command.split()[:1] != ["serial"]:
        return []
    return [command, *(f"terminal_{x} {value}" for x, value in used.items() if value)]
