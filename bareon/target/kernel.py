# SPDX-License-Identifier: Apache-2.0
"""The kernels of a deployed system."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bareon.target.tree import Tree

_PLAIN = re.compile(r"[A-Za-z0-9._+~-]{1,255}")


@dataclass(frozen=True)
class Kernel:
    """A kernel and its initial ramdisk, as paths on the file system that a boot loader reads them from."""

    image: str
    initrd: str | None

    @property
    def name(self) -> str:
        return self.image.rsplit("/", 1)[-1]


def kernels(tree: Tree) -> list[Kernel]:
    """Those in ``/boot``, newest version first; links such as ``/vmlinuz`` are not followed to find them."""
    prefix = "" if any(fs.mount == "/boot" for fs in tree.filesystems) else "/boot"
    names = tree.names("/boot")
    found = []
    # Their names become part of menus, which have a syntax.
    names = [name for name in names if _PLAIN.fullmatch(name) and tree.is_file(f"/boot/{name}")]
    images = [name for name in names if name.startswith("vmlinuz-") and "rescue" not in name]
    for name in sorted(images, key=_version, reverse=True):
        version = name.removeprefix("vmlinuz-")
        candidates = (f"initrd.img-{version}", f"initramfs-{version}.img", f"initrd-{version}")
        initrd = next((x for x in candidates if x in names), None)
        found.append(Kernel(f"{prefix}/{name}", f"{prefix}/{initrd}" if initrd else None))
    return found


def _version(name: str) -> list[tuple[int, str]]:
    """Sorts ``6.1.0-10`` above ``6.1.0-9``."""
    return [(int(x), "") if x.isdecimal() else (-1, x) for x in re.findall(r"[0-9]+|[^0-9]+", name)]
