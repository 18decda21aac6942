# SPDX-License-Identifier: Apache-2.0
"""A tenant with dracut in place of initramfs-tools, and in its initramfs what any disk may need."""

from __future__ import annotations

from pathlib import Path

from building import cache, debian
from building.process import run
from tests_functional.bench.keys import key_pair
from tests_functional.bench.tenant.build import EXCLUDED, Tenant, _configure, _describe
from tests_functional.bench.tenant.build import PACKAGES as COMMON

PACKAGES = ("linux-image-amd64", "dracut", "grub-pc", *(name for name in COMMON if name != "initramfs-tools"))
#: For any machine, not for that which builds it.
SETTINGS = """\
hostonly="no"
hostonly_cmdline="no"
add_dracutmodules+=" lvm mdraid "
"""
#: Runs in a mount namespace of its own.
MAKE = (
    "mount -t proc proc {0}/proc && mount -t sysfs sys {0}/sys && mount --rbind /dev {0}/dev"
    " && for v in $(ls {0}/lib/modules); do chroot {0} dracut --force /boot/initrd.img-$v $v || exit; done"
)


def build(report: cache.Report) -> Tenant:
    """Return the tenant, made if it is not in the cache.

    :raises ProgramError: when it cannot be fetched or made
    """
    public = key_pair().with_suffix(".pub").read_text()

    def make(target: Path) -> None:
        tree = target / "tree"
        debian.make_tree("bookworm", PACKAGES, tree, excluded=EXCLUDED)
        _configure(tree, public)
        (tree / "etc/dracut.conf.d/tenant.conf").write_text(SETTINGS)
        run(["unshare", "--mount", "sh", "-c", MAKE.format(tree)], timeout=900)
        _describe(tree, target)

    code = [Path(module) for module in (__file__, debian.__file__)]
    place = cache.product(
        "tenant-dracut", cache.digest("dracut", public, *PACKAGES, debian.EXCLUDED, *code), make, report
    )
    return Tenant(place / "tree", place / "manifest", place / "SHA256SUMS")
