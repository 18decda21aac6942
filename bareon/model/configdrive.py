# SPDX-License-Identifier: Apache-2.0
"""The configdrive: what the deployed system's cloud-init reads at its first start.

It holds keys, passwords and scripts: nothing of its content may reach a log, a plan, a report or an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bareon.sizes import MIB

LABEL = "config-2"
"""The label by which cloud-init finds it; also the partition's name."""

SIZE = 64 * MIB
"""The size of its partition, and the most that a configdrive may have."""

FOLDER = "openstack/latest"
"""The folder of the files in a configdrive that is made from the input."""


@dataclass(frozen=True)
class Configdrive:
    """Either a whole file system as it is to be written (``image``), or the ``files`` that one is to be made of.

    ``files`` are names below :data:`FOLDER` with their content; ``kind`` is the file system, ``sector`` the largest
    logical sector in bytes of a disk that it can be mounted from, and ``path`` says where it was given.
    """

    kind: Literal["iso9660", "vfat"] = "vfat"
    image: bytes | None = field(default=None, repr=False)
    files: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    sector: int = 4096
    path: str = field(default="$.configdrive", compare=False)
