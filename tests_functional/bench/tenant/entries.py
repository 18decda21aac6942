# SPDX-License-Identifier: Apache-2.0
"""A tenant that is told of by an entry of the Boot Loader Specification alone, as Fedora and its kin are.

It is made of the one whose initramfs is dracut's for another host, and brings no GRUB, nor any settings of one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from building import cache
from building.process import run
from tests_functional.bench.tenant.build import Tenant

#: The root in it is that of the machine on which it was made.
OPTIONS = "root=UUID=0d5a3c1e-1111-4222-8333-444455556666 ro console=ttyS0 bareon.entry"
MACHINE = "0123456789abcdef0123456789abcdef"


def build(report: cache.Report, base: Tenant) -> Tenant:
    """Return the tenant, made of ``base`` by hard links if it is not in the cache.

    :raises ProgramError: when it cannot be made
    """

    def make(target: Path) -> None:
        tree = target / "tree"
        run(["cp", "--archive", "--link", base.tree, tree], timeout=300)
        for folder in ("usr/lib/grub", "boot/grub"):
            shutil.rmtree(tree / folder)
        for path in (*(tree / "usr/sbin").glob("grub-*"), tree / "etc/default/grub"):
            path.unlink()
        entries = tree / "boot/loader/entries"
        entries.mkdir(parents=True)
        for kernel in (tree / "boot").glob("vmlinuz-*"):
            version = kernel.name.removeprefix("vmlinuz-")
            (tree / f"boot/initrd.img-{version}").rename(tree / f"boot/initramfs-{version}.img")
            (entries / f"{MACHINE}-{version}.conf").write_text(_entry(version))
        for name in ("manifest", "SHA256SUMS"):
            shutil.copy(base.tree.parent / name, target / name)

    key = cache.digest("entries", base.tree.parent.parent.name, Path(__file__))
    place = cache.product("tenant-entries", key, make, report)
    return Tenant(place / "tree", place / "manifest", place / "SHA256SUMS")


def _entry(version: str) -> str:
    """The file of an entry, with the keys and the variables of GRUB that Fedora's have."""
    return (
        f"title Debian ({version})\n"
        f"version {version}\n"
        f"linux /boot/vmlinuz-{version}\n"
        f"initrd /boot/initramfs-{version}.img $tuned_initrd\n"
        f"options {OPTIONS} $tuned_params\n"
        "grub_users $grub_users\n"
        "grub_arg --unrestricted\n"
        "grub_class kernel\n"
    )
