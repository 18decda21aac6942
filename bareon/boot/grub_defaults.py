# SPDX-License-Identifier: Apache-2.0
"""``/etc/default/grub`` of a deployed system: the settings in it, and kernel parameters added to it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from bareon.system import shell
from bareon.system.bindings.kernel_words import OWN
from bareon.system.tree import Tree

_HARMLESS = re.compile(r"[\w .,:=/@%+-]*")
_PARAMETERS = re.compile(r"GRUB_CMDLINE_\w+")
_MENTION = re.compile(r"\s*+[^#]*GRUB_CMDLINE_LINUX(?:_DEFAULT)?\b")


def defaults(tree: Tree) -> dict[str, str]:
    """The settings in ``/etc/default/grub`` and ``/etc/default/grub.d/*.cfg``."""
    return parse(_text(tree))


def _text(tree: Tree) -> str:
    files = ["/etc/default/grub"]
    files += [f"/etc/default/grub.d/{x}" for x in tree.names("/etc/default/grub.d") if x.endswith(".cfg")]
    return "\n".join(tree.read(file) or "" for file in files)


def parse(text: str) -> dict[str, str]:
    """The plain assignments in a piece of shell, but for bareon's own, which may be those of an earlier document.

    Nothing is run. Kernel parameters are whatever they are, with :data:`shell.COMMAND` for what needs a shell; of the
    other settings those are left out that need one, or have characters that no such setting has.
    """
    found = shell.assignments("\n".join(line for line in text.split("\n") if not line.endswith(OWN)))
    return {
        name: value
        for name, value in found.items()
        if name.startswith("GRUB_") and (_PARAMETERS.fullmatch(name) or _HARMLESS.fullmatch(value))
    }


def unread(tree: Tree) -> Iterator[str]:
    """The lines with kernel parameters that only a shell could read."""
    for statement in shell.statements(_text(tree)):
        if not statement.name and _MENTION.match(statement.text[: shell.LONGEST]):
            yield statement.text


def with_kernel_params(text: str, params: str) -> str:
    """``/etc/default/grub`` with the parameters added to those of the image; a former addition is replaced."""
    kept = [line for line in text.rstrip("\n").split("\n") if not line.endswith(OWN)]
    if params:
        kept.append(f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX "{shlex.quote(params)}{OWN}')
    return "\n".join(kept) + "\n"
