# SPDX-License-Identifier: Apache-2.0
"""Disks of virtual nodes: sparse raw files.

A disk is attached with ``cache="writeback"``: every write that the guest was told is complete has
gone through pwrite into the host's file, so whoever reads the file on this machine sees exactly
what the guest has on its disk, whether or not anybody flushed. Raw files, because qcow2 keeps part
of its state in qemu.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from building.process import run

Bus = Literal["virtio", "scsi", "sata", "nvme"]
#: Bytes read at a time.
CHUNK = 1 << 20


@dataclass(frozen=True)
class Disk:
    """One disk of a node; ``target`` is its name in the ramdisk, ``sector`` in bytes, ``properties`` are qemu's.

    ``wwn`` are 16 hexadecimal digits. Disks with one ``path`` that are ``shared`` are paths of a LUN, those from the
    second on being ``other`` ones, which have a controller of their own.
    """

    path: Path
    target: str
    bus: Bus
    serial: str
    sector: int = 512
    properties: tuple[tuple[str, int], ...] = ()
    wwn: str = ""
    shared: bool = False
    other: int = 0

    def make(self, size: int) -> None:
        """Create the file, ``size`` bytes of nothing."""
        with self.path.open("xb") as file:
            file.truncate(size)

    def at(self, place: Path) -> Disk:
        """Return the copy of this disk that lies in a directory."""
        return replace(self, path=place / self.path.name)

    def copy(self, place: Path) -> None:
        """Copy what has been written into a directory, holes as holes."""
        run(["cp", "--sparse=always", self.path, place], timeout=120)

    def digest(self) -> str:
        """Return a hash that changes with any byte of the disk.

        Holes are hashed as their position and length, which makes an empty disk as cheap as it
        sounds. So that the same bytes give the same hash with or without holes, blocks of zeros
        count as holes too.
        """
        total = hashlib.sha256()
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for position, block in _blocks(file.fileno(), size):
                if block.count(0) != len(block):
                    total.update(position.to_bytes(8, "big") + block)
            total.update(size.to_bytes(8, "big"))
        return total.hexdigest()


def _blocks(descriptor: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield position and content of each chunk that has data, chunks lying on a fixed grid."""
    position = 0
    while position < size:
        try:
            data = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        position = data - data % CHUNK
        yield position, os.pread(descriptor, CHUNK, position)
        position += CHUNK
