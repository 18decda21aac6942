# SPDX-License-Identifier: Apache-2.0
"""do_bootloader: makes the deployed node boot from its own disks."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bareon.actions.base import Action, Job
from bareon.errors import ActionFailed, Defect, InvalidInput, UnsuitableNode
from bareon.model.image import Image
from bareon.model.layout import FilesystemLayout, Layout
from bareon.plan.step import Outcome, Progress, Step
from bareon.target.tree import Tree, mounted_tree
from bareon.tools import grub, lvm, mount, udev

MODULES = "/usr/lib/grub/i386-pc"


class Bootloader(Action):
    """Installs GRUB on every disk of the layout that can boot."""

    name = "do_bootloader"

    def requires(self, job: Job) -> set[str]:
        return {*grub.PROGRAMS, *mount.PROGRAMS, *udev.PROGRAMS}

    def validate(self, job: Job) -> None:
        systems = [x.name for x in job.deployment.images if any(fs.mount == "/" for fs in job.layout.tree(x.name))]
        if len(systems) > 1:
            raise UnsuitableNode(f"only one image can be made bootable yet, and there are {', '.join(systems)}")
        if job.layout.firmware != "bios":
            raise UnsuitableNode("this node boots by UEFI, for which no boot loader can be installed yet")
        if not _system(job):
            raise InvalidInput([Defect("$.partitions", f"{self.name} is queued, but no image has a volume for /")])
        if not _bootable(job.layout):
            raise UnsuitableNode("no disk of the layout has a bios_grub partition to boot from")

    def plan(self, job: Job) -> Sequence[Step]:
        image = _system(job)
        assert image
        params = " ".join(x for x in (job.deployment.kernel_params.strip(), _bootif(job.node.cmdline)) if x)
        return [InstallGrub(self.name, image.name, job.layout.tree(image.name), _bootable(job.layout), params)]


def _system(job: Job) -> Image | None:
    """The image that boots: the one that says so, else the first with a root file system."""
    systems = [image for image in job.deployment.images if any(fs.mount == "/" for fs in job.layout.tree(image.name))]
    return next((image for image in systems if image.boot), systems[0] if systems else None)


def _bootable(layout: Layout) -> tuple[str, ...]:
    return tuple(disk.device for disk in layout.disks if any(part.role == "bios_grub" for part in disk.partitions))


def _bootif(cmdline: str) -> str:
    """The interface the ramdisk was booted from, as PXELINUX notes it on the kernel command line."""
    return next((word for word in cmdline.split() if word.startswith("BOOTIF=")), "")


@dataclass(frozen=True)
class InstallGrub(Step):
    """GRUB from the image where it has one, else the ramdisk's, on each disk."""

    image: str
    filesystems: tuple[FilesystemLayout, ...]
    disks: tuple[str, ...]
    kernel_params: str

    @property
    def description(self) -> str:
        return f"Install GRUB for image {self.image!r} on {', '.join(self.disks)}"

    def run(self, progress: Progress) -> Outcome:
        udev.settle()  # grub-probe looks for file systems below /dev/disk/by-uuid
        with mounted_tree(self.filesystems) as tree:
            if not _kernels(tree):
                raise ActionFailed(f"image {self.image!r} has no kernel in /boot")
            own = _own_grub(tree)
            if own:
                self._from_image(tree, *own)
            else:
                self._from_ramdisk(tree)
        return {"grub": "image" if own else "ramdisk"}

    def _from_image(self, tree: Tree, install: str, mkconfig: str, folder: str) -> None:
        defaults = tree.read("/etc/default/grub") or ""
        changed = grub.with_kernel_params(defaults, self.kernel_params)
        if self.kernel_params or changed != defaults:
            tree.write("/etc/default/grub", changed)
        tree.folder(folder)
        with _system_mounts(tree):
            for disk in self.disks:
                grub.install_bios(disk, "/boot", root=tree.root, program=install)
            grub.mkconfig(tree.root, f"{folder}/grub.cfg", mkconfig)
        text = tree.read(f"{folder}/grub.cfg") or ""
        root = tree.filesystems[0]
        # grub-mkconfig names a root on LVM by its device.
        names = (root.uuid, root.device, lvm.mapper_device(root.device))
        if "linux" not in text or not any(name in text for name in names):
            raise ActionFailed(
                f"{mkconfig} of image {self.image!r} wrote no entry for its root file system {root.uuid}"
            )

    def _from_ramdisk(self, tree: Tree) -> None:
        boot = next((fs for fs in tree.filesystems if fs.mount == "/boot"), None)
        prefix = "" if boot else "/boot"
        kernels = [grub.Kernel(f"{prefix}/{name}", f"{prefix}/{rd}" if rd else None) for name, rd in _kernels(tree)]
        tree.refuse_links("/boot/grub")
        for disk in self.disks:
            grub.install_bios(disk, tree.folder("/boot"))
        root = tree.filesystems[0].uuid
        uuid = (boot or tree.filesystems[0]).uuid
        tree.write(
            "/boot/grub/grub.cfg",
            grub.configuration(self.image, uuid, root, kernels, self.kernel_params),
        )


def _own_grub(tree: Tree) -> tuple[str, str, str] | None:
    """(grub-install, grub-mkconfig, folder of grub.cfg) of an image that brings GRUB for BIOS."""
    for prefix, folder in (("grub", "/boot/grub"), ("grub2", "/boot/grub2")):
        programs = [f"{prefix}-install", f"{prefix}-mkconfig"]
        there = all(any(tree.is_file(f"{d}/{p}") for d in ("/usr/sbin", "/usr/bin", "/sbin")) for p in programs)
        if there and tree.is_file(f"{MODULES}/normal.mod"):
            return programs[0], programs[1], folder
    return None


def _kernels(tree: Tree) -> list[tuple[str, str | None]]:
    """(kernel, initial ramdisk) in /boot, newest version first."""
    names = tree.names("/boot")
    kernels = [name for name in names if name.startswith("vmlinuz-") and "rescue" not in name]
    found = []
    for kernel in sorted(kernels, key=_version, reverse=True):
        version = kernel.removeprefix("vmlinuz-")
        candidates = (f"initrd.img-{version}", f"initramfs-{version}.img", f"initrd-{version}")
        found.append((kernel, next((name for name in candidates if name in names), None)))
    return found


def _version(name: str) -> list[tuple[int, str]]:
    """Sorts ``6.1.0-10`` above ``6.1.0-9``."""
    return [(int(x), "") if x.isdigit() else (-1, x) for x in re.findall(r"\d+|\D+", name)]


@contextlib.contextmanager
def _system_mounts(tree: Tree) -> Iterator[None]:
    """What programs of the deployed system need of the running one."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mount.mounted("proc", tree.folder("/proc"), kind="proc"))
        stack.enter_context(mount.mounted("sysfs", tree.folder("/sys"), kind="sysfs"))
        stack.enter_context(mount.mounted("/dev", tree.folder("/dev"), kind="bind"))
        stack.enter_context(mount.mounted("tmpfs", tree.folder("/run"), kind="tmpfs"))
        if Path("/run/udev").is_dir():
            stack.enter_context(mount.mounted("/run/udev", tree.folder("/run/udev"), kind="bind"))
        yield
