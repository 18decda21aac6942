# SPDX-License-Identifier: Apache-2.0
"""SELinux of a deployed system: what bareon and programs in its sandbox write has no label by itself.

An enforcing system reads no such file; selinux(8), fixfiles(8).
"""

from __future__ import annotations

import re

from bareon.system.tree import Tree

CONFIG = "/etc/selinux/config"
RELABEL = "/.autorelabel"
"""Has a system give all its files their labels at the next boot, and restart."""

#: Where GRUB, ``grub-mkconfig`` and what makes an initramfs write, and what copies a boot loader lies.
_WRITTEN = ("/boot", "/etc/kernel", "/etc/systemd/system", "/usr/local/sbin")
_USED = re.compile(r"^[ \t]*SELINUX[ \t]*=[ \t]*(?:enforcing|permissive)\b", re.MULTILINE)


def is_used(tree: Tree) -> bool:
    """True if a deployed system uses SELinux."""
    return bool(_USED.search(tree.read(CONFIG) or ""))


def label(tree: Tree) -> str | None:
    """See that what was written has labels: those of its folders, or the system is told to make them.

    :returns: what was done, in words, where that is a matter for people.
    :raises ActionFailed: when it cannot be done.
    """
    if not is_used(tree):
        return None
    if tree.is_labelled(CONFIG):
        for folder in _WRITTEN:
            if tree.names(folder):
                tree.give_labels(folder)
        return None
    if not tree.is_file(RELABEL):
        tree.write(RELABEL, "")
    return f"the image came without labels of SELinux: {RELABEL} has the system make them at its first boot"
