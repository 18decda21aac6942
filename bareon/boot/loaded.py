# SPDX-License-Identifier: Apache-2.0
"""The step that loads the kernel of the deployed system, so that it can be started without the firmware."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar, Protocol

from bareon.boot.deployed import located
from bareon.boot.entries.entry import BootEntry
from bareon.boot.kexec import LOADED, REFUSED, words
from bareon.errors import ActionFailed
from bareon.run import missing
from bareon.sizes import human
from bareon.step import Outcome, Progress, Step
from bareon.system.bindings.binding import shown
from bareon.system.tree import Tree
from bareon.tools import kexec

LOG = logging.getLogger(__name__)

_ALIGNED = 4  # bytes: where archives of an initial ramdisk begin, Documentation/driver-api/early-userspace of Linux
#: How often files are in memory while they are loaded: put together, read by the kernel, and at their places.
_TIMES = 3


class Loader(Protocol):
    """What has installed a boot loader."""

    def starting(self) -> contextlib.AbstractContextManager[tuple[BootEntry, Tree]]:
        """The entry that it boots by itself, as it lies on the disks, and the tree with the files that this names.

        :raises ActionFailed: when it cannot be read.
        """


@dataclass(frozen=True)
class LoadKernel(Step):
    """Load what the boot loader would start. What cannot be loaded is a warning: then the firmware restarts."""

    writes: ClassVar[bool] = False
    image: str
    loader: Loader

    @property
    def description(self) -> str:
        return f"Load the kernel of image {self.image!r}, which a restart starts without the firmware if it can"

    def preflight(self) -> Sequence[str]:
        absent = missing(kexec.PROGRAMS)
        return [f"{', '.join(absent)} is not installed: the firmware restarts the node"] if absent else []

    def run(self, progress: Progress) -> Outcome:
        """What the report has: ``kexec``, and why it was not loaded under ``warnings``."""
        try:
            if kexec.is_loaded():
                kexec.unload()  # that of an earlier run, which is not what this one deploys
            with self.loader.starting() as (entry, tree):
                _load(entry, tree)
        except (ActionFailed, OSError) as error:
            # The memory of a ramdisk may have no room for it.
            reason = f"its kernel is not loaded, so that the firmware restarts the node: {words(error)}"
            LOG.warning("image %s: %s", self.image, reason)
            return {"kexec": REFUSED, "warnings": reason}
        return {"kexec": LOADED}


def refusal(entry: BootEntry) -> str | None:
    """Why nothing but its boot loader can start an entry; ``None`` where its kernel can be loaded."""
    what = f"the entry that boots, {shown(entry.title)!r} of {entry.source},"
    if not entry.certain:
        return f"{what} stands beside commands that might choose or start something else"
    if entry.hypervisor:
        return f"{what} starts {shown(entry.hypervisor)} first, which is no kernel of Linux"
    if not entry.kernel:
        return f"{what} starts an EFI program, such as a unified kernel image, or another boot loader"
    return None


def _load(entry: BootEntry, tree: Tree) -> None:
    if reason := refusal(entry):
        raise ActionFailed(reason)
    arguments = " ".join(map(_quoted, entry.arguments))
    if "\0" in arguments:
        raise ActionFailed("the entry that boots has a command line with a byte of zero in it")
    kernel, *initrds = files = [_file(x, entry, tree) for x in (entry.kernel, *entry.initrds)]
    size, room = sum(x.size for x in files), kexec.room()
    if _TIMES * size > room:
        raise ActionFailed(f"it has {human(size)}, which take {_TIMES} times as much memory; {human(room)} are left")
    with tempfile.TemporaryDirectory(prefix="bareon-") as folder, contextlib.ExitStack() as stack:
        initrd = initrds[0].outside if initrds else None
        if len(initrds) > 1:
            initrd = f"{folder}/initrd"
            with Path(initrd).open("wb") as whole:
                join([stack.enter_context(x.opened()) for x in initrds], whole)
        kexec.load(kernel.outside, initrd, arguments)


@dataclass(frozen=True)
class _File:
    """A file that an entry names. ``path``, in ``tree``, leads through no link."""

    tree: Tree
    path: str
    size: int

    @property
    def outside(self) -> str:
        return self.tree.outside(self.path)

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        with self.tree.opened(self.path) as file:
            if file is None:
                raise ActionFailed(f"{shown(self.path)} is gone")
            yield file


def _file(path: str, entry: BootEntry, tree: Tree) -> _File:
    if found := located(path, entry.filesystem, tree):
        mount, inside = found
        # As a boot loader sees it, to which its file system is all that there is.
        own = Tree(tree.outside(mount.point).rstrip("/"), name=tree.name)
        end = own.end(inside)
        if end and (status := own.status(end)):
            return _File(own, end, status.st_size)
    raise ActionFailed(f"the entry that boots names {shown(path)}, which is not there")


def join(archives: Sequence[IO[bytes]], whole: IO[bytes]) -> None:
    """Write the archives of an initial ramdisk behind each other, as a boot loader lays them into memory."""
    for archive in archives:
        shutil.copyfileobj(archive, whole)
        whole.write(bytes(-whole.tell() % _ALIGNED))


def _quoted(word: str) -> str:
    """A word of a kernel's command line, which has double quotes alone (lib/cmdline.c of Linux)."""
    return f'"{word}"' if any(x.isspace() for x in word) and '"' not in word else word
