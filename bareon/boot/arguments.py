# SPDX-License-Identifier: Apache-2.0
"""Kernel parameters that an image brings, and what becomes of them on the node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bareon.boot import grub_script
from bareon.boot.grub_defaults import defaults, unread
from bareon.storage.filesystem import Mounted
from bareon.system.bindings.binding import shown
from bareon.system.shell import COMMAND
from bareon.system.tree import Tree


@dataclass(frozen=True)
class Parameters:
    """The words of an image's kernel parameters, in their order, and ``lost`` for those that could not be taken.

    ``source`` is the file that they come from.
    """

    words: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    source: str = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for what could not be taken."""
        if not self.lost:
            return ()
        return (f"{self.source} has kernel parameters that only a shell could read: {', '.join(self.lost)}",)


def of_image(tree: Tree) -> Parameters:
    """Those of an ordinary entry."""
    settings = defaults(tree)
    found: list[str] = []
    lost = [shown(line) for line in unread(tree)]
    for name in ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"):
        for word in grub_script.split(settings.get(name, "")):
            if word.isprintable() and "\ufffd" not in word:
                found.append(word)
            else:
                lost.append(f"{name}: {shown(word.replace(COMMAND, '$(…)'))}")
    return Parameters(tuple(found), tuple(lost), "/etc/default/grub")


def arguments(brought: Sequence[str], root: Mounted, params: str) -> tuple[str, ...]:
    """All arguments of a kernel: its root file system by UUID, the image's parameters, and those to be added."""
    return (f"root=UUID={root.uuid}", "ro", *without_root(brought, root), *params.split())


def without_root(brought: Sequence[str], root: Mounted) -> Iterator[str]:
    """An image's parameters without those that would name its root otherwise, or were of another boot loader.

    The last ``root=`` counts, so one of the image would win.
    """
    for word in brought:
        name, _, value = word.partition("=")
        if name in ("root", "BOOT_IMAGE", "initrd") or (name == "rootfstype" and value != root.type):
            continue
        if name == "rootflags":
            flags = [x for x in value.split(",") if not x.startswith(("subvol=", "subvolid="))]
            if flags:
                yield f"rootflags={','.join(flags)}"
            continue
        yield word
