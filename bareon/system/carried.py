# SPDX-License-Identifier: Apache-2.0
"""Whether an initramfs carries what it takes to get at the root file system: modules and programs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from bareon.storage.disk import Driver
from bareon.storage.kind import System
from bareon.system.module import INDEX, lacking, named
from bareon.system.tree import Tree
from bareon.tools import pe

_MODULE = re.compile(r"(?:usr/)?lib/modules/([^/]+)/(?:.*/)?([^/]+)\.ko(?:\.(?:gz|xz|zst|bz2))?")
_PROGRAM = re.compile(r"(?:.*/)?(?:s?bin|systemd)/([^/]+)")
#: Names in an initramfs of dracut that has all else in a file system of its own.
_PACKED = ("squash-root.img", "squashfs-root.img", "erofs-root.img", "squash/root.img")

#: The names in each file that was looked into. Two steps ask for those of one initramfs, and to decode it takes a
#: second in an emulated machine. A file that was changed or made anew has other times.
_seen: dict[tuple[int, ...], frozenset[str]] = {}


@dataclass(frozen=True)
class Needs:
    """What an initramfs must carry.

    ``drivers`` are those of disks, ``modules`` names of modules, ``programs`` each by the names that it may have.
    """

    drivers: tuple[Driver, ...] = ()
    modules: tuple[str, ...] = ()
    programs: tuple[tuple[str, ...], ...] = ()

    @property
    def words(self) -> list[str]:
        """Each of them by its name."""
        names = [*(x.name for x in self.drivers), *self.modules, *(x[0] for x in self.programs)]
        return list(dict.fromkeys(names))

    @classmethod
    def of(cls, early: System, drivers: Iterable[Driver]) -> Needs:
        """Those for what must be reached early, on disks with these drivers."""
        return cls(tuple(dict.fromkeys(drivers)), early.modules, early.programs)


@dataclass(frozen=True)
class Carried:
    """What an initramfs carries: the modules of a kernel as the kernel names them, and programs."""

    modules: frozenset[str]
    programs: frozenset[str]


def carried(tree: Tree, path: str, release: str) -> Carried:
    """What the initramfs at a path carries for a kernel.

    :raises ValueError: with the reason, where that cannot be told.
    """
    with tree.opened(path) as file:
        if file is None:
            raise ValueError("it is no file")
        status = os.fstat(file.fileno())
        known = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if known not in _seen:
            from bareon.transfer import cpio  # a plan does without, and without what decodes

            _seen[known] = cpio.names(_unwrapped(file))
        names = _seen[known]
    if any(name.endswith(_PACKED) for name in names):
        raise ValueError("most of it lies in a file system of its own")
    return of_names(names, release)


def _unwrapped(file: IO[bytes]) -> IO[bytes]:
    """The initramfs itself, of which a unified kernel image has one in it."""
    unified = file.read(2) == b"MZ"
    file.seek(0)
    if not unified:
        return file
    inner = pe.section(file, ".initrd")
    if inner is None:
        raise ValueError("there is none in it")
    return inner


def of_names(names: frozenset[str], release: str) -> Carried:
    """The same of the names in it."""
    modules = (x for name in names if (x := _MODULE.fullmatch(name)))
    programs = (x for name in names if (x := _PROGRAM.fullmatch(name)))
    return Carried(
        frozenset(x[2].replace("-", "_") for x in modules if x[1] == release), frozenset(x[1] for x in programs)
    )


def missing(needs: Needs, there: Carried, index: Mapping[str, bytes]) -> list[str]:
    """What is needed and not carried, in words.

    :param index: the files of :data:`INDEX` of the kernel's modules; what is built in need not be carried.
    """
    programs = [f"the program {x[0]}" for x in needs.programs if there.programs.isdisjoint(x)]
    if "modules.dep" not in index:
        return programs  # a kernel whose modules nobody knows
    built_in = named({name: index[name] for name in index if name != "modules.dep"})
    known = named(index)
    # What the kernel does not have at all is no matter of its initramfs.
    drivers = [x for x in needs.drivers if not lacking([x], index)]
    gone = [x.name for x in lacking(drivers, _of_carried(index, there.modules))]
    gone += [x for x in needs.modules if x in known and x not in built_in | there.modules]
    words = [f"the module {name}" for name in dict.fromkeys(gone)]
    return words + programs


def _of_carried(index: Mapping[str, bytes], modules: frozenset[str]) -> dict[str, bytes]:
    """The index as it would be with those modules alone."""
    lines = (f"{name}.ko:\n" for name in sorted(modules))
    return {**index, "modules.dep": "".join(lines).encode(), "modules.alias": b"\n".join(_aliases(index, modules))}


def _aliases(index: Mapping[str, bytes], modules: frozenset[str]) -> Iterator[bytes]:
    kept = {name.encode() for name in modules}
    for line in index.get("modules.alias", b"").split(b"\n"):
        if line.rpartition(b" ")[2].replace(b"-", b"_") in kept:
            yield line


def index_of(tree: Tree, release: str) -> dict[str, bytes]:
    """The files of :data:`INDEX` in a system's folder of a kernel's modules."""
    found = ((name, tree.content(f"/lib/modules/{release}/{name}")) for name in INDEX)
    return {name: content for name, content in found if content is not None}
