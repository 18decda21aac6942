# SPDX-License-Identifier: Apache-2.0
"""do_bootloader: makes the deployed node boot from its own disks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bareon.actions.base import Action, Job
from bareon.actions.manifest import manifests
from bareon.boot import verification
from bareon.boot.chain import VerifyChain
from bareon.boot.disks import BootDisk, boot_disks
from bareon.boot.drivers import VerifyDrivers, needed, unknown
from bareon.boot.loaded import LoadKernel
from bareon.boot.platform import platform
from bareon.boot.removal import RemoveEntries
from bareon.boot.renewal import RenewEntries
from bareon.boot.several import InstallMultiboot
from bareon.boot.single import InstallGrub
from bareon.errors import Defect, InvalidInput, UnsuitableNode
from bareon.layout.stack import busy
from bareon.model.image import Early, Image
from bareon.model.node import NodeFacts
from bareon.model.settings import BOOT_INFO, SANDBOX, runs_programs
from bareon.step import Step
from bareon.tools import authenticode, grub, menu, mount, osprober, sandbox, udev

_NOBODYS = "the menu of several images has a GRUB that is put together on the node, signed by nobody"
_FIRMWARE = {"bios": "a BIOS", "uefi": "UEFI"}

#: The type of the hardware in front, as ARP numbers it, where it is from PXELINUX; six to twenty bytes.
_BOOTIF = re.compile(r"BOOTIF=[0-9A-Fa-f]{2}(?:[-:][0-9A-Fa-f]{2}){5,20}")


class Bootloader(Action):
    """Installs GRUB on every disk of the layout that can boot."""

    name = "do_bootloader"
    makes = ("boot loader",)
    after = ("layout", "configdrive", "images")
    options = {"boot_info_path": BOOT_INFO, "image_programs": SANDBOX, "allow_unbootable": False, "kexec": False}

    def requires(self, job: Job) -> set[str]:
        if _beside(job) or job.deployment.removed:
            return {*mount.PROGRAMS, *udev.PROGRAMS, *menu.PROGRAMS}
        several = osprober.PROGRAMS if job.layout.multiboot else ()
        verifying = authenticode.PROGRAMS if _is_on(job.node) else ()
        inside = sandbox.PROGRAMS if runs_programs(self.settings) and not job.layout.multiboot else ()
        return {*grub.PROGRAMS, *mount.PROGRAMS, *udev.PROGRAMS, *several, *verifying, *inside}

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
        if _beside(job) and _is_on(job.node) and not job.deployment.removed:
            raise UnsuitableNode(
                "with Secure Boot on, images are brought in the ramdisk, where all kernels are compared"
            )
        if self.settings.get("kexec") and _beside(job):
            raise UnsuitableNode("--kexec: a system runs from the disks: no other one is started in its place")
        if (hardware := job.node.hardware) and not platform(job.layout.firmware, hardware):
            raise UnsuitableNode(
                f"the node is {hardware.architecture} with {_FIRMWARE[job.layout.firmware]}, and bareon has no boot"
                " loader for it"
            )
        if not boot_disks(job.layout, job.node):
            raise UnsuitableNode("no disk of the layout has a partition to boot from")
        if job.node.firmware_bits == 32:
            raise UnsuitableNode(
                "the UEFI firmware is a 32-bit one, which starts no 64-bit GRUB; have it boot as a BIOS (CSM), the"
                " ramdisk too, if it can"
            )

    def warnings(self, job: Job) -> Iterator[str]:
        if _named_bootif(job.node.cmdline) and not _bootif(job.node.cmdline):
            yield (
                "BOOTIF on the kernel command line of the ramdisk is no hardware address such as"
                " 01-52-54-00-12-34-56: it is not handed on"
            )
        esps = [disk.esp for disk in boot_disks(job.layout, job.node) if disk.esp]
        if not esps and job.deployment.boot_order != "first":
            yield f"boot_order {job.deployment.boot_order!r} has no effect: a BIOS keeps its order to itself"
        if job.deployment.esp_copies and (reason := _without_copies(job)):
            yield f"esp_copies has no effect: {reason}"
        for mounted in (x for esp in esps for x in esp.mounts if len(esps) > 1):
            if "nofail" not in mounted.mount.options.split(","):
                yield (
                    f"{mounted.filesystem.wanted.path}.fstab_options: without nofail the system does not come up from"
                    f" another disk when that of {mounted.device} has failed"
                )

        yield from filter(None, (unknown(job.layout, job.node, x) for x in _started(job)))
        yield from _secure_boot_warnings(job)

    def plan(self, job: Job) -> Sequence[Step]:
        steps = [*self._steps(job), *manifests(self.name, job)]
        loaders = [x for x in steps if isinstance(x, InstallGrub | InstallMultiboot)]
        if not self.settings.get("kexec"):
            return steps
        return [*steps, *(LoadKernel(self.name, _default(_systems(job)), x) for x in loaders)]

    def _steps(self, job: Job) -> Sequence[Step]:
        systems = _systems(job)
        default = _default(systems)
        disks = boot_disks(job.layout, job.node)
        params = " ".join([*job.deployment.kernel_params.split(), *_bootif(job.node.cmdline)])
        order = job.deployment.boot_order
        if job.deployment.removed:
            kept = tuple(x.name for x in job.deployment.images)
            return [RemoveEntries(self.name, job.deployment.removed, kept, job.layout, job.deployment.at_hand)]
        if _beside(job):
            brought = tuple(x for x in systems if job.deployment.brings(x))
            renew = RenewEntries(self.name, brought, job.layout, params, job.deployment.at_hand)
            return [*self._drivers(job, default), *([renew] if brought else [])]
        if job.layout.multiboot:
            on = _is_on(job.node)
            images = tuple(image for image in job.deployment.images if job.layout.tree(image.name))
            boot_info = str(self.settings.get("boot_info_path", BOOT_INFO))
            return [
                *self._drivers(job, default),
                InstallMultiboot(
                    *(self.name, images, default, job.layout, disks, params, boot_info, order, on),
                    document=job.deployment.at_hand,
                ),
                *([VerifyChain(self.name, _by_default(systems), _early_of(job, systems), disks)] if on else []),
            ]
        verify = self._verification(job, default, disks) if verification.concerns(job.node.secure_boot) else []
        return [
            *self._drivers(job, default),
            InstallGrub(
                *(self.name, default, job.layout, disks, params, order),
                programs=runs_programs(self.settings),
                esp_copies=job.deployment.esp_copies and not _without_copies(job),
                secure_boot=_is_on(job.node),
                early=_early(job, default),
            ),
            *verify,
        ]

    def _drivers(self, job: Job, default: str) -> Iterator[Step]:
        """A step for each system with a disk of which the drivers are known."""
        for name in _started(job):
            if wanted := needed(job.layout, job.node, name):
                allowed = bool(self.settings.get("allow_unbootable")) or name != default
                yield VerifyDrivers(self.name, name, job.layout, wanted, allowed, _early(job, name))

    def _verification(self, job: Job, image: str, disks: tuple[BootDisk, ...]) -> list[Step]:
        return [verification.VerifyLoader(self.name, image, job.layout, disks, _is_on(job.node), _early(job, image))]


def _beside(job: Job) -> bool:
    """True where an image of several runs from the disks: GRUB and the entries of those that stay are left alone."""
    alone = job.deployment.brought is not None and job.layout.multiboot is not None
    return alone and bool(busy(job.node, {disk.device for disk in job.layout.disks}))


def _without_copies(job: Job) -> str | None:
    """Why the deployed system has nothing to copy from one EFI system partition to others."""
    if job.layout.multiboot:
        return "several images have one boot loader apart from them, which no update of theirs changes"
    if sum(disk.esp is not None for disk in boot_disks(job.layout, job.node)) < 2:
        return "there is no more than one EFI system partition"
    return None


def _is_on(node: NodeFacts) -> bool:
    return node.secure_boot is not None and node.secure_boot.state == "enabled"


def _early(job: Job, name: str) -> Early | None:
    """What brings files of a system before they are written, where it is one image that is brought in this run."""
    images = [image for image in job.deployment.images if image.system == name]
    if len(images) != 1 or images[0].target != "/" or "images" not in job.makes:
        return None
    if not job.deployment.brings(images[0]):
        return None
    return job.transport.early(images[0], job)


def _early_of(job: Job, systems: Sequence[Image]) -> dict[str, Early]:
    """What brings files of each system, of those where it can be had."""
    return {x.name: early for x in systems if (early := _early(job, x.name))}


def _secure_boot_warnings(job: Job) -> Iterator[str]:
    facts = job.node.secure_boot
    if facts and facts.state == "unknown":
        yield f"Secure Boot: {facts.reason}; whether it lets the boot loader start is not looked at"
    elif facts and verification.concerns(facts):
        systems = _systems(job)
        if facts.state == "enabled":
            asked = systems if job.layout.multiboot else [x for x in systems if x.name == _default(systems)]
            if len(_early_of(job, asked)) < len(asked):
                told = "whether it lets the boot loader start is seen when the image has been written"
                yield f"Secure Boot is on; {told}"
        elif job.layout.multiboot:
            yield f"Secure Boot is off; with it on, the node would not start: {_NOBODYS}"


def _default(systems: Sequence[Image]) -> str:
    """The image that boots."""
    return next((image for image in systems if image.boot), systems[0]).name


def _by_default(systems: Sequence[Image]) -> tuple[str, ...]:
    """The names of the images, that of the one that boots first."""
    return tuple(dict.fromkeys([_default(systems), *(x.name for x in systems)]))


def _systems(job: Job) -> list[Image]:
    """The images with a root file system, which alone can boot."""
    return [image for image in job.deployment.images if job.layout.has_root(image.name)]


def _started(job: Job) -> list[str]:
    """The names of the images that the boot loader starts: one, or all with volumes of their own in a menu.

    Beside a system that runs they are those that are brought.
    """
    if _beside(job):
        return [image.name for image in _systems(job) if job.deployment.brings(image)]
    if job.layout.multiboot:
        return [image.name for image in job.deployment.images if job.layout.tree(image.name)]
    return [_default(_systems(job))]


def _bootif(cmdline: str) -> list[str]:
    """The interface the ramdisk was booted from, as PXELINUX notes it on the kernel command line.

    Whoever answers the node's DHCP request may have written it.
    """
    return [word for word in _named_bootif(cmdline) if _BOOTIF.fullmatch(word)]


def _named_bootif(cmdline: str) -> list[str]:
    return [word for word in cmdline.split() if word.startswith("BOOTIF=")][:1]
