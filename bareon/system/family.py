# SPDX-License-Identifier: Apache-2.0
"""Families of distributions: how their boot files are called, and by what their menu is made. A row for each.

Names are recognised whatever family a system says it is of: derivatives say many things, and an image may have a
kernel that its distribution did not make.
"""

from __future__ import annotations

from dataclasses import dataclass

from bareon.tools.grub import MODULES


@dataclass(frozen=True)
class Family:
    """``kernels`` and ``initramfs`` are names in ``/boot``, with ``{}`` for the version.

    ``mkconfig`` is the program that writes GRUB's menu, ``folder`` the one in which it lies. ``modules`` is that with
    GRUB's modules, in a folder for each platform.
    """

    name: str
    kernels: tuple[str, ...]
    initramfs: tuple[str, ...]
    mkconfig: str = "grub-mkconfig"
    folder: str = "/boot/grub"
    modules: str = MODULES


FAMILIES = (
    Family("Debian, Ubuntu", ("vmlinuz-{}",), ("initrd.img-{}",)),
    Family("RHEL, Fedora", ("vmlinuz-{}",), ("initramfs-{}.img",), "grub2-mkconfig", "/boot/grub2"),
    Family(
        *("SUSE", ("vmlinuz-{}", "Image-{}"), ("initrd-{}",), "grub2-mkconfig", "/boot/grub2"),
        modules="/usr/share/grub2",
    ),
    Family("Arch", ("vmlinuz-{}",), ("initramfs-{}.img",)),
    Family("Alpine", ("vmlinuz-{}",), ("initramfs-{}",)),
    Family(
        "Gentoo",
        ("vmlinuz-{}", "kernel-{}", "kernel-genkernel-x86_64-{}", "bzImage-{}", "linux-{}"),
        ("initramfs-{}.img", "initramfs-genkernel-{}", "initramfs-genkernel-x86_64-{}"),
    ),
    Family("Mageia", ("vmlinuz-{}",), ("initrd-{}.img", "initrd-{}.gz"), "grub2-mkconfig", "/boot/grub2"),
)


def initramfs_names(version: str) -> list[str]:
    """The names that the initial ramdisk of a kernel can have, those of the larger families first."""
    return list(dict.fromkeys(name.format(version) for row in FAMILIES for name in row.initramfs))


def kernel_version(name: str) -> str | None:
    """The version in the name of a kernel's file; ``None`` for what is called as no kernel is."""
    starts = (start for start in kernel_starts() if name.startswith(start) and name != start)
    return next((name.removeprefix(start) for start in starts), None)


def kernel_starts() -> list[str]:
    """What stands before the version in the name of a kernel, the longest first."""
    return sorted({x.partition("{")[0] for row in FAMILIES for x in row.kernels}, key=lambda x: (-len(x), x))


def menu_makers() -> list[tuple[str, str, str]]:
    """The programs that write GRUB's menu, each with the folder in which it lies, and that of GRUB's modules."""
    return list(dict.fromkeys((row.mkconfig, row.folder, row.modules) for row in FAMILIES))
