# SPDX-License-Identifier: Apache-2.0
"""Unified kernel images, UKI: an EFI program that holds a kernel, its initramfs and its command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from bareon.boot.entries.entry import BootEntry
from bareon.system.initramfs import with_modules
from bareon.system.kernel import by_version
from bareon.system.tree import Tree
from bareon.tools import pe

FOLDERS = ("/boot/EFI/Linux", "/boot/efi/EFI/Linux", "/efi/EFI/Linux")
MODULES = "/usr/lib/modules"
"""Packages of distributions bring theirs beside the modules of the kernel, for kernel-install(8) to copy."""

_LARGEST = 64 << 10  # bytes of a section that is read, of a kernel and an initramfs no more


def read(tree: Tree) -> list[BootEntry]:
    """Those of a system, newest first; what is no such program is left out.

    Those beside modules are told where there are no others.
    """
    return _in(tree, FOLDERS) or _in(tree, [f"{MODULES}/{x}" for x in _newest(tree.names(MODULES))])


def _in(tree: Tree, folders: Sequence[str]) -> list[BootEntry]:
    found = []
    for folder in folders:
        names = [x for x in tree.names(folder) if x.endswith(".efi")]
        for name in _newest(names):
            with tree.opened(f"{folder}/{name}") as file:
                found += parse(file, f"{folder}/{name}") if file else []
    return found


def _newest(names: Sequence[str]) -> list[str]:
    return sorted(names, key=by_version, reverse=True)


def parse(file: IO[bytes], source: str) -> list[BootEntry]:
    """The entry in an EFI program, none where it holds no kernel."""
    try:
        sections = pe.sections(file, _LARGEST)
    except ValueError:
        return []
    if ".linux" not in sections:
        return []
    line = sections.get(".cmdline", b"").rstrip(b"\0\n").decode(errors="surrogateescape")
    initrds = (f"{source} (.initrd)",) if ".initrd" in sections else ()
    return [BootEntry(_title(sections) or source, source, source, initrds, tuple(line.split()), name=source)]


def release(tree: Tree, source: str) -> str | None:
    """The release of the kernel in one: as it says itself, else as its place does; ``None`` where nothing tells.

    A system with the modules of one kernel alone has no other.
    """
    with tree.opened(source) as file:
        said = pe.sections(file, _LARGEST).get(".uname", b"") if file else b""
    words = said.rstrip(b"\0\n").decode("ascii", "replace")
    folder = source.rpartition("/")[0].rpartition("/")
    if words or folder[0] == MODULES:
        return words or folder[2]
    there = with_modules(tree)
    return min(there) if len(there) == 1 else None


def _title(sections: dict[str, bytes]) -> str:
    text = sections.get(".osrel", b"").decode(errors="replace")
    names = (line.removeprefix("PRETTY_NAME=").strip("\"'") for line in text.split("\n") if "PRETTY_NAME=" in line)
    return next(names, "")
