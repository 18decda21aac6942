# SPDX-License-Identifier: Apache-2.0
"""Kernels and names (os-release(5)) of deployed systems, and whether they come up with those kernels."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bareon.errors import ActionFailed
from bareon.step import Outcome
from bareon.system.initramfs import initramfs_names, with_modules
from bareon.system.tree import Tree, holds

LOG = logging.getLogger(__name__)

_PLAIN = re.compile(r"[A-Za-z0-9._+~-]{1,255}")
#: Kernels that are no choice of an ordinary boot: to rescue a system, or put aside by its package manager.
_ASIDE = re.compile(r"rescue|\.dpkg-[a-z-]+$|\.rpm(?:save|new|orig)$")
#: Characters of a line; shlex takes its time for long ones.
_LONGEST = 4096


@dataclass(frozen=True)
class Kernel:
    """A kernel and its initial ramdisk, as paths on the file system that a boot loader reads them from.

    ``release`` is what it calls itself, as ``uname -r`` says and its folder of modules is named.
    """

    image: str
    initrd: str | None
    release: str

    @property
    def name(self) -> str:
        return self.image.rsplit("/", 1)[-1]


def kernels(tree: Tree) -> list[Kernel]:
    """Those in ``/boot``, newest version first; links such as ``/vmlinuz`` are not followed to find them."""
    prefix = "" if any(mount.point == "/boot" for mount in tree.mounts) else "/boot"
    names = tree.names("/boot")
    found = []
    # Their names become part of menus, which have a syntax.
    names = [name for name in names if _PLAIN.fullmatch(name) and tree.is_file(f"/boot/{name}")]
    images = [name for name in names if name.startswith("vmlinuz-") and not _ASIDE.search(name)]
    for name in sorted(images, key=_age, reverse=True):
        version = name.removeprefix("vmlinuz-")
        release = _release(tree, f"/boot/{name}") or version
        candidates = (x for y in (version, release) for x in initramfs_names(y))
        initrd = next((f"{prefix}/{x}" for x in candidates if x in names), None)
        found.append(Kernel(f"{prefix}/{name}", initrd, release))
    return found


def _release(tree: Tree, path: str) -> str | None:
    """The release in the header of an x86 kernel, whose file may be called otherwise.

    ``None`` for what is none. Documentation/arch/x86/boot.rst of Linux: ``HdrS`` at 0x202, at 0x20e the place of the
    version, counted from 0x200, or zero.
    """
    with tree.opened(path) as file:
        head = file.read(0x210) if file else b""
        if not file or head[0x202:0x206] != b"HdrS":
            return None
        place = int.from_bytes(head[0x20E:], "little")
        if not place:  # it tells none
            return None
        file.seek(0x200 + place)
        words = file.read(256).split(b"\0")[0].decode("ascii", "replace").split()
    return words[0] if words and _PLAIN.fullmatch(words[0]) else None


def own_kernels(tree: Tree, image: str, others: Collection[str] = ()) -> list[Kernel]:
    """Those of the kernels in ``/boot`` that belong to the system in the tree, newest first.

    Those of which it has the modules. A tree without any modules has kernels that need none: all of them but those
    that belong to systems it shares ``/boot`` with.

    :param others: the paths of kernels on the file system of ``/boot`` that belong to another system.
    :raises ActionFailed: when it has modules, but for none of the kernels.
    """
    there, modules = kernels(tree), with_modules(tree)
    own = [x for x in there if (x.release in modules if modules else x.image not in others)]
    if left := [x.name for x in there if x not in own]:
        reason = f"modules of {', '.join(sorted(modules)) or 'no kernel'} are in /lib/modules"
        if modules and not own:
            raise ActionFailed(
                f"image {image!r} has no kernel in /boot whose modules it has: found {', '.join(left)}, and {reason}"
            )
        LOG.warning("image %s: kernels in /boot that are not its own: %s; %s", image, ", ".join(left), reason)
    return own


def check_usr(tree: Tree, image: str, kernel: Kernel) -> None:
    """See that a system whose ``/usr`` is a volume of its own comes up with a kernel.

    The initramfs of initramfs-tools and dracut mounts it by the system's fstab, that of mkinitcpio by a hook.

    :raises ActionFailed: when nothing mounts it before init, which lies there.
    """
    init = tree.end("/sbin/init")
    if not init or all(x.point != "/usr" for x in tree.mounts) or not holds("/usr", init):
        return
    reason = f"image {image!r} would not come up: its init lies on the volume of /usr, and "
    if not kernel.initrd:
        raise ActionFailed(f"{reason}{kernel.name} has no initramfs that would mount it")
    hooks = _mkinitcpio_hooks(tree)
    if hooks and not {"usr", "systemd"} & hooks:
        raise ActionFailed(
            f"{reason}HOOKS in its mkinitcpio.conf has no usr, which would have the initramfs mount it"
        )


def _mkinitcpio_hooks(tree: Tree) -> set[str]:
    """The hooks of an image whose initramfs is made by mkinitcpio; none for any other."""
    others = ("/usr/bin/dracut", "/usr/sbin/update-initramfs")
    if not tree.is_file("/usr/bin/mkinitcpio") or any(map(tree.is_file, others)):
        return set()
    files = [f"/etc/mkinitcpio.conf.d/{x}" for x in tree.names("/etc/mkinitcpio.conf.d") if x.endswith(".conf")]
    hooks = ""
    for file in ("/etc/mkinitcpio.conf", *files):
        for line in (tree.read(file) or "").split("\n"):
            hooks = line.removeprefix("HOOKS=") if line.startswith("HOOKS=") else hooks
    return set(re.findall(r"[\w-]+", hooks[:_LONGEST]))


def warned(image: str, lines: Iterable[str]) -> Outcome:
    """Warn of what was found in an image; the same for the report."""
    found = list(dict.fromkeys(lines))
    for line in found:
        LOG.warning("image %s: %s", image, line)
    return {"warnings": "; ".join(found)} if found else {}


def _age(name: str) -> tuple[list[tuple[int, str]], bool]:
    """Sorts kernels by version, and one that ``make install`` has put aside below the one in its place."""
    return _version(name.removesuffix(".old")), not name.endswith(".old")


def _version(name: str) -> list[tuple[int, str]]:
    """Sorts ``6.1.0-10`` above ``6.1.0-9``."""
    return [(int(x), "") if x.isdecimal() else (-1, x) for x in re.findall(r"[0-9]+|[^0-9]+", name)]


def release(tree: Tree) -> dict[str, str]:
    """The fields of ``/etc/os-release``; none where there is no such file."""
    text = tree.read("/etc/os-release") or tree.read("/usr/lib/os-release") or ""
    found = {}
    for line in text.split("\n"):
        if len(line) > _LONGEST:
            continue
        name, equals, value = line.partition("=")
        try:
            words = shlex.split(value) if equals else []
        except ValueError:
            continue
        if words:
            found[name.strip()] = "".join(char for char in words[0] if char.isprintable())
    return found
