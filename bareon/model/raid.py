# SPDX-License-Identifier: Apache-2.0
"""A wanted md array. Its members are :class:`~bareon.model.disk.RaidMember` volumes that carry its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from bareon.model.filesystem import Filesystem

Level = Literal["raid0", "raid1", "raid5", "raid6", "raid10"]
LEVELS: tuple[Level, ...] = get_args(Level)

# The fewest members that mdadm accepts, from md(4).
FEWEST: dict[Level, int] = {"raid0": 2, "raid1": 2, "raid5": 3, "raid6": 4, "raid10": 2}


@dataclass(frozen=True)
class Array:
    """An array that holds a file system, or is a physical volume of the volume group ``vg``, or holds nothing.

    ``metadata`` is the size in bytes of the LVM metadata on it, ``None`` for LVM's own choice.
    """

    name: str
    level: Level = "raid1"
    filesystem: Filesystem | None = None
    vg: str | None = None
    metadata: int | None = None
    path: str = field(default="$", compare=False)
