# SPDX-License-Identifier: Apache-2.0
"""The whole of what is wanted, as every data driver delivers it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bareon.model.disk import Disk
from bareon.model.filesystem import Filesystem
from bareon.model.image import Image

Policy = Literal["verify", "clean"]


@dataclass(frozen=True)
class Deployment:
    """What a node shall become. ``rsync_flags`` is an argument list, ``kernel_params`` goes to the kernel."""

    policy: Policy
    disks: tuple[Disk, ...]
    images: tuple[Image, ...] = ()
    rsync_flags: tuple[str, ...] = ("-a", "-A", "-X")
    kernel_params: str = ""

    def filesystems(self) -> Iterator[Filesystem]:
        """Every wanted file system, in the order of the input."""
        for disk in self.disks:
            for volume in disk.volumes:
                if volume.filesystem:
                    yield volume.filesystem
