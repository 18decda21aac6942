# SPDX-License-Identifier: Apache-2.0
"""Systems that differ a little from one that was built: layers over its tree, which end with the cell."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from building.process import run


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


#: What grub2-install of Fedora and its kin says on UEFI, and how it ends.
_REFUSING = """\
#!/bin/sh
echo 'Installing for x86_64-efi platform.' >&2
echo 'grub2-install: error: This utility should not be used for EFI platforms because it does not support UEFI' \\
    'Secure Boot. If you really wish to proceed, invoke the --force option.' >&2
echo 'Make sure Secure Boot is disabled before proceeding.' >&2
exit 1
"""


def loaders_on_esp(base: Path, place: Path) -> Path:
    """Have the signed loaders of a system where Fedora and its kin have them, and return its tree.

    They lie below ``/boot/efi``, there are no modules of GRUB, and its ``grub-install`` refuses UEFI.
    """
    tree = layered(base, place)
    vendor = tree / "boot/efi/EFI/debian"
    vendor.mkdir(parents=True)
    shim, grub = tree / "usr/lib/shim", tree / "usr/lib/grub"
    shutil.copyfile(grub / "x86_64-efi-signed/grubx64.efi.signed", vendor / "grubx64.efi")
    for name in ("shimx64.efi", "mmx64.efi"):
        shutil.copyfile(shim / f"{name}.signed", vendor / name)
    for folder in (shim, grub):
        shutil.rmtree(folder)
    for name in ("grub-install", "grub2-install"):
        program = tree / "usr/sbin" / name
        program.unlink(missing_ok=True)
        program.write_text(_REFUSING)
        program.chmod(0o755)
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
