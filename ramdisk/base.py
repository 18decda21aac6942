# SPDX-License-Identifier: Apache-2.0
"""The ramdisk's base: Debian packages, kernel modules and bareon's third-party libraries."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from building import cache, date, debian, foreign, wheel
from building.process import run
from ramdisk import archive, loaders, microcode, sbom
from ramdisk.machine import MACHINES, USUAL, Machine
from ramdisk.profile import PROFILES

SUITE = "bookworm"
FILES = Path(__file__).with_name("files")
#: Where the files go, and whether they are programs.
PLACES = (
    ("inittab", "etc/inittab", 0o644),
    ("start", "etc/init.d/start", 0o755),
    ("ironic", "etc/init.d/ironic", 0o755),
    ("unattended", "etc/init.d/unattended", 0o755),
    ("dhcpcd-answer", "etc/dhcpcd-answer", 0o755),
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
    # Who a node is: it makes its own when it starts, or has it of its firmware. Two with the same would be one.
    *("etc/ssh/ssh_host_*", "etc/nvme/hostid", "etc/nvme/hostnqn", "etc/iscsi/initiatorname.iscsi"),
    # When it was built, and which files ldconfig has seen where.
    *("var/log/*", "var/cache/*", "var/lib/systemd/*", "etc/*-", "run/*", "tmp/*"),
    # GRUB as single files for removable media and network boot.
    *("usr/lib/grub/*-efi/monolithic", "usr/bin/grub-mkrescue", "usr/bin/grub-fstest"),
    # Media start with them, see ramdisk/loaders.py; and microcode has its own archive.
    *("usr/lib/shim", "usr/lib/grub/*-efi-signed", "usr/lib/firmware/*-ucode", "lib/firmware/*-ucode"),
    # A ramdisk installs no packages.
    *("var/lib/apt", "var/lib/dpkg", "usr/lib/apt", "usr/share/python-wheels"),
    *("usr/lib/python3*/test", "usr/lib/python3*/idlelib"),
)
ZSTD_LEVEL = 12
#: Seconds for lists, or firmware, from a mirror that is slow.
FETCH_LIMIT = 900.0
DAY = 86400
#: Names of files in the product.
KERNEL, ARCHIVE, MICROCODE = "vmlinuz", "base.cpio.zst", "microcode.cpio"
LOADERS, BILL, WHEELS = "loaders", "debian.cdx.json", "wheels.txt"


def build_base(
    report: cache.Report, profile: str = "small", *, firmware: bool = False, architecture: str = USUAL
) -> Path:
    """Return the product's directory: the kernel, the archive, and what media and the bill of materials are made of.

    :param profile: a name in :data:`ramdisk.profile.PROFILES`
    :param firmware: take what its hardware needs that is not free
    :param architecture: a name in :data:`ramdisk.machine.MACHINES`
    """
    chosen, machine = PROFILES[profile], MACHINES[architecture]
    requirements = wheel.CHECKOUT / "requirements.txt"
    code = [Path(x.__file__ or "") for x in (archive, date, debian, foreign, loaders, microcode, sbom, wheel)]
    inputs = [debian.EXCLUDED, FILES, requirements, Path(__file__), *code]
    built = date.epoch(wheel.CHECKOUT, inputs)
    key = cache.digest(str(built), str(firmware), repr(chosen), repr(machine), *inputs)

    def make(target: Path) -> None:
        tree = target / "tree"
        packages = (*chosen.packages, *machine.packages, *machine.loaders)
        foreign.make_tree(architecture, SUITE, packages, tree, included=chosen.modules)
        _update(tree, (*chosen.firmware, *machine.microcode) if firmware else ())
        sbom.of_debian(tree, SUITE, built, target / BILL)
        (kernel,) = tree.glob("boot/vmlinuz-*")
        shutil.copyfile(kernel, target / KERNEL)
        loaders.collect(tree, machine, target / LOADERS)
        microcode.collect(tree, target / MICROCODE, built)
        _slim(tree)
        _configure(tree, built)
        (target / WHEELS).write_text(_add_libraries(tree, machine, requirements))
        archive.pack(tree, target / ARCHIVE, date=built, level=ZSTD_LEVEL)
        shutil.rmtree(tree)

    return cache.product("ramdisk-base", key, make, report)


def _update(tree: Path, firmware: Sequence[str]) -> None:
    """Fetch the archive's lists, which know the digests of the packages, and install firmware.

    It comes from a component of its own, and no package depends on it.
    """
    if firmware:
        sources = tree / "etc/apt/sources.list"
        sources.write_text(sources.read_text().replace(" main\n", " main non-free-firmware\n"))
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "INITRD": "No", "LC_ALL": "C.UTF-8"}
    run(["chroot", tree, "apt-get", "--quiet=2", "update"], timeout=FETCH_LIMIT, env=environment)
    if firmware:
        words = ["--quiet=2", "--yes", "--no-install-recommends", "install", *firmware]
        run(["chroot", tree, "apt-get", *words], timeout=FETCH_LIMIT, env=environment)


def _slim(tree: Path) -> None:
    for pattern in REMOVED:
        for path in tree.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _configure(tree: Path, built: int) -> None:
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
    _date_accounts(tree / "etc/shadow", built)


def _date_accounts(shadow: Path, built: int) -> None:
    """Have the accounts' passwords be as old as the build: packages make accounts, and write down the day."""
    rows = [line.split(":") for line in shadow.read_text().splitlines()]
    shadow.write_text("".join(f"{':'.join([*row[:2], str(built // DAY), *row[3:]])}\n" for row in rows))


def _link_busybox(tree: Path) -> None:
    """Add the commands of busybox that no package brought: reboot, poweroff, ps, vi and so on."""
    applets = run(["chroot", tree, "busybox", "--list"], timeout=60).stdout.split()
    places = [tree / place for place in ("usr/bin", "usr/sbin", "usr/local/bin")]
    for applet in applets:
        present = any((place / applet).is_symlink() or (place / applet).exists() for place in places)
        if not present:
            (tree / "usr/bin" / applet).symlink_to("busybox")


def _add_libraries(tree: Path, machine: Machine, requirements: Path) -> str:
    """Make the virtual environment and install bareon's dependencies, wheels fetched outside; return which."""
    run(
        ["chroot", tree, "python3", "-m", "venv", "--without-pip", str(wheel.VENV)],
        timeout=120,
    )
    with tempfile.TemporaryDirectory(prefix="bareon-wheels-") as place:
        platforms = machine.wheels if foreign.is_foreign(machine.architecture) else ()
        wheels = wheel.download(requirements, Path(place), platforms=platforms)
        wheel.install_into(tree, wheels)
        return sbom.lines(wheels)
