# SPDX-License-Identifier: Apache-2.0
"""Tenants whose initramfs is for another machine: one of dracut's for its host alone, and one without LVM and md.

The latter has settings by which the next one is to have what the machine uses that makes it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from building import cache
from building.process import run
from tests_functional.bench.tenant.build import Tenant

#: What makes them, in a mount namespace of its own, by their names. What is left out is what the builder's own disks
#: might need, so that they are the same wherever they are made.
MAKE = {
    "hostonly": (
        "echo 'hostonly=\"yes\"' >{0}/etc/dracut.conf.d/tenant.conf"
        " && for v in $(ls {0}/lib/modules); do chroot {0} dracut --force --hostonly --no-hostonly-cmdline"
        " --omit 'lvm mdraid' --omit-drivers 'ahci libahci ata_piix sd_mod' /boot/initrd.img-$v $v || exit; done"
    ),
    "single-disk": (
        "cd {0}/usr/share/initramfs-tools/hooks && mv lvm2 mdadm {0}/root"
        " && for v in $(ls {0}/lib/modules); do chroot {0} mkinitramfs -o /boot/initrd.img-$v $v || exit; done"
        " && mv {0}/root/lvm2 {0}/root/mdadm ."
        " && echo MODULES=dep >{0}/etc/initramfs-tools/conf.d/driver-policy"
    ),
}
_MOUNTS = "mount -t proc proc {0}/proc && mount -t sysfs sys {0}/sys && mount --rbind /dev {0}/dev && "


def build(report: cache.Report, bases: dict[str, Tenant]) -> dict[str, Tenant]:
    """Return both by their names, made of the ``bases`` of these names by hard links if they are not in the cache.

    :raises ProgramError: when they cannot be made
    """

    def make(target: Path) -> None:
        for name, base in bases.items():
            tree = target / name / "tree"
            tree.parent.mkdir()
            run(["cp", "--archive", "--link", base.tree, tree], timeout=300)
            for path in (*(tree / "boot").glob("initrd.img-*"), *(tree / "etc/dracut.conf.d").glob("tenant.conf")):
                path.unlink()
            run(["unshare", "--mount", "sh", "-c", (_MOUNTS + MAKE[name]).format(tree)], timeout=900)
            for other in ("manifest", "SHA256SUMS"):
                shutil.copy(base.tree.parent / other, tree.parent / other)

    key = cache.digest("poor", *(x.tree.parent.name for x in bases.values()), Path(__file__))
    place = cache.product("tenant-poor", key, make, report)
    return {x: Tenant(y / "tree", y / "manifest", y / "SHA256SUMS") for x in bases if (y := place / x)}
