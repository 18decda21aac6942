# SPDX-License-Identifier: Apache-2.0
"""Small trees to serve: plain ones, those that cannot be read whole or hold too much, and hostile ones."""

from __future__ import annotations

import os
import stat
from pathlib import Path

#: Files of :func:`many_files`; more than the inodes of an ext4 of 32 MiB (8192).
MANY = 12_000


def small(place: Path) -> Path:
    """Make a tree of a few files, for cases in which the content does not matter."""
    (place / "etc").mkdir(parents=True)
    (place / "etc/os-release").write_text('NAME="Small"\nVERSION_ID=1\n')
    (place / "hello").write_text("hello\n")
    return place


def tiny(place: Path) -> Path:
    """Make a tree that is a system with a kernel, as far as a boot loader looks; nothing in it would start."""
    small(place)
    (place / "boot").mkdir()
    (place / "boot/vmlinuz-1").write_text("kernel\n")
    (place / "boot/initrd.img-1").write_text("initramfs\n")
    (place / "sbin").mkdir()
    (place / "sbin/init").touch()
    (place / "lib/modules/1").mkdir(parents=True)
    (place / "lib/modules/1/modules.dep").touch()
    return place


def unreadable(place: Path) -> Path:
    """Make a tree with a file that only root can read."""
    small(place)
    (place / "secret").write_text("not for everybody\n")
    (place / "secret").chmod(0o600)
    return place


def many_files(place: Path) -> Path:
    """Make a tree with more files than a small file system can hold, though they are empty."""
    small(place)
    for number in range(MANY):
        directory = place / f"{number // 1000}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number}").touch()
    return place


def linked(place: Path, name: str) -> Path:
    """Make a tree in which a folder that bareon writes to is a link to the machine that deploys it."""
    small(place)
    target = place / name
    for path in target.iterdir() if target.is_dir() else ():
        path.unlink()
    if target.is_dir():
        target.rmdir()
    target.symlink_to("/")
    return place


def merged(place: Path) -> Path:
    """Make a tree in which folders of old are links, as ``/bin`` and ``/home`` of newer systems are."""
    small(place)
    for name, target in (("bin", "usr/bin"), ("home", "var/home")):
        (place / target).mkdir(parents=True)
        (place / name).symlink_to(target)
    return place


def odd(place: Path) -> Path:
    """Make a tree with everything that a careless program stumbles over, and that a copy must bring all the same."""
    small(place)
    os.mkfifo(place / "etc/fstab")
    (place / "etc/mtab").symlink_to("../../../../proc/self/mounts")
    names = ("with space", "new\nline", "-rf", "tab\there", "*", "$(reboot)", "quote\"'s", "\\134")
    for name in (*names, os.fsdecode(b"latin-\xe9"), os.fsdecode(b"\xff\xfe")):
        (place / name).write_text("odd\n")
    (place / "lost+found").mkdir()
    os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    # The disk of the node itself.
    os.mknod(place / "disk", stat.S_IFBLK | 0o600, os.makedev(254, 0))
    (place / "loop").symlink_to("loop")
    (place / "up").symlink_to("../../../../..")
    (place / "suid").write_text("")
    (place / "suid").chmod(0o6755)
    os.link(place / "hello", place / "hard link")
    return place
