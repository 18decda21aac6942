# SPDX-License-Identifier: Apache-2.0
"""Kernels and names (os-release(5)) of deployed systems, and whether they come up with those kernels."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Collection, Iterable

from bareon.boot.entries import bls
from bareon.boot.platform import Platform
from bareon.errors import ActionFailed
from bareon.step import Outcome
from bareon.system.initramfs import with_modules
from bareon.system.kernel import Kernel, in_boot, in_folder, kernels
from bareon.system.makers import mkinitcpio, table
from bareon.system.tree import Tree, holds
from bareon.tools import pe

LOG = logging.getLogger(__name__)

#: Characters of a line; shlex takes its time for long ones.
_LONGEST = 4096


def own_kernels(tree: Tree, image: str, others: Collection[str] = ()) -> list[Kernel]:
    """Those of the kernels in ``/boot`` that belong to the system in the tree, newest first.

    Those of which it has the modules. A tree without any modules has kernels that need none: all of them but those
    that belong to systems it shares ``/boot`` with.

    :param others: the paths of kernels on the file system of ``/boot`` that belong to another system.
    :raises ActionFailed: when it has modules, but for none of the kernels.
    """
    there, modules = [*kernels(tree), *_of_entries(tree)], with_modules(tree)
    own = [x for x in there if (x.release in modules if modules else x.image not in others)]
    if left := [x.name for x in there if x not in own]:
        reason = f"modules of {', '.join(sorted(modules)) or 'no kernel'} are in /lib/modules"
        if modules and not own:
            raise ActionFailed(
                f"image {image!r} has no kernel in /boot whose modules it has: found {', '.join(left)}, and {reason}"
            )
        LOG.warning("image %s: kernels in /boot that are not its own: %s; %s", image, ", ".join(left), reason)
    return own


def _of_entries(tree: Tree) -> list[Kernel]:
    """The kernels in folders of ``/boot``, which only entries of the Boot Loader Specification tell of."""
    found = []
    for entry in bls.read(tree):
        if "/" in in_boot(entry.kernel):
            last = entry.initrds[-1] if entry.initrds else None
            there = in_folder(tree, entry.kernel, last if last and tree.is_file(f"/boot/{in_boot(last)}") else None)
            found += [there] if there else []
    return sorted(found, key=lambda x: x.odd)


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
    hooks = mkinitcpio.hooks(tree).names if table.of(tree) is mkinitcpio.MAKER else ()
    if hooks and not {"usr", "systemd"} & {*hooks}:
        raise ActionFailed(
            f"{reason}HOOKS in its mkinitcpio.conf has no usr, which would have the initramfs mount it"
        )


def check_processor(tree: Tree, kernel: str, platform: Platform, image: str) -> None:
    """See that a kernel is for the processor of the node, where it tells: one with a stub for EFI does.

    :param kernel: its path from ``/boot``.
    :raises ActionFailed: when it is for another one.
    """
    with tree.opened(f"/boot/{kernel}") as file:
        found = pe.machine(file) if file else None
    if found is not None and found not in platform.machines:
        raise ActionFailed(
            f"image {image!r} would not start: its kernel {kernel} is for another processor than that of the node,"
            f" which is {' or '.join(platform.processors)}"
        )


def warned(image: str, lines: Iterable[str]) -> Outcome:
    """Warn of what was found in an image; the same for the report."""
    found = list(dict.fromkeys(lines))
    for line in found:
        LOG.warning("image %s: %s", image, line)
    return {"warnings": "; ".join(found)} if found else {}


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
