# SPDX-License-Identifier: Apache-2.0
"""Tenants without GRUB that bring systemd-boot: one with a kernel, and one with a unified kernel image alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from building import cache
from building.process import run
from tests_functional.bench.tenant.build import Tenant

PACKAGE = "systemd-boot-efi"
STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
UNIFIED = "boot/EFI/Linux/debian.efi"
#: The root in it is that of the machine on which it was made.
CMDLINE = "root=UUID=0d5a3c1e-1111-4222-8333-444455556666 ro console=ttyS0 bareon.embedded\n"


def build(report: cache.Report, base: Tenant) -> dict[str, Tenant]:
    """Return both by their names, made of ``base`` by hard links if they are not in the cache.

    :raises ProgramError: when the package cannot be fetched, or they cannot be made
    """

    def make(target: Path) -> None:
        run(["sh", "-c", f"cd {target} && apt-get download -qq {PACKAGE} && mv {PACKAGE}_*.deb package"], timeout=300)
        for name in ("systemd-boot", "unified"):
            tree = target / name / "tree"
            tree.parent.mkdir()
            run(["cp", "--archive", "--link", base.tree, tree], timeout=300)
            run(["dpkg-deb", "--extract", target / "package", tree], timeout=60)
            for path in (tree / "usr/lib/grub", tree / "boot/grub"):
                shutil.rmtree(path)
            for program in (tree / "usr/sbin").glob("grub-*"):
                program.unlink()
            for name in ("manifest", "SHA256SUMS"):
                shutil.copy(base.tree.parent / name, tree.parent / name)
        _unify(target / "unified/tree", target)
        (target / "package").unlink()

    key = cache.digest("unified", base.tree.parent.name, Path(__file__))
    place = cache.product("tenant-unified", key, make, report)
    folders = (place / name for name in ("systemd-boot", "unified"))
    return {x.name: Tenant(x / "tree", x / "manifest", x / "SHA256SUMS") for x in folders}


def _unify(tree: Path, scratch: Path) -> None:
    """Put kernel, initramfs and command line behind systemd's stub, as ukify does it, and take the two out."""
    kernel, initramfs = (next((tree / "boot").glob(f"{x}-*")) for x in ("vmlinuz", "initrd.img"))
    line = scratch / "cmdline"
    line.write_text(CMDLINE)
    parts = {".osrel": tree / "usr/lib/os-release", ".cmdline": line, ".linux": kernel, ".initrd": initramfs}
    unified = tree / UNIFIED
    unified.parent.mkdir(parents=True)
    run(["objcopy", *_options(parts), tree / STUB, unified], timeout=120)
    for path in (kernel, initramfs, line):
        path.unlink()


def _options(parts: dict[str, Path]) -> Iterator[str]:
    place = 0x2000000  # above the stub's own sections; each begins at a page behind the one before
    for name, path in parts.items():
        yield from ("--add-section", f"{name}={path}", "--change-section-vma", f"{name}={place:#x}")
        place += -(-path.stat().st_size // 0x1000) * 0x1000
