# SPDX-License-Identifier: Apache-2.0
"""The mark of a finished deployment: the GUID of the partition table of each of its disks.

It can be read of a disk without starting or mounting anything, whatever lies on it, encrypted or not; whoever makes
the table anew removes it; and nothing else goes by that GUID, since boot entries and fstab name partitions. Its form
is version 8 of RFC 9562: ``bareon`` in ASCII, bits that differ for each disk, and 48 bits of the document's SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bareon.errors import CommandError
from bareon.probe import is_passed_over
from bareon.tools import lsblk, multipath, sfdisk

_BEGIN = b"bareon".hex()
_DIGITS = 12  # of the digest
_NO_TABLE = 1  # exit code of sfdisk
_ENDS = 1 << 16  # bytes at both ends of a disk, a GPT and its copy among them
_PROTECTIVE = "ee"  # of the MBR before a GPT


def guid(digest: str, disk: str) -> str:
    """The mark of a document with this SHA-256 on a disk; ``disk`` is what tells it from others."""
    own = int(hashlib.sha256(f"{digest} {disk}".encode()).hexdigest()[:7], 16)  # 28 bits
    version, variant = 0x8000 | own >> 16 & 0xFFF, 0x8000 | own & 0x3FFF
    return str(uuid.UUID(f"{_BEGIN}{version:04x}{variant:04x}{digest[:_DIGITS]}"))


def digest_of(text: str | None) -> str | None:
    """The first 12 digits of the document's SHA-256 in a GUID; ``None`` where it is no mark."""
    plain = (text or "").lower().replace("-", "")
    return plain[-_DIGITS:] if len(plain) == 32 and plain.startswith(_BEGIN) and plain[12] == "8" else None


@dataclass(frozen=True)
class Marks:
    """The digits of the marks of a machine's disks, by device, and why those of others cannot be known."""

    found: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)


def look() -> Marks:
    """Look at every disk of this machine, and at maps of multipath in place of their paths.

    A disk that can be read and has no table, or another one than a GPT, has no mark. Whatever else keeps its table
    from being read leaves it unknown: it may be a disk that was deployed.

    :raises CommandError: when the disks cannot be listed.
    """
    marks = Marks()
    for device in _disks(lsblk.devices()):
        try:
            table = _table(device)
        except (CommandError, OSError) as error:
            marks.unknown[device.path] = str(error)
            continue
        if table and table.label == "dos" and any(entry.type == _PROTECTIVE for entry in table.entries):
            marks.unknown[device.path] = "its partition table, a GPT, is damaged"
        elif table and (digits := digest_of(table.guid)):
            marks.found[device.path] = digits
    return marks


def _disks(devices: list[lsblk.BlockDevice]) -> Iterator[lsblk.BlockDevice]:
    # A path that is on standby gives errors, whatever is on its disk.
    paths = {name for device in devices if device.type == "mpath" for name in multipath.paths(device.name)}
    for device in devices:
        whole = device.type == "mpath" or (device.type == "disk" and device.name not in paths)
        if whole and device.size and not is_passed_over(device):
            yield device


def _table(device: lsblk.BlockDevice) -> sfdisk.Table | None:
    try:
        return sfdisk.read(device.path)
    except CommandError as error:
        if error.code != _NO_TABLE:
            raise
        # sfdisk has one exit code for a disk without a table and for one that it cannot read.
        _readable(device)
        return None


def _readable(device: lsblk.BlockDevice) -> None:
    """Read where a partition table would be.

    :raises OSError: when that cannot be done.
    """
    fd = os.open(device.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for place in (0, max(0, device.size - _ENDS)):
            if len(os.pread(fd, _ENDS, place)) < min(_ENDS, device.size):
                raise OSError(f"{device.path} ends before its size of {device.size} bytes")
    finally:
        os.close(fd)


def put(digest: str, disks: Iterable[str]) -> None:
    """Mark the disks of a finished deployment.

    :raises CommandError: when one cannot be written.
    """
    for disk in disks:
        sfdisk.name(disk, guid(digest, disk))
