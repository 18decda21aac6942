# SPDX-License-Identifier: Apache-2.0
"""Initial ramdisks of a deployed system, and running what makes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from bareon.system.carried import Needs, carried, index_of, missing
from bareon.system.family import initramfs_names
from bareon.system.kernel import kernels
from bareon.system.makers import table
from bareon.system.sandbox import view
from bareon.system.tree import Tree
from bareon.tools import initramfs

FOLDERS = ("/etc", "/boot", "/var", "/tmp")
"""What their makers write to."""

RECORD = "/etc/bareon/initramfs"
"""Tells which initial ramdisks were made for bareon. Where it is there and is not true, they must be made anew: an
image has brought its own again, or a run ended between changing a file and copying it.
"""

_HEADER = "# Written by bareon: the initramfs that were made with the files of this node, their sizes and times.\n"
#: What a package of modules or depmod(8) puts into the folder of a kernel. Without any of them it is a remainder.
MODULES = frozenset({"kernel", "modules.builtin", "modules.dep", "modules.order"})


@dataclass(frozen=True)
class InitialRamdisk:
    """The initial ramdisk of a kernel of the deployed system: its path there, and the kernel's version."""

    path: str
    version: str


def with_modules(tree: Tree) -> frozenset[str]:
    """The releases of those kernels whose modules are in the tree."""
    return frozenset(
        release
        for folder in ("/lib/modules", "/usr/lib/modules")
        for release in tree.names(folder)
        if not MODULES.isdisjoint(tree.names(f"{folder}/{release}"))
    )


def initial_ramdisks(tree: Tree) -> list[InitialRamdisk]:
    """Those in /boot for kernels that the system has modules of; with a /boot of several, others are not its own."""
    names, modules = tree.names("/boot"), with_modules(tree)
    found = {
        f"/boot/{name}": version
        for version in sorted(modules)
        for name in initramfs_names(version)
        if name in names and tree.is_file(f"/boot/{name}")
    }
    # Some are called by the name of a package, not by the version.
    for kernel in kernels(tree):
        if kernel.initrd and kernel.release in modules:
            found.setdefault(f"/boot/{PurePosixPath(kernel.initrd).name}", kernel.release)
    return [InitialRamdisk(path, version) for path, version in found.items()]


def state(tree: Tree) -> str:
    """What :data:`RECORD` says of the initial ramdisks as they are. Times in a vfat are even seconds."""
    found = [(x.path, status) for x in initial_ramdisks(tree) if (status := tree.status(x.path))]
    return _HEADER + "".join(f"{path} {status.st_size} {int(status.st_mtime) // 2 * 2}\n" for path, status in found)


def to_be_made(tree: Tree) -> None:
    """Note that the initial ramdisks must be made anew."""
    tree.write(RECORD, _HEADER)


def is_outdated(tree: Tree) -> bool:
    """True if initial ramdisks that were made for bareon are there no more."""
    record = tree.read(RECORD)
    return record is not None and record != state(tree)


def is_dracut(tree: Tree) -> bool:
    """True if the initial ramdisks are dracut's: its program is there, or they have the names that it gives them."""
    named = any(x.startswith("initramfs-") and x.endswith(".img") for x in tree.names("/boot"))
    return table.has(tree, "dracut") or (named and not table.has(tree, "mkinitcpio"))


@dataclass(frozen=True)
class Looked:
    """What was seen in an initial ramdisk, in words: what it ``lacks`` of what it must carry, what is ``unknown``."""

    lacks: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def looked_into(tree: Tree, ramdisk: InitialRamdisk, needs: Needs) -> Looked:
    """Look into an initial ramdisk for what it must carry."""
    if not (needs.drivers or needs.modules or needs.programs):
        return Looked()
    try:
        there = carried(tree, ramdisk.path, ramdisk.version)
    except ValueError as error:
        named = ", ".join(needs.words)
        return Looked(unknown=(f"{ramdisk.path}: whether it carries {named} is not known: {error}",))
    index = index_of(tree, ramdisk.version)
    unknown: tuple[str, ...] = ()
    if "modules.dep" not in index and (needs.drivers or needs.modules):
        named = ", ".join(replace(needs, programs=()).words)
        reason = f"kernel {ramdisk.version} has no modules.dep, which would tell what is a module"
        unknown = (f"{ramdisk.path}: whether it carries {named} is not known: {reason}",)
    return Looked(tuple(missing(needs, there, index)), unknown)


def maker(tree: Tree) -> str | None:
    """The program of a deployed system that makes its initial ramdisks, one of :data:`table.MAKERS`."""
    found = table.of(tree)
    return found.program if found else None


def remake(tree: Tree) -> None:
    """Have a deployed system make its initial ramdisks anew, and note that.

    :raises CommandError: when that fails.
    """
    maker = table.of(tree)
    assert maker
    inside = view(tree, maker.instead(tree))
    for found in initial_ramdisks(tree):
        initramfs.remake(inside, maker.program, found.path, found.version)
    tree.write(RECORD, state(tree))
