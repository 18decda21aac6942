# SPDX-License-Identifier: Apache-2.0
"""Kernels of a deployed system, and the initial ramdisks that they start with."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from bareon.storage.filesystem import Mounted
from bareon.system.family import initramfs_names, kernel_version
from bareon.system.tree import Tree, holder

_PLAIN = re.compile(r"[A-Za-z0-9._+~-]{1,255}")
#: What a package manager has put aside.
_ASIDE = re.compile(r"\.dpkg-[a-z-]+$|\.rpm(?:save|new|orig)$")
ODD = ("rescue|fallback", "[+.-](debug|dbg|kdump)([^A-Za-z0-9_]|$)", "[-~.]rc[0-9]+")
"""Kernels that are no choice of an ordinary boot, the worst one first: expressions that grep(1) reads too."""
_ODD = tuple(map(re.compile, ODD))


@dataclass(frozen=True)
class Kernel:
    """A kernel and its initial ramdisk, as paths in what is mounted where ``/boot`` lies.

    ``release`` is what it calls itself, as ``uname -r`` says and its folder of modules is named. ``odd`` is true for
    one that no ordinary boot takes while there is another: to rescue a system, to debug it, or a release candidate.
    """

    image: str
    initrd: str | None
    release: str
    odd: bool = False

    @property
    def name(self) -> str:
        """Its path from ``/boot``, which is the name of the file but for those that have a folder of their own."""
        return in_boot(self.image)

    def from_top(self, boot: Mounted) -> Kernel:
        """The same with the paths that a boot loader has, which knows no subvolume but as a folder.

        :param boot: what is mounted where ``/boot`` lies.
        """
        initrd = f"{boot.above}{self.initrd}" if self.initrd else None
        return replace(self, image=f"{boot.above}{self.image}", initrd=initrd)


def in_boot(path: str) -> str:
    """The path from ``/boot`` of a file there, whether that is a volume of its own to a boot loader or not."""
    return path.removeprefix("/boot/").lstrip("/")


def in_folder(tree: Tree, image: str, initrd: str | None) -> Kernel | None:
    """A kernel that an entry of a boot loader names; ``None`` where there is none in ``/boot``.

    kernel-install(8) makes a folder for each machine and version in it, in which all have the same names.
    """
    path = f"/boot/{in_boot(image)}"
    if not all(_PLAIN.fullmatch(x) for x in in_boot(image).split("/")) or not _is_readable(tree, path):
        return None
    release = _release(tree, path) or path.split("/")[-2]
    return Kernel(image, initrd, release, odd=is_odd(release))


def kernels(tree: Tree) -> list[Kernel]:
    """Those in ``/boot``, newest version first, odd ones last; rescue kernels only where there is nothing else.

    Links such as ``/vmlinuz`` are not followed to find them.
    """
    prefix = "" if any(mount.point == "/boot" for mount in tree.mounts) else "/boot"
    # Their names become part of menus, which have a syntax.
    names = [name for name in tree.names("/boot") if _PLAIN.fullmatch(name) and _is_readable(tree, f"/boot/{name}")]
    found = []
    for name in names:
        version = None if _ASIDE.search(name) else kernel_version(name)
        if version:
            release = _release(tree, f"/boot/{name}") or version
            candidates = (x for y in (version, release) for x in initramfs_names(y))
            initrd = next((f"{prefix}/{x}" for x in candidates if x in names), None)
            kernel = Kernel(f"{prefix}/{name}", initrd, release, odd=is_odd(version))
            found.append((_rank(version), *_age(release, name), kernel))
    found.sort(key=lambda x: x[:-1], reverse=True)
    return [kernel for rank, *_, kernel in found if rank or not found[0][0]]


def _is_readable(tree: Tree, path: str) -> bool:
    """True for a file that a boot loader finds at this place: links do not lead it to another file system."""
    end = tree.end(path)
    return end is not None and (not tree.mounts or holder(end, tree.mounts) == holder(path, tree.mounts))


def is_odd(name: str) -> bool:
    """True for the name of a kernel that no ordinary boot takes while there is another."""
    return _rank(name) < len(_ODD)


def _rank(version: str) -> int:
    """The place in :data:`_ODD`, and its length for an ordinary kernel."""
    return next((number for number, odd in enumerate(_ODD) if odd.search(version)), len(_ODD))


def _release(tree: Tree, path: str) -> str | None:
    """The release in the header of an x86 kernel, whose file may be called otherwise.

    ``None`` for what is none. Documentation/arch/x86/boot.rst of Linux: ``HdrS`` at 0x202, at 0x20e the place of the
    version, counted from 0x200, or zero.
    """
    with tree.opened(path) as file:
        head = file.read(0x210) if file else b""
        if not file or head[0x202:0x206] != b"HdrS":
            return None
        place = int.from_bytes(head[0x20E:], "little")
        if not place:  # it tells none
            return None
        file.seek(0x200 + place)
        words = file.read(256).split(b"\0")[0].decode("ascii", "replace").split()
    return words[0] if words and _PLAIN.fullmatch(words[0]) else None


def _age(release: str, name: str) -> tuple[list[tuple[int, str]], bool]:
    """Sorts kernels by version, and one that ``make install`` has put aside below the one in its place."""
    return by_version(release.removesuffix(".old")), not name.endswith(".old")


def by_version(name: str) -> list[tuple[int, str]]:
    """Sorts ``6.1.0-10`` above ``6.1.0-9``, as rpm and ``blscfg`` do: what is between numbers and words is nothing.

    A number is above a word, a word above the end, and the end above ``~``.
    """
    parts = re.findall(r"[0-9]+|[A-Za-z]+|~", name)
    return [*((int(x), "") if x.isdecimal() else (-2 if x == "~" else -1, x) for x in parts), (-1, "")]
