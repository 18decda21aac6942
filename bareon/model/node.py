# SPDX-License-Identifier: Apache-2.0
"""Node facts: the disks of a node and all that lies on them. :mod:`bareon.facts` has their JSON form.

Sizes and positions are bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bareon.model.hardware import HardwareFacts
from bareon.storage.disk import DiskFacts
from bareon.storage.kind import Firmware, Found, Signature

FORMAT = 1
"""Of the JSON form; another one when a reader of the old one would be misled."""


@dataclass(frozen=True)
class CertificateFacts:
    """A certificate in the firmware: whose it is, as RFC 4514 writes names, and its SHA-256 in hexadecimal."""

    subject: str
    fingerprint: str


@dataclass(frozen=True)
class SecureBootFacts:
    """What the firmware says of Secure Boot; ``reason`` is why it is ``unknown``.

    ``db`` are the certificates that it trusts, ``db_hashes`` and ``dbx_hashes`` how many programs are let start and
    kept from starting by their hashes. ``sbat_level`` are the lines of shim's, where it has started this ramdisk.
    """

    state: Literal["enabled", "disabled", "setup", "unsupported", "unknown"]
    db: tuple[CertificateFacts, ...] = ()
    db_hashes: int = 0
    dbx_hashes: int = 0
    sbat_level: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Use:
    """A use of a device now: it is ``mounted`` at a mount point, used as ``swap``, or ``held`` by another device.

    ``device`` is called as elsewhere in the facts, where it is in them. ``disks`` are those that it lies on. ``at``
    is the mount point, where it is known, or the other device; ``process`` sees the mount, where the one that looked
    does not.
    """

    device: str
    way: Literal["mounted", "swap", "held"]
    disks: tuple[str, ...]
    at: str | None = None
    process: str | None = None

    @property
    def words(self) -> str:
        """The use for people: what is true of the device."""
        if self.way == "swap":
            return "used as swap"
        where = f"held by {self.at}" if self.way == "held" else f"mounted at {self.at}" if self.at else "mounted"
        return where + (f" by process {self.process}" if self.process else "")


@dataclass(frozen=True)
class NodeFacts:
    """The node as bareon's decisions need it. ``structures`` are what lies on the disks and offers other devices.

    ``uses`` are those of all devices, each where it is; the facts of disks and partitions say in words what uses
    anything that lies on them.

    ``cmdline`` is the running kernel's command line, less what looks like a secret. A BIOS has no ``secure_boot``.
    ``firmware_bits`` is 32 or 64, the word length of UEFI firmware, which starts programs of its own alone; ``None``
    where nobody knows. ``hardware`` is for people and servers; by its architecture alone is it decided whether
    there is a boot loader for the node.
    """

    firmware: Firmware
    disks: tuple[DiskFacts, ...]
    structures: tuple[Found, ...] = ()
    cmdline: str = ""
    format: int = FORMAT
    secure_boot: SecureBootFacts | None = None
    firmware_bits: int | None = None
    uses: tuple[Use, ...] = ()
    hardware: HardwareFacts | None = None

    def contents(self) -> Iterator[tuple[str, Signature | None]]:
        """Every device with what is on it: disks, partitions, and what structures offer."""
        for disk in self.disks:
            yield disk.device, disk.content
            yield from ((part.device, part.content) for part in disk.partitions)
        for structure in self.structures:
            yield from structure.offers
