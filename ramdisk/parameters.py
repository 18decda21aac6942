# SPDX-License-Identifier: Apache-2.0
"""The kernel's command line on media and in iPXE's script."""

from __future__ import annotations

import re

from ramdisk.machine import MACHINES, USUAL

#: What neither GRUB within single quotes nor iPXE reads as something else.
_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./?&~{}\[\]*()^!|<>;#-]+")
#: What is sure to be whole (bareon/cmdline.py) is 1536; the loaders add a name of the initramfs and of the medium.
LIMIT = 1400
_IPXE = ("&&", "||")


def line(appended: str, consoles: str = MACHINES[USUAL].consoles) -> str:
    """Return the command line with what is appended to it.

    :param consoles: those of the machine, whose place others take that are appended

    :raises ValueError: for a word that a boot loader would read as something else, or that would be too long
    """
    words = appended.split()
    for word in words:
        if not _WORD.fullmatch(word) or word in _IPXE or word.startswith("#"):
            raise ValueError(f"--append: boot loaders would not hand on {word!r} as it is")
    whole = " ".join(words if any(word.startswith("console=") for word in words) else [consoles, *words])
    if len(whole) > LIMIT:
        raise ValueError(f"--append: the command line has {len(whole)} characters, and may have {LIMIT}")
    return whole


def for_grub(whole: str) -> str:
    """Return a command line as words of GRUB's script."""
    return " ".join(f"'{word}'" for word in whole.split())


def for_ipxe(whole: str) -> str:
    """Return iPXE's script, which takes kernel and initramfs from where it lies itself."""
    return f"#!ipxe\nkernel vmlinuz initrd=initramfs {whole}\ninitrd --name initramfs initramfs\nboot\n"
