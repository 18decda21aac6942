# SPDX-License-Identifier: Apache-2.0
"""Mounting: mount(8) and umount(8), in a mount namespace that ends with the run."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bareon.errors import ActionFailed, CommandError
from bareon.run import run
from bareon.sizes import MIB
from bareon.tools import syscalls

PROGRAMS = ("mount", "umount", "sync")


def enter_private_namespace() -> None:
    """Give this process a mount namespace of its own, so that no mount outlives it, not even after SIGKILL.

    :raises ActionFailed: when the kernel refuses (not root).
    """
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    except OSError as error:
        raise ActionFailed(f"cannot enter a mount namespace: {error.strerror}") from None


def attach(source: str, target: str, *, kind: str | None = None, options: str | None = None) -> None:
    """Mount on what is :func:`mounted`: it ends with that."""
    argv = ["mount"]
    if kind == "bind":
        argv += ["--rbind", "--make-rslave"]
    elif kind:
        argv += ["-t", kind]
    run([*argv, *(["-o", options] if options else []), source, target])


@contextlib.contextmanager
def mounted(source: str, target: str, *, kind: str | None = None, options: str | None = None) -> Iterator[str]:
    """Mount for the length of a ``with`` block. ``kind`` is a file-system type or ``"bind"``."""
    attach(source, target, kind=kind, options=options)
    # A recursive bind holds mounts of the ramdisk that others may use: those are let go lazily.
    umount = ["umount", "-R", *(["-l"] if kind == "bind" else [])]
    try:
        yield target
    except BaseException:
        # The first error matters more than that of the unmounting.
        with contextlib.suppress(CommandError):
            run([*umount, *([] if "-l" in umount else ["-l"]), target], timeout=600.0)
        raise
    run([*umount, target], timeout=600.0)


@contextlib.contextmanager
def seen(source: str, target: str) -> Iterator[str]:
    """Show the one file system that is mounted at ``source``, without those on top of it, read-only at ``target``.

    Reading there changes no times, for the length of a ``with`` block.
    """
    run(["mount", "--bind", "-o", "ro", source, target])
    try:
        yield target
    finally:
        run(["umount", target], timeout=600.0)


def unmount_all() -> None:
    """Unmount all that can be, and make the rest read-only, as init does: where it sees mounts, and here."""
    for place in (["--namespace=1"], []):
        run(["umount", *place, "--all", "--read-only"], timeout=600.0, ok=range(256))


def points() -> set[str]:
    """Where something is mounted in the namespace of this process, as paths that lead through no link."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").split("\n")
    return {unescaped(line.split(" ")[4]) for line in lines if line}


def place(device: str, top: str) -> str | None:
    """Where a device is mounted in the namespace of this process; ``None`` where it is not.

    :param top: the path on its file system that lies there, such as ``/`` or that of a subvolume.
    """
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").split("\n"):
        found, _, about = line.partition(" - ")
        source = unescaped(about.split(" ")[1]) if about else ""
        if source.startswith("/dev/") and unescaped(found.split(" ")[3]) == top and _same_device(source, device):
            return unescaped(found.split(" ")[4])
    return None


def root_device() -> str | None:
    """The device of the file system that this system runs from; ``None`` for one of none, as that of a ramdisk."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").split("\n")
    return next((x for x in root_devices(lines) if Path(x).is_block_device()), None)


def root_devices(lines: Sequence[str]) -> list[str]:
    """What the device of ``/`` may be called, by the lines of mountinfo: by its numbers, and by its name.

    btrfs has numbers of no device; a name may be ``/dev/root``, which is none.
    """
    last = next((x for x in reversed(lines) if x.split(" ")[4:5] == ["/"]), "")
    found, _, about = last.partition(" - ")
    if not about:
        return []
    return [x for x in (f"/dev/block/{found.split(' ')[2]}", unescaped(about.split(" ")[1])) if x.startswith("/dev/")]


def _same_device(one: str, other: str) -> bool:
    places = Path(one), Path(other)
    return all(x.is_block_device() for x in places) and places[0].stat().st_rdev == places[1].stat().st_rdev


def unescaped(text: str) -> str:
    """A field of mountinfo or fstab(5) as it is meant: with spaces, for instance; proc_pid_mountinfo(5)."""
    return re.sub(r"\\([0-7]{3})", lambda x: chr(int(x[1], 8)), text)


def lacks(path: str | int) -> str | None:
    """What the file system at ``path``, or of a descriptor, has none left of: ``room`` or ``inodes`` for files."""
    status = os.statvfs(path)
    if status.f_files and not status.f_favail:
        return "inodes"
    return "room" if status.f_bavail * status.f_frsize < MIB else None


def free(path: str) -> int:
    """Bytes that are left for files on the file system at ``path``."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def write_back(path: str) -> None:
    """Write everything of the file system at ``path`` to its disk.

    :raises CommandError: also for errors of earlier writes that nobody was told of.
    """
    run(["sync", "--file-system", path], timeout=3600.0)
