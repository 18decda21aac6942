# SPDX-License-Identifier: Apache-2.0
"""Makes a Debian the way cloud images are made: no fstab, no machine-id, any hardware."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from building import cache, debian
from building.process import run
from tests_functional.bench.keys import key_pair
from tests_functional.bench.tenant import fidelity

PACKAGES = (
    *("initramfs-tools", "systemd", "systemd-sysv", "udev", "dbus", "kmod"),
    *("openssh-server", "iproute2", "zstd", "acl", "attr"),
    *("lvm2", "mdadm", "e2fsprogs", "xfsprogs", "btrfs-progs", "dosfstools", "efibootmgr"),
)
#: The systems by name: each one's suite, its packages besides those above, and patterns of files that the
#: others do without. One brings GRUB for BIOS, and modules for UEFI beside it; the next what an installer takes
#: for Secure Boot; the initramfs of ``luks`` opens encrypted devices; ``cloud`` is set up by cloud-init, and has the
#: kernel of cloud images, with few drivers.
SYSTEMS = {
    "debian12": ("bookworm", ("linux-image-amd64", "grub-pc", "grub-efi-amd64-bin"), ()),
    "debian13": ("trixie", ("linux-image-amd64", "grub-efi-amd64", "grub-efi-amd64-signed", "shim-signed"), ()),
    "luks": ("bookworm", ("linux-image-amd64", "grub-pc", "cryptsetup-initramfs"), ()),
    "cloud": ("bookworm", ("linux-image-cloud-amd64", "grub-pc", "cloud-init", "sudo"), ("/usr/share/zoneinfo/*",)),
}
#: Modules that no virtual node has a use for: the images are copied, and loaded from a boot loader, many times.
EXCLUDED = tuple(
    f"/lib/modules/*/kernel/{name}*"
    for name in (
        *("arch/x86/kvm/", "lib/test_", "net/sched/", "net/sunrpc/", "net/bridge/"),
        *("fs/f2fs/", "fs/ntfs3/", "fs/reiserfs/", "fs/ksmbd/", "fs/ecryptfs/", "fs/hfs", "fs/ufs/"),
        *(
            "drivers/net/ethernet/",
            "drivers/net/usb/",
            "drivers/net/fjes/",
            "drivers/net/phy/",
            "drivers/net/vmxnet3/",
        ),
        # What is left is the layer itself, disks, and virtio's adapter.
        *("drivers/scsi/[!sv]", "drivers/scsi/snic/", "drivers/scsi/smartpqi/", "drivers/scsi/scsi_debug"),
        *("drivers/mtd/", "drivers/mmc/", "drivers/target/", "drivers/message/", "drivers/ufs/", "drivers/nvdimm/"),
        *("drivers/usb/", "drivers/hid/", "drivers/platform/", "drivers/edac/", "drivers/watchdog/", "drivers/i2c/"),
        *("drivers/mfd/", "drivers/misc/", "drivers/hv/", "drivers/xen/", "drivers/cpufreq/", "drivers/accel/"),
    )
)
#: There are no locales to choose from, and keys of the host are what cloud-init takes most time for.
CLOUD_DEFAULTS = "locale: false\nssh_genkeytypes: [ed25519]\n"
#: Console on the serial port, which is what the bench keeps.
GRUB_DEFAULTS = """\
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=ttyS0,115200"
GRUB_TERMINAL=serial
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
"""
NETWORK = """\
[Match]
Type=ether

[Network]
DHCP=ipv4
"""
#: Left out of the checksums: what a deployment or a first boot rewrites.
REWRITTEN = ("boot/grub/", "etc/default/grub", "etc/fstab", "etc/machine-id", "etc/resolv.conf", "var/", "run/")


@dataclass(frozen=True)
class Tenant:
    """A tree to serve, with ``manifest`` (paths, each ended by NUL) and checksums of its files."""

    tree: Path
    manifest: Path
    checksums: Path

    def count(self) -> int:
        """Return how many files, directories and links the tree has."""
        return self.manifest.read_bytes().count(b"\0")


def build(report: cache.Report, name: str) -> Tenant:
    """Return one of :data:`SYSTEMS`, made if it is not in the cache.

    :raises ProgramError: when it cannot be fetched or made
    """
    suite, packages, included = SYSTEMS[name]
    public = key_pair().with_suffix(".pub").read_text()
    code = [Path(module) for module in (__file__, debian.__file__, fidelity.__file__)]
    key = cache.digest(name, public, debian.EXCLUDED, *code)

    def make(target: Path) -> None:
        tree = target / "tree"
        debian.make_tree(suite, (*PACKAGES, *packages), tree, excluded=EXCLUDED, included=included, initramfs=True)
        _configure(tree, public)
        if (tree / "etc/cloud").is_dir():
            (tree / "etc/cloud/cloud.cfg.d/50_tenant.cfg").write_text(CLOUD_DEFAULTS)
        fidelity.add(tree)
        _describe(tree, target)

    place = cache.product(f"tenant-{name}", key, make, report)
    return Tenant(place / "tree", place / "manifest", place / "SHA256SUMS")


def _configure(tree: Path, public_key: str) -> None:
    etc = tree / "etc"
    (etc / "fstab").unlink(missing_ok=True)
    (etc / "machine-id").write_text("")
    (etc / "hostname").write_text("tenant\n")
    (etc / "hosts").write_text("127.0.0.1 localhost tenant\n")
    (etc / "default" / "grub").write_text(GRUB_DEFAULTS)
    (etc / "systemd/network/80-ethernet.network").write_text(NETWORK)
    run(["chroot", tree, "systemctl", "enable", "systemd-networkd", "ssh"], timeout=60)
    # Nothing here depends on the network being up, and waiting for it would delay the boot.
    waiting = "systemd-networkd-wait-online"
    run(["chroot", tree, "systemctl", "disable", waiting], timeout=60)
    ssh = tree / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    (ssh / "authorized_keys").write_text(public_key)
    (ssh / "authorized_keys").chmod(0o600)
    for directory in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(tree / directory, ignore_errors=True)


def _describe(tree: Path, target: Path) -> None:
    """Write the list of all paths, and the checksums of the files that stay as they are."""
    paths = sorted(_walk(tree))
    (target / "manifest").write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
    stable = [
        path
        for path in paths
        if not path.startswith(REWRITTEN) and (tree / path).is_file() and not (tree / path).is_symlink()
    ]
    sums = run(
        ["xargs", "--null", "sha256sum", "--"],
        timeout=300,
        cwd=tree,
        stdin="".join(f"{path}\0" for path in stable),
    )
    (target / "SHA256SUMS").write_text(sums.stdout)


def _walk(tree: Path) -> Iterator[str]:
    for place, directories, files in os.walk(tree):
        for name in (*directories, *files):
            yield str((Path(place) / name).relative_to(tree))
