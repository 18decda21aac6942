# SPDX-License-Identifier: Apache-2.0
"""Kernel parameters that an image brings, and what becomes of them on the node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bareon.boot import grub_script
from bareon.boot.entries import bls, grub_cfg
from bareon.boot.grub_defaults import defaults, unread
from bareon.storage.filesystem import Mounted
from bareon.system import shell
from bareon.system.bindings.binding import shown
from bareon.system.bindings.boot_entries import CMDLINE
from bareon.system.kernel import Kernel, in_boot
from bareon.system.shell import COMMAND
from bareon.system.tree import Tree

#: Files with the parameters of other makers of menus, and the setting in each: kernel-install, Alpine's extlinux.
_PLACES = ((CMDLINE, ""), ("/etc/update-extlinux.conf", "default_kernel_opts"))

_SUBVOLUME = ("subvol=", "subvolid=")


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


def of_image(tree: Tree, kernel: Kernel | None = None) -> Parameters:
    """Those of an ordinary entry, from where the image has them.

    An entry of the Boot Loader Specification for the kernel comes first, since what makes new ones copies it; then
    GRUB's settings, and what other makers of menus read.
    """
    found = _of_entries(tree, kernel.name) if kernel else None
    if found := found or _of_grub(tree):
        return found
    return next(filter(None, (_of_line(tree, *place) for place in _PLACES)), Parameters())


def _of_entries(tree: Tree, kernel: str) -> Parameters | None:
    former = bls.added(tree)
    for entry in bls.read(tree, grub_cfg.saved(tree)):
        if in_boot(entry.kernel) == kernel and entry.arguments:
            return Parameters(tuple(x for x in entry.arguments if x not in former), (), entry.source)
    return None


def _of_line(tree: Tree, path: str, setting: str) -> Parameters | None:
    """The parameters in one line of a file, or in a setting of it."""
    text = tree.read(path) or ""
    line = shell.assignments(text).get(setting, "") if setting else " ".join(text.split())
    former = bls.added(tree) if path == CMDLINE else ()
    words = tuple(x for x in line.split() if x not in former)
    return Parameters(words, (), path) if line.isprintable() and words else None


def _of_grub(tree: Tree) -> Parameters | None:
    settings = defaults(tree)
    found: list[str] = []
    lost = [shown(line) for line in unread(tree)]
    for name in ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"):
        for word in grub_script.split(settings.get(name, "")):
            if word.isprintable() and "\ufffd" not in word:
                found.append(word)
            else:
                lost.append(f"{name}: {shown(word.replace(COMMAND, '$(…)'))}")
    return Parameters(tuple(found), tuple(lost), "/etc/default/grub") if found or lost else None


def arguments(named: str, brought: Sequence[str], root: Mounted, params: str) -> tuple[str, ...]:
    """All arguments of a kernel: its root, the image's parameters, and those to be added.

    The last ``rootflags=`` counts alone, so that there is one, with the subvolume that is the root.

    :param named: the word that names the root, such as ``root=UUID=…``.
    """
    words = (*without_root(brought, root), *params.split())
    if not root.flags:
        return (named, "ro", *words)
    others = [x.removeprefix("rootflags=") for x in words if x.startswith("rootflags=")]
    flags = [x for x in ",".join(others[-1:]).split(",") if x and not x.startswith(_SUBVOLUME)]
    rest = (x for x in words if not x.startswith("rootflags="))
    return (named, "ro", f"rootflags={','.join([*root.flags, *flags])}", *rest)


def without_root(brought: Sequence[str], root: Mounted) -> Iterator[str]:
    """An image's parameters without those that would name its root otherwise, or were of another boot loader.

    The last ``root=`` counts, so one of the image would win.
    """
    for word in brought:
        name, _, value = word.partition("=")
        if name in ("root", "ro", "BOOT_IMAGE", "initrd") or (name == "rootfstype" and value != root.type):
            continue
        if name == "rootflags":
            flags = [x for x in value.split(",") if not x.startswith(_SUBVOLUME)]
            if flags:
                yield f"rootflags={','.join(flags)}"
            continue
        yield word
