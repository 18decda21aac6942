# SPDX-License-Identifier: Apache-2.0
"""A tenant each of whose programs tries what a program of an image must not reach; see ``probe.pl``.

It is debian12 with dracut beside initramfs-tools, less all that making an initramfs and a menu can do without. Nobody
boots it.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from building import cache
from building.process import run
from tests_functional.bench.hypervisor import SERVER
from tests_functional.bench.tenant.build import Tenant

PROBE = Path(__file__).with_name("probe.pl")
#: Where the image has the probes, and the programs in whose places they are.
PLACE = "usr/lib/probes"
#: Programs that probe, and then do what they are called for.
PROGRAMS = {
    "grub-install": "usr/sbin/grub-install",
    "grub-mkconfig": "usr/sbin/grub-mkconfig",
    "grub-probe": "usr/sbin/grub-probe",
    "os-prober": "usr/bin/os-prober",
    "linux-boot-prober": "usr/bin/linux-boot-prober",
    "update-initramfs": "usr/sbin/update-initramfs",
    "dracut": "usr/bin/dracut",
    "kernel-install": "usr/bin/kernel-install",
}
_PROGRAM = '#!/bin/sh\n/{place}/probe {name} || exit\nexec /{place}/{name} "$@"\n'
_SCRIPT = "#!/bin/sh\n/{place}/probe {name}\n"
#: What other programs run, by its name: the path and the script.
SCRIPTS = {
    "grub.d": ("etc/grub.d/01_probe", _SCRIPT),
    "initramfs-hook": (
        "etc/initramfs-tools/hooks/probe",
        '#!/bin/sh\n[ "$1" = prereqs ] || /{place}/probe {name}\n',
    ),
    "initramfs-post-update": ("etc/initramfs/post-update.d/probe", _SCRIPT),
    "dracut-module": (
        "usr/lib/dracut/modules.d/99probe/module-setup.sh",
        "#!/bin/bash\ncheck() {{ /{place}/probe {name}; return 0; }}\ndepends() {{ :; }}\ninstall() {{ :; }}\n",
    ),
    "install.d": ("etc/kernel/install.d/99-probe.install", _SCRIPT),
    "usr-install.d": ("usr/lib/kernel/install.d/98-probe.install", _SCRIPT),
    "postinst.d": ("etc/kernel/postinst.d/probe", _SCRIPT),
    "profile.d": ("etc/profile.d/probe.sh", _SCRIPT),
}
FILES = {
    "etc/default/grub": 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_DISABLE_OS_PROBER=false\nGRUB_CMDLINE_LINUX=""\n',
    # As another machine's: bareon has it made anew.
    "etc/bareon/initramfs": "# made for another node\n",
    "etc/initramfs-tools/conf.d/small": "MODULES=list\nCOMPRESS=gzip\nCOMPRESSLEVEL=1\n",
    "etc/initramfs-tools/modules": "",
    "etc/dracut.conf.d/small.conf": 'dracutmodules="probe"\ncompress="gzip"\nhostonly="no"\nno_kernel="yes"\n',
    "etc/probes": "\n",
    "etc/probes.server": f"{SERVER}\n",
}
#: What making an initramfs and a menu can do without.
EXCLUDED = (
    *("usr/lib/python3*", "usr/bin/python3*", "usr/lib/openssh", "usr/lib/apt", "usr/lib/grub/x86_64-efi/monolithic"),
    *("usr/lib/modules/*/kernel", "usr/lib/x86_64-linux-gnu/gconv", "usr/share/[!dgip]*", "usr/share/doc"),
    *("usr/share/grub/*.pf2", "usr/share/grub/*.bdf*", "var/lib/dpkg", "var/cache/*", "opt/*", "boot/initrd.img-*"),
    *("boot/System.map-*", "usr/sbin/sshd", "usr/bin/ssh*", "usr/sbin/xfs*", "usr/bin/btrfs*", "usr/lib/locale"),
    *(
        "usr/share/initramfs-tools/hooks/*",
        "usr/lib/udev",
        "usr/lib/firmware",
        "usr/lib/systemd",
        "usr/share/icons",
        "usr/share/info",
    ),
)
#: Nodes that an image may bring: disks of the node by the numbers that virtio, SCSI and LVM have there, memory and
#: ports, the controls of loop devices and of device-mapper, the kernel's log.
NODES = (
    *((stat.S_IFBLK, major, minor) for major in (8, 252, 253, 254) for minor in range(0, 48)),
    *((stat.S_IFCHR, major, minor) for major, minor in ((1, 1), (1, 2), (1, 4), (10, 236), (10, 237), (1, 11))),
)


def build(report: cache.Report, base: Tenant, dracut: Tenant) -> Tenant:
    """Return the hostile tenant, made of two others by hard links if it is not in the cache.

    :raises ProgramError: when it cannot be made
    """

    def make(target: Path) -> None:
        tree = target / "tree"
        run(["cp", "--archive", "--link", base.tree, tree], timeout=300)
        names = _brought_by("dracut*", dracut.tree)
        run(["cp", "--archive", "--link", "--no-clobber", "--parents", *names, tree], timeout=60, cwd=dracut.tree)
        for pattern in EXCLUDED:
            _remove(tree, pattern)
        for kernel in tree.glob("boot/vmlinuz-*"):
            (tree / "boot" / kernel.name.replace("vmlinuz", "initrd.img")).write_bytes(b"")
        _occupy(tree)
        for name in ("manifest", "SHA256SUMS"):
            (target / name).write_text("")

    key = cache.digest("hostile", base.tree.parent.name, dracut.tree.parent.name, Path(__file__), PROBE)
    place = cache.product("tenant-hostile", key, make, report)
    return Tenant(place / "tree", place / "manifest", place / "SHA256SUMS")


def _brought_by(pattern: str, tree: Path) -> list[str]:
    """The files and links that packages of a tree brought, and that were not left out of it."""
    lists = (tree / "var/lib/dpkg/info").glob(f"{pattern}.list")
    names = {line.lstrip("/") for found in lists for line in found.read_text().splitlines()}
    return sorted(x for x in names if (tree / x).is_symlink() or (tree / x).is_file())


def _remove(tree: Path, pattern: str) -> None:
    for path in tree.glob(pattern):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _occupy(tree: Path) -> None:
    """Put probes in the places of programs, and what else a hostile image brings."""
    place = tree / PLACE
    place.mkdir()
    shutil.copy(PROBE, place / "probe")
    (place / "probe").chmod(0o755)
    for name, path in PROGRAMS.items():
        program = tree / path
        if program.exists():
            program.rename(place / name)
        else:
            _write(place / name, "#!/bin/sh\n", 0o755)
        _write(program, _PROGRAM.format(place=PLACE, name=name), 0o755)
    for name, (path, text) in SCRIPTS.items():
        _write(tree / path, text.format(place=PLACE, name=name), 0o755)
    for path, text in FILES.items():
        _write(tree / path, text)
    for nodes in (tree / "opt/nodes", tree / "boot/nodes"):
        nodes.mkdir()
        for kind, major, minor in NODES:
            name = f"{'b' if kind == stat.S_IFBLK else 'c'}{major}-{minor}"
            os.mknod(nodes / name, kind | 0o666, os.makedev(major, minor))


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file that is no longer another tenant's."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
