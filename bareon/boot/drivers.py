# SPDX-License-Identifier: Apache-2.0
"""The step that asks whether a system's kernel and initramfs have what it takes to get at its root file system."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bareon.boot.entries import uki
from bareon.boot.installed import own_kernels
from bareon.boot.systemd_boot import starts
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.model.image import Early
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts
from bareon.step import Outcome, Progress, Step
from bareon.storage.disk import Driver
from bareon.system.carried import Needs, index_of
from bareon.system.initramfs import InitialRamdisk, Looked, looked_into
from bareon.system.kernel import by_version, in_boot
from bareon.system.module import INDEX, NAMES, lacking, module_folders
from bareon.system.program import absent, paths
from bareon.system.tree import Tree, mounted_tree
from bareon.text import visible

LOG = logging.getLogger(__name__)

_ANOTHER_KERNEL = "bring an image with another kernel"
_WITH_IT = "bring an image that has it"
_WITH_THEM = "bring an image with what it takes"
#: What is lacking, in words, and what would mend it.
_Lack = tuple[str, str]


def needed(layout: Layout, node: NodeFacts, image: str) -> tuple[tuple[str, Driver], ...]:
    """The drivers of the disks that hold the root file system of an image, and its ``/usr``, each with its disk."""
    below = layout.early_disks(image)
    return tuple((disk.device, x) for disk in node.disks if disk.device in below for x in disk.drivers or ())


def unknown(layout: Layout, node: NodeFacts, image: str) -> str | None:
    """What nobody can tell of the disks that hold the root file system of an image; ``None`` where all is known."""
    below = layout.early_disks(image)
    disks = [disk.device for disk in node.disks if disk.device in below and disk.drivers is None]
    if not disks:
        return None
    return (
        f"image {image!r}: whether its kernel and initramfs have the drivers of {', '.join(disks)} is not asked: the"
        " facts of the node do not tell by which drivers the running system reaches it"
    )


@dataclass(frozen=True)
class VerifyDrivers(Step):
    """Compare a kernel's modules with the drivers that this ramdisk reaches disks by, and look into its initramfs.

    ``early`` brings files of the image beforehand; without it, and for what it does not bring, the installed system
    is asked. What is lacking is a warning where that is ``allowed``, as for an image that is not the one to boot.
    """

    image: str
    layout: Layout
    needed: tuple[tuple[str, Driver], ...]
    allowed: bool
    early: Early | None = None

    @property
    def description(self) -> str:
        return f"See whether the kernel of image {self.image!r} has the drivers of its disks"

    def preflight(self) -> Sequence[str]:
        """Ask the newest kernels that the image will bring, and for the programs that no initramfs can do without.

        Where one of the kernels has all, the choice is made later. Of an image without a kernel nothing is asked.
        """
        if self.early is None:
            return []
        found, programs = self._brought(self.early)
        if not found:
            return []
        # A folder without an index is what a kernel has left that was removed, unless there is no other.
        known = {release: index for release, index in found.items() if any(name in index for name in NAMES)}
        if not known:
            return [self._unasked(list(found)[-1])]
        told = [self._lacking(release, index) for release, index in reversed(known.items())]
        lacks = [*(told[:1] if all(told) else []), self._without(programs)]
        return [words for x in lacks if x for words in self._told(x, UnsuitableNode)]

    def run(self, progress: Progress) -> Outcome:
        """Ask the kernel that boots, and its initramfs."""
        with mounted_tree(self.layout.tree(self.image), writing=()) as tree:
            boots = self._boots(tree)
            if not boots:
                return {}  # that is said by who installs the boot loader
            index = index_of(tree, boots.version)
            unasked = [] if any(name in index for name in NAMES) else [self._unasked(boots.version)]
            lack = self._lacking(boots.version, index)
            looked = Looked() if lack or not boots.path else looked_into(tree, boots, self._needs)
            lack = lack or self._not_carried(boots, looked)
        warnings = [*(self._told(lack, ActionFailed) if lack else []), *unasked, *map(visible, looked.unknown)]
        for warning in warnings:
            LOG.warning("%s", warning)
        return {"warnings": "; ".join(warnings)} if warnings else {}

    def _unasked(self, release: str) -> str:
        disks = ", ".join(dict.fromkeys(disk for disk, _ in self.needed))
        return (
            f"image {self.image!r}: whether kernel {visible(release)} has the drivers of {disks} is not known: there"
            f" is no {' and no '.join(NAMES)} in its folder of modules, which would tell"
        )

    def _brought(self, early: Early) -> tuple[Mapping[str, Mapping[str, bytes]], Collection[str]]:
        """The index of each of the newest kernels, by its release, and which paths of programs are there.

        All of it is asked for at once: each question to the server takes as long as that.
        """
        folders = module_folders(early)
        newest = sorted(folders, key=by_version)[-3:]
        wanted = paths(self._programs) if newest and self._programs else []
        files = early([*(f"{folders[x]}/{name}" for x in newest for name in INDEX), *wanted])
        index = {x: {n: files[p] for n in INDEX if (p := f"{folders[x]}/{n}") in files} for x in newest}
        return index, files.keys() & set(wanted)

    @property
    def _programs(self) -> Sequence[Sequence[str]]:
        """Those that no initramfs can do without, each by the names that it may have."""
        return self.layout.early(self.image).programs

    def _without(self, there: Collection[str]) -> _Lack | None:
        """What the image has no programs for, so that it can make no initramfs with them; ``None`` if it has all.

        :param there: the paths of programs that it has.
        """
        gone = absent(self._programs, there)
        if not gone:
            return None
        found = f"it does not have the program{'s' if len(gone) > 1 else ''} {', '.join(gone)}"
        return f"image {self.image!r} would not find its root file system: {found}", _WITH_THEM

    def _lacking(self, release: str, index: Mapping[str, bytes]) -> _Lack | None:
        """What a kernel has no drivers for; ``None`` for one that has all of them, or has no index of its modules."""
        absent = {x: disk for disk, x in reversed(self.needed)}
        gone = lacking(list(dict.fromkeys(x for _, x in self.needed)), index)
        if not gone:
            return None
        names = ", ".join(f"{x.name} for {absent[x]} ({x.modalias})" for x in gone)
        found = f"kernel {release} has no {names}"
        return f"image {self.image!r} would not find its disks: {found}", _ANOTHER_KERNEL

    @property
    def _needs(self) -> Needs:
        return Needs.of(self.layout.early(self.image), (x for _, x in self.needed))

    def _boots(self, tree: Tree) -> InitialRamdisk | None:
        """The release of the kernel that boots, and the path of its initramfs, or of what has it in it.

        The path is empty for a kernel without one: that is said by who reads the entry that boots. A unified kernel
        image boots where no kernel beside it has one.
        """
        there = own_kernels(tree, self.image)
        first = next(iter(starts(tree, there)), None)
        if first and first.embedded and (not there or self.layout.firmware == "uefi"):
            release = uki.release(tree, first.kernel)
            return InitialRamdisk(first.kernel, release or first.version)
        if not there:
            return None
        return InitialRamdisk(f"/boot/{in_boot(there[0].initrd)}" if there[0].initrd else "", there[0].release)

    def _not_carried(self, boots: InitialRamdisk, looked: Looked) -> _Lack | None:
        """What the initramfs of a kernel does not carry; ``None`` for one that carries all, or cannot be read."""
        if not looked.lacks:
            return None
        found = f"{boots.path} lacks {', '.join(looked.lacks)}"
        return f"image {self.image!r} would not find its root file system: {found}", _WITH_IT

    def _told(self, lack: _Lack, kind: type[UnsuitableNode] | type[ActionFailed]) -> list[str]:
        words, remedy = lack
        if self.allowed:
            return [words]
        raise kind(f"{words}; {remedy}, or go on with --allow_unbootable")
