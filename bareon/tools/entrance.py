# SPDX-License-Identifier: Apache-2.0
"""System calls of a new process on its way into a sandbox: what bwrap(1) starts from, and cannot make itself.

They are made between fork and exec. As programs (unshare, mount, cp, chroot, prlimit) they would be a dozen, which
where a machine is emulated, or in a ramdisk on a slow processor, cost more than the sandbox itself.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from bareon.tools.syscalls import (
    CLONE_NEWNS,
    MS_BIND,
    MS_MOVE,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    unshare,
)

_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")


def enter(place: str, group: str, written: int) -> None:
    """Go into a mount namespace of the calling process's own, whose root can be left by pivot_root(2).

    That is not possible where the root is the kernel's own, as in a ramdisk: it is mounted over itself first,
    read-only, for /proc/1/exe is a way to the file of bwrap. ``place/sys`` becomes a sysfs without what the ramdisk
    has mounted in its own: efivarfs, debugfs, configfs. ``place/dev`` gets copies of devices, whose modes and owners
    may be changed.

    :param group: the folder of the control group that the process joins.
    :param written: bytes that a file may come to have.
    :raises OSError: with the path.
    """
    Path(group, "cgroup.procs").write_text("0")
    unshare(CLONE_NEWNS)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("sysfs", f"{place}/sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", f"{place}/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64m")
    for name in _DEVICES:
        _copy(Path("/dev", name), Path(place, "dev", name))
    mount("/", f"{place}/root", None, MS_BIND | MS_REC)
    os.chdir(f"{place}/root")
    mount(None, ".", None, MS_REMOUNT | MS_BIND | MS_RDONLY | _kept())
    mount(".", "/", None, MS_MOVE)
    os.chroot(".")
    # One byte: a core is not given to a program of the ramdisk either; core(5).
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))


def _copy(device: Path, path: Path) -> None:
    found = device.lstat()
    os.mknod(path, found.st_mode, found.st_rdev)
    os.chown(path, found.st_uid, found.st_gid)
    path.chmod(found.st_mode & 0o7777)


def _kept() -> int:
    """Flags of the mount at the working folder that a remount would take away; statvfs(3) has the same bits."""
    return os.statvfs(".").f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
