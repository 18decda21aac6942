# SPDX-License-Identifier: Apache-2.0
"""Systems that differ a little from one that was built: layers over its tree, which end with the cell."""

from __future__ import annotations

import os
from pathlib import Path

from tests_functional.bench.process import run


def boot_links(base: Path, place: Path) -> Path:
    """Give a system names of its kernel as other distributions have them, and return its tree.

    The kernel in ``/boot`` is that of ``/usr/lib/modules``, by a hard link; one link in ``/boot`` leads to it, one
    through that, and one out of the volume.
    """
    tree = layered(base, place)
    kernel = next((tree / "boot").glob("vmlinuz-*"))
    modules = tree / "usr/lib/modules" / kernel.name.removeprefix("vmlinuz-")
    os.link(kernel, modules / "vmlinuz")
    (tree / "boot/vmlinuz").symlink_to(kernel.name)
    (tree / "boot/vmlinuz.old").symlink_to("/boot/vmlinuz")
    (tree / "boot/modules.builtin").symlink_to(f"/usr/lib/modules/{modules.name}/modules.builtin")
    return tree


def layered(base: Path, place: Path) -> Path:
    """Return a tree that is as ``base``, and may be changed."""
    tree, upper, work = (place / name for name in ("tree", "upper", "work"))
    for folder in (tree, upper, work):
        folder.mkdir(parents=True)
    run(
        ["mount", "-t", "overlay", "-o", f"lowerdir={base},upperdir={upper},workdir={work}", "overlay", tree],
        timeout=10,
    )
    return tree
