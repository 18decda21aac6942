# SPDX-License-Identifier: Apache-2.0
"""What a ramdisk can be made of on any machine: tables of Debian packages."""

from __future__ import annotations

from dataclasses import dataclass

#: What bareon runs, and what a node needs to start and to be reached.
_COMMON = (
    *("udev", "kmod", "busybox", "openssh-server"),
    *("iproute2", "dhcpcd-base", "chrony"),
    *("util-linux", "fdisk", "gdisk", "parted", "lvm2", "thin-provisioning-tools", "mdadm", "multipath-tools"),
    "smartmontools",
    *("cryptsetup-bin", "clevis", "clevis-tpm2"),
    *("nvme-cli", "hdparm", "open-iscsi"),
    *("e2fsprogs", "xfsprogs", "btrfs-progs", "dosfstools", "acl", "attr"),
    *("rsync", "squashfs-tools-ng", "ca-certificates", "python3"),
    *("bubblewrap", "gpgv", "libseccomp2", "openssl"),
    *("grub2-common", "os-prober", "efibootmgr", "kexec-tools"),
)


@dataclass(frozen=True)
class Profile:
    """A kind of ramdisk.

    ``firmware`` are packages of Debian's ``non-free-firmware``, taken where they are asked for, and ``modules``
    patterns of dpkg for kernel modules that are taken although ``building/excluded.txt`` leaves them out.
    """

    packages: tuple[str, ...]
    firmware: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


PROFILES = {
    # What the tests boot.
    "small": Profile(_COMMON),
    # Servers: InfiniBand's drivers, their BMC, and what somebody at the console asks for.
    "full": Profile(
        (
            *_COMMON,
            *("cryptsetup", "ipmitool"),
            *("ethtool", "pciutils", "lsscsi", "dmidecode", "tcpdump", "iputils-ping", "less"),
            "firmware-linux-free",
        ),
        firmware=(
            *("firmware-bnx2", "firmware-bnx2x", "firmware-netxen", "firmware-qlogic"),
            # Not that of Netronome, which takes 147 MB.
            *("firmware-cavium", "firmware-myricom", "firmware-realtek", "firmware-misc-nonfree"),
        ),
        modules=("/lib/modules/*/kernel/drivers/infiniband/*", "/lib/modules/*/kernel/drivers/hwmon/*"),
    ),
}
