# SPDX-License-Identifier: Apache-2.0
"""do_bootloader: makes the deployed node boot from its own disks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bareon.actions.base import Action, Job
from bareon.boot.disks import boot_disks
from bareon.boot.several import InstallMultiboot
from bareon.boot.single import InstallGrub
from bareon.errors import Defect, InvalidInput, UnsuitableNode
from bareon.model.image import Image
from bareon.model.settings import BOOT_INFO
from bareon.step import Step
from bareon.tools import grub, mount, osprober, udev

#: The type of the hardware in front, as ARP numbers it, where it is from PXELINUX; six to twenty bytes.
_BOOTIF = re.compile(r"BOOTIF=[0-9A-Fa-f]{2}(?:[-:][0-9A-Fa-f]{2}){5,20}")


class Bootloader(Action):
    """Installs GRUB on every disk of the layout that can boot."""

    name = "do_bootloader"
    makes = ("boot loader",)
    after = ("layout", "configdrive", "images")
    options = {"boot_info_path": BOOT_INFO}

    def requires(self, job: Job) -> set[str]:
        several = osprober.PROGRAMS if job.layout.multiboot else ()
        return {*grub.PROGRAMS, *mount.PROGRAMS, *udev.PROGRAMS, *several}

    def validate(self, job: Job) -> None:
        systems = _systems(job)
        defects = [
            Defect(f"{image.path}.boot", f"image {image.name!r} cannot be the one to boot: it has no volume for /")
            for image in job.deployment.images
            if image.boot and image not in systems
        ]
        if not systems:
            defects = [Defect("$.partitions", f"{self.name} is queued, but no image has a volume for /")]
        if defects:
            raise InvalidInput(defects)
        if not boot_disks(job.layout, job.node):
            raise UnsuitableNode("no disk of the layout has a partition to boot from")

    def warnings(self, job: Job) -> Iterator[str]:
        if _named_bootif(job.node.cmdline) and not _bootif(job.node.cmdline):
            yield (
                "BOOTIF on the kernel command line of the ramdisk is no hardware address such as"
                " 01-52-54-00-12-34-56: it is not handed on"
            )
        esps = [disk.esp for disk in boot_disks(job.layout, job.node) if disk.esp]
        if not esps and job.deployment.boot_order != "first":
            yield f"boot_order {job.deployment.boot_order!r} has no effect: a BIOS keeps its order to itself"
        for mounted in (x for esp in esps for x in esp.mounts if len(esps) > 1):
            if "nofail" not in mounted.mount.options.split(","):
                yield (
                    f"{mounted.filesystem.wanted.path}.fstab_options: without nofail the system does not come up from"
                    f" another disk when that of {mounted.device} has failed"
                )

    def plan(self, job: Job) -> Sequence[Step]:
        systems = _systems(job)
        default = next((image for image in systems if image.boot), systems[0]).name
        disks = boot_disks(job.layout, job.node)
        params = " ".join([*job.deployment.kernel_params.split(), *_bootif(job.node.cmdline)])
        order = job.deployment.boot_order
        if job.layout.multiboot:
            images = tuple(image for image in job.deployment.images if job.layout.tree(image.name))
            boot_info = str(self.settings.get("boot_info_path", BOOT_INFO))
            return [InstallMultiboot(self.name, images, default, job.layout, disks, params, boot_info, order)]
        return [InstallGrub(self.name, default, job.layout, disks, params, order)]


def _systems(job: Job) -> list[Image]:
    """The images with a root file system, which alone can boot."""
    return [image for image in job.deployment.images if job.layout.has_root(image.name)]


def _bootif(cmdline: str) -> list[str]:
    """The interface the ramdisk was booted from, as PXELINUX notes it on the kernel command line.

    Whoever answers the node's DHCP request may have written it.
    """
    return [word for word in _named_bootif(cmdline) if _BOOTIF.fullmatch(word)]


def _named_bootif(cmdline: str) -> list[str]:
    return [word for word in cmdline.split() if word.startswith("BOOTIF=")][:1]
