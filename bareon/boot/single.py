# SPDX-License-Identifier: Apache-2.0
"""One image on the node: its own GRUB boots it, or the ramdisk's where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bareon.boot.disks import BootDisk
from bareon.boot.grub_defaults import defaults, with_kernel_params
from bareon.boot.install import Source, install
from bareon.boot.installed import Kernel, check_usr, kernels, own_kernels
from bareon.boot.menu import Entry, arguments, command_line, configuration, terminal
from bareon.boot.nvram import order_promise
from bareon.errors import ActionFailed
from bareon.model.deployment import BootOrder
from bareon.model.layout import Layout
from bareon.step import Outcome, Progress, Step
from bareon.system.initramfs import is_dracut, system_mounts
from bareon.system.tree import Tree, holder, mounted_tree
from bareon.tools import grub, lvm, udev


def parameters(asked: str, tree: Tree, layout: Layout, image: str) -> str:
    """The kernel parameters of an image besides its own: those ``asked`` for, and what its initramfs must be told.

    dracut starts nothing that it is not told of; other initramfs start all that is there.
    """
    if not is_dracut(tree):
        return asked
    resumes = any(word.startswith("resume=") for word in f"{command_line(defaults(tree))} {asked}".split())
    return " ".join(dict.fromkeys([*asked.split(), *layout.kernel_arguments(image, resumes=resumes)]))


@dataclass(frozen=True)
class InstallGrub(Step):
    """GRUB from the image where it has one, else the ramdisk's, on each disk."""

    image: str
    layout: Layout
    disks: tuple[BootDisk, ...]
    kernel_params: str
    boot_order: BootOrder = "first"

    @property
    def description(self) -> str:
        on = ", ".join(disk.device for disk in self.disks)
        return f"Install GRUB for image {self.image!r} on {on}{order_promise(self.disks, self.boot_order)}"

    def run(self, progress: Progress) -> Outcome:
        udev.settle()  # grub-probe looks for file systems below /dev/disk/by-uuid
        with mounted_tree(self.layout.tree(self.image)) as tree:
            there = own_kernels(tree, self.image)
            if not there:
                raise ActionFailed(f"image {self.image!r} has no kernel in /boot")
            check_usr(tree, self.image, there[0])
            own = _own_grub(tree, self.disks[0].platform.grub_target)
            if own:
                _check_default(tree, self.image, there)
            done = self._from_image(tree, *own) if own else self._from_ramdisk(tree, there)
        return {"grub": "image" if own else "ramdisk", **done}

    def _parameters(self, tree: Tree) -> str:
        return parameters(self.kernel_params, tree, self.layout, self.image)

    def _from_image(self, tree: Tree, program: str, mkconfig: str, folder: str) -> Outcome:
        settings = tree.read("/etc/default/grub") or ""
        changed = with_kernel_params(settings, self._parameters(tree))
        if changed != settings:
            tree.write("/etc/default/grub", changed)
        tree.folder(folder)
        with system_mounts(tree):
            done = install(self.disks, Source(tree, inside=True, program=program), self.boot_order)
            grub.mkconfig(tree.root, f"{folder}/grub.cfg", mkconfig)
        text = tree.read(f"{folder}/grub.cfg") or ""
        root = tree.mounts[0]
        # grub-mkconfig names a root on LVM by its device.
        names = (root.uuid, root.device, lvm.mapper_device(root.device))
        if "linux" not in text or not any(name in text for name in names):
            raise ActionFailed(
                f"{mkconfig} of image {self.image!r} wrote no entry for its root file system {root.uuid}"
            )
        return done

    def _from_ramdisk(self, tree: Tree, there: Sequence[Kernel]) -> Outcome:
        tree.refuse_links("/boot/grub")
        done = install(self.disks, Source(tree, inside=False, loader="bareon"), self.boot_order)
        settings = defaults(tree)
        words = arguments(settings, tree.mounts[0].uuid, self._parameters(tree))
        boot = holder("/boot", tree.mounts)
        entries = [Entry(f"{self.image}, {x.name}", x.image, x.initrd, boot.uuid, words) for x in there]
        tree.write("/boot/grub/grub.cfg", configuration(entries, terminal(settings)))
        return done


def _own_grub(tree: Tree, target: str) -> tuple[str, str, str] | None:
    """(grub-install, grub-mkconfig, folder of grub.cfg) of an image that brings GRUB for ``target``."""
    for prefix, folder in (("grub", "/boot/grub"), ("grub2", "/boot/grub2")):
        programs = [f"{prefix}-install", f"{prefix}-mkconfig"]
        there = all(any(tree.is_file(f"{d}/{p}") for d in ("/usr/sbin", "/usr/bin", "/sbin")) for p in programs)
        if there and tree.is_file(f"/usr/lib/grub/{target}/normal.mod"):
            return programs[0], programs[1], folder
    return None


def _check_default(tree: Tree, image: str, own: Sequence[Kernel]) -> None:
    """See that the newest kernel, which ``grub-mkconfig`` puts first, is one of the image's own.

    :raises ActionFailed: when it is not, and the image's settings name no other one as the default.
    """
    newest = kernels(tree)[0]
    if newest not in own and defaults(tree).get("GRUB_DEFAULT", "0") == "0":
        reason = f"there are no modules of {newest.release} in /lib/modules"
        raise ActionFailed(
            f"image {image!r} would boot {newest.name}, the newest kernel in its /boot, and {reason}:"
            " take it out of the image, or bring its modules"
        )
