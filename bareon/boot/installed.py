# SPDX-License-Identifier: Apache-2.0
"""Kernels and names (os-release(5)) of deployed systems."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from bareon.system.tree import Tree

_PLAIN = re.compile(r"[A-Za-z0-9._+~-]{1,255}")
#: Characters of a line; shlex takes its time for long ones.
_LONGEST = 4096


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
    prefix = "" if any(mount.point == "/boot" for mount in tree.mounts) else "/boot"
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


def release(tree: Tree) -> dict[str, str]:
    """The fields of ``/etc/os-release``; none where there is no such file."""
    text = tree.read("/etc/os-release") or tree.read("/usr/lib/os-release") or ""
    found = {}
    for line in text.split("\n"):
        if len(line) > _LONGEST:
            continue
        name, equals, value = line.partition("=")
        try:
            words = shlex.split(value) if equals else []
        except ValueError:
            continue
        if words:
            found[name.strip()] = "".join(char for char in words[0] if char.isprintable())
    return found
