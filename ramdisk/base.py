# SPDX-License-Identifier: Apache-2.0
"""The ramdisk's base: Debian packages, kernel modules and bareon's third-party libraries."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from building import cache, debian, wheel
from building.process import run
from ramdisk import archive

SUITE = "bookworm"
PACKAGES = (
    *("linux-image-amd64", "udev", "kmod", "busybox", "iproute2", "openssh-server"),
    *("util-linux", "fdisk", "gdisk", "parted", "lvm2", "thin-provisioning-tools", "mdadm", "multipath-tools"),
    "smartmontools",
    *("cryptsetup-bin", "clevis", "clevis-tpm2"),
    *("nvme-cli", "hdparm"),
    *("e2fsprogs", "xfsprogs", "btrfs-progs", "dosfstools", "acl", "attr"),
    *("rsync", "squashfs-tools-ng", "ca-certificates", "python3"),
    *("bubblewrap", "gpgv", "libseccomp2", "openssl"),
    *("grub2-common", "grub-pc-bin", "grub-efi-amd64-bin", "os-prober", "efibootmgr"),
)
FILES = Path(__file__).with_name("files")
#: Where the files go, and whether they are programs.
PLACES = (
    ("inittab", "etc/inittab", 0o644),
    ("start", "etc/init.d/start", 0o755),
    ("network", "etc/init.d/network", 0o755),
    ("ironic", "etc/init.d/ironic", 0o755),
    ("udhcpc.sh", "etc/udhcpc.sh", 0o755),
    ("sshd_config", "etc/ssh/sshd_config", 0o644),
    ("lvmlocal.conf", "etc/lvm/lvmlocal.conf", 0o644),
    ("mdadm.conf", "etc/mdadm/mdadm.conf", 0o644),
    ("multipath.conf", "etc/multipath.conf", 0o644),
)
#: Removed after installation, with the reason.
REMOVED = (
    # They activate volume groups and assemble arrays as their disks appear.
    *("usr/lib/udev/rules.d/69-lvm.rules", "usr/lib/udev/rules.d/64-md-raid-assembly.rules"),
    # The kernel is handed to the boot loader beside the ramdisk.
    *("boot/*", "vmlinuz*", "initrd.img*"),
    # It needs ICU, which is left out.
    "usr/sbin/xfs_scrub",
    # GRUB as single files for removable media and network boot.
    *("usr/lib/grub/x86_64-efi/monolithic", "usr/bin/grub-mkrescue", "usr/bin/grub-fstest"),
    # A ramdisk installs no packages.
    *("var/cache/*", "var/lib/apt", "var/lib/dpkg", "usr/lib/apt", "usr/share/python-wheels"),
    *("usr/lib/python3*/test", "usr/lib/python3*/idlelib"),
)
ZSTD_LEVEL = 12


def build_base(report: cache.Report) -> Path:
    """Return the product directory with ``vmlinuz`` and ``base.cpio.zst``."""
    requirements = wheel.CHECKOUT / "requirements.txt"
    code = [Path(module) for module in (__file__, archive.__file__, wheel.__file__)]
    key = cache.digest(SUITE, *PACKAGES, debian.EXCLUDED, Path(debian.__file__), FILES, requirements, *code)

    def make(target: Path) -> None:
        tree = target / "tree"
        debian.make_tree(SUITE, PACKAGES, tree)
        (kernel,) = tree.glob("boot/vmlinuz-*")
        shutil.copyfile(kernel, target / "vmlinuz")
        _slim(tree)
        _configure(tree)
        _add_libraries(tree, requirements)
        archive.pack(tree, target / "base.cpio.zst", level=ZSTD_LEVEL)
        shutil.rmtree(tree)

    return cache.product("ramdisk-base", key, make, report)


def _slim(tree: Path) -> None:
    for pattern in REMOVED:
        for path in tree.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _configure(tree: Path) -> None:
    """Give the tree an init, and the settings of a machine that owns none of its disks."""
    for name, place, mode in PLACES:
        target = tree / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(FILES / name, target)
        target.chmod(mode)
    (tree / "init").symlink_to("usr/bin/busybox")
    _link_busybox(tree)
    (tree / "etc/mtab").symlink_to("../proc/self/mounts")
    (tree / "etc/hostname").write_text("bareon\n")
    for stale in ("etc/resolv.conf", "etc/machine-id"):
        (tree / stale).unlink(missing_ok=True)
    (tree / "etc/machine-id").write_text("")


def _link_busybox(tree: Path) -> None:
    """Add the commands of busybox that no package brought: reboot, poweroff, ps, vi and so on."""
    applets = run(["chroot", tree, "busybox", "--list"], timeout=60).stdout.split()
    places = [tree / place for place in ("usr/bin", "usr/sbin", "usr/local/bin")]
    for applet in applets:
        present = any((place / applet).is_symlink() or (place / applet).exists() for place in places)
        if not present:
            (tree / "usr/bin" / applet).symlink_to("busybox")


def _add_libraries(tree: Path, requirements: Path) -> None:
    """Make the virtual environment and install bareon's dependencies, wheels fetched outside."""
    run(
        ["chroot", tree, "python3", "-m", "venv", "--without-pip", str(wheel.VENV)],
        timeout=120,
    )
    with tempfile.TemporaryDirectory(prefix="bareon-wheels-") as place:
        wheels = wheel.download(requirements, Path(place))
        wheel.install_into(tree, wheels)
