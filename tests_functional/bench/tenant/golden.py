# SPDX-License-Identifier: Apache-2.0
"""A tenant as a golden machine leaves it: with what it knew of its disks, and an initramfs that holds copies."""

from __future__ import annotations

import shutil
from pathlib import Path

from building import cache
from building.process import run
from ramdisk import archive
from tests_functional.bench.tenant.build import Tenant

#: A swap area and a file system that no node has.
SWAP = "0d5a3c1e-1111-4222-8333-444455556666"
DATA = "0d5a3c1e-7777-4888-8999-aaaabbbbcccc"
LVM = """\
devices {
	use_devicesfile = 1
	global_filter = [ "a|^/dev/sda|", "r|.*|" ]
}
"""
DEVICES = """\
# LVM uses devices listed in this file.
VERSION=1.1.1
IDTYPE=sys_wwid IDNAME=naa.60022480123456789 DEVNAME=/dev/sda3 PVID=9dRHhFlPYWgaHo3wlfv4ZahXpnSdLYP2 PART=3
"""
FILES = {
    "etc/fstab": f"UUID={DATA} /data xfs defaults 0 0\nUUID={SWAP} none swap sw 0 0\n",
    "etc/crypttab": f"luks-data UUID={DATA} none luks\n",
    "etc/lvm/lvmlocal.conf": LVM,
    "etc/lvm/devices/system.devices": DEVICES,
    "etc/initramfs-tools/conf.d/resume": f"RESUME=UUID={SWAP}\n",
    # With modules for any machine it takes an emulated node ten minutes to make the initramfs.
    "etc/initramfs-tools/conf.d/small": "MODULES=list\nCOMPRESSLEVEL=1\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\ndm_mod\n",
}
#: Where the initramfs has its copies.
COPIES = {
    "etc/lvm/lvmlocal.conf": LVM,
    "etc/lvm/devices/system.devices": DEVICES,
    "conf/conf.d/resume": f"RESUME=UUID={SWAP}\n",
}


def build(report: cache.Report, base: Tenant) -> Tenant:
    """Return the golden tenant, made of ``base`` by hard links if it is not in the cache.

    :raises ProgramError: when it cannot be made
    """

    def make(target: Path) -> None:
        tree = target / "tree"
        run(["cp", "--archive", "--link", base.tree, tree], timeout=300)
        for name, text in FILES.items():
            _write(tree / name, text)
        grub = tree / "etc/default/grub"
        _write(grub, f'{grub.read_text()}GRUB_CMDLINE_LINUX_DEFAULT="resume=UUID={SWAP}"\n')
        copies = _archive(target / "copies")
        for initramfs in (tree / "boot").glob("initrd.img-*"):
            content = initramfs.read_bytes()
            initramfs.unlink()
            # The kernel unpacks one archive after the other; each begins at a multiple of four bytes.
            initramfs.write_bytes(content + b"\0" * (-len(content) % 4) + copies)
        for name in ("manifest", "SHA256SUMS"):
            shutil.copy(base.tree.parent / name, target / name)

    key = cache.digest("golden", base.tree.parent.name, Path(__file__))
    place = cache.product("tenant-golden", key, make, report)
    return Tenant(place / "tree", place / "manifest", place / "SHA256SUMS")


def _write(path: Path, text: str) -> None:
    """Write a file that is no longer the base's."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _archive(scratch: Path) -> bytes:
    """The copies as a cpio archive."""
    for name, text in COPIES.items():
        _write(scratch / name, text)
    packed = scratch.with_suffix(".cpio")
    archive.pack(scratch, packed)
    content = packed.read_bytes()
    shutil.rmtree(scratch)
    packed.unlink()
    return content
