# SPDX-License-Identifier: Apache-2.0
"""Block devices: the exclusive open, which shows if one is in use; wipefs(8); writing one as a whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from bareon.errors import ActionFailed, UnsuitableNode
from bareon.run import missing, run

__all__ = ["kernel_name", "link", "missing", "overwrite", "refuse_if_busy", "wipe"]

PROGRAMS = ("wipefs",)
_PIECE = 1 << 20  # bytes
# Bytes at both ends of a device in which libblkid looks for signatures, LUKS2's second header being the innermost.
_HEAD, _TAIL = 5 << 20, 2 << 20
# Without such a device or a medium in it there is nothing to read, which is no failure.
_ABSENT = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM)


def refuse_if_busy(device: str) -> None:
    """Ask the kernel itself whether a disk is in use: an exclusive open fails for what is mounted or held.

    :raises UnsuitableNode: when it is, or cannot be opened.
    """
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        reason = "it is in use" if error.errno == errno.EBUSY else f"it cannot be opened: {error.strerror}"
        raise UnsuitableNode(f"{device}: {reason}") from error


def kernel_name(device: str) -> str:
    """The kernel's name of a device that a link names, such as ``/dev/md127`` for ``/dev/md/boot``."""
    return str(Path(device).resolve())


def link(name: str, device: str) -> None:
    """Let ``name``, a path below ``/dev`` that is free or a link, lead to a device, as a link of udev's does.

    :raises ActionFailed: when it is something else, or cannot be made.
    """
    place = Path(name)
    try:
        place.parent.mkdir(exist_ok=True)
        if place.is_symlink():
            place.unlink()
        place.symlink_to(device)
    except OSError as error:
        raise ActionFailed(f"{name} cannot be made a link to {device}: {error.strerror}") from error


def wipe(devices: Sequence[str]) -> None:
    """Remove every signature libblkid knows, backup GPT headers included, from each device in turn.

    :raises UnsuitableNode: when a device is in use.
    """
    for device in devices:
        # Without --force it leaves partition tables inside partitions, such as those of virtual machines' disks, and
        # with it it would not look whether somebody uses the device.
        refuse_if_busy(device)
        run(["wipefs", "--all", "--force", "--quiet", "--lock=yes", device])


def unreadable(device: str) -> str | None:
    """Why those parts of a device cannot be read in which signatures may be; ``None`` when they can."""
    try:
        with Path(device).open("rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            for start, length in ((0, _HEAD), (max(0, size - _TAIL), _TAIL)):
                file.seek(start)
                while length > 0 and (piece := file.read(min(length, _PIECE))):
                    length -= len(piece)
    except OSError as error:
        return None if error.errno in _ABSENT else error.strerror
    return None


def overwrite(device: str, content: bytes, size: int) -> None:
    """Write ``content`` to the start of a device, and zeros to the rest of its ``size`` bytes.

    :raises ActionFailed: when the kernel cannot write it.
    """
    zeros = bytes(_PIECE)
    try:
        with Path(device).open("r+b", buffering=0) as file:
            view = memoryview(content)
            while view:
                view = view[file.write(view[:_PIECE]) :]
            while (left := size - file.tell()) > 0:
                file.write(zeros[:left])
            os.fsync(file.fileno())
    except OSError as error:
        raise ActionFailed(f"{device} cannot be written: {error.strerror}") from error
