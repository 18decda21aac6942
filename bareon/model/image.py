# SPDX-License-Identifier: Apache-2.0
"""A wanted image: what is brought onto the disks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Image:
    """An image, its source and the mount point in the deployed system that it is brought to."""

    name: str
    url: str
    target: str = "/"
    boot: bool = False
    image_name: str | None = None
    uuid: str | None = None
    path: str = field(default="$", compare=False)
