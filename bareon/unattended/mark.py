# SPDX-License-Identifier: Apache-2.0
"""The mark of a finished deployment: the GUID of the partition table of each of its disks.

It can be read of a disk without starting or mounting anything, whatever lies on it, encrypted or not; whoever makes
the table anew removes it; and nothing else goes by that GUID, since boot entries and fstab name partitions. Its form
is version 8 of RFC 9562: ``bareon`` in ASCII, bits that differ for each disk, and 48 bits of the document's SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterable

from bareon.errors import CommandError
from bareon.tools import lsblk, sfdisk

_BEGIN = b"bareon".hex()
_DIGITS = 12  # of the digest


def guid(digest: str, disk: str) -> str:
    """The mark of a document with this SHA-256 on a disk; ``disk`` is what tells it from others."""
    own = int(hashlib.sha256(f"{digest} {disk}".encode()).hexdigest()[:7], 16)  # 28 bits
    version, variant = 0x8000 | own >> 16 & 0xFFF, 0x8000 | own & 0x3FFF
    return str(uuid.UUID(f"{_BEGIN}{version:04x}{variant:04x}{digest[:_DIGITS]}"))


def digest_of(text: str | None) -> str | None:
    """The first 12 digits of the document's SHA-256 in a GUID; ``None`` where it is no mark."""
    plain = (text or "").lower().replace("-", "")
    return plain[-_DIGITS:] if len(plain) == 32 and plain.startswith(_BEGIN) and plain[12] == "8" else None


def found() -> dict[str, str]:
    """The digits of the marks on the disks of this machine, by device. A disk whose table cannot be read has none.

    :raises CommandError: when the disks cannot be listed.
    """
    marks = {}
    for device in lsblk.devices():
        if device.type == "disk" and device.size:
            with contextlib.suppress(CommandError):
                if digits := digest_of(sfdisk.read(device.path).guid):
                    marks[device.path] = digits
    return marks


def put(digest: str, disks: Iterable[str]) -> None:
    """Mark the disks of a finished deployment.

    :raises CommandError: when one cannot be written.
    """
    for disk in disks:
        sfdisk.name(disk, guid(digest, disk))
