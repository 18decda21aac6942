# SPDX-License-Identifier: Apache-2.0
"""do_bootloader: makes the deployed node boot from its own disks."""

from __future__ import annotations

from collections.abc import Sequence

from bareon.actions.base import Action, Job
from bareon.actions.bootdisk import boot_disks
from bareon.actions.singleboot import InstallGrub
from bareon.errors import Defect, InvalidInput, UnsuitableNode
from bareon.model.image import Image
from bareon.plan.step import Step
from bareon.tools import grub, mount, udev


class Bootloader(Action):
    """Installs GRUB on every disk of the layout that can boot."""

    name = "do_bootloader"

    def requires(self, job: Job) -> set[str]:
        return {*grub.PROGRAMS, *mount.PROGRAMS, *udev.PROGRAMS}

    def validate(self, job: Job) -> None:
        systems = [x.name for x in job.deployment.images if any(fs.mount == "/" for fs in job.layout.tree(x.name))]
        if len(systems) > 1:
            raise UnsuitableNode(f"only one image can be made bootable yet, and there are {', '.join(systems)}")
        if not _system(job):
            raise InvalidInput([Defect("$.partitions", f"{self.name} is queued, but no image has a volume for /")])
        if not boot_disks(job):
            raise UnsuitableNode("no disk of the layout has a partition to boot from")

    def plan(self, job: Job) -> Sequence[Step]:
        image = _system(job)
        assert image
        words = [*job.deployment.kernel_params.split(), *_bootif(job.node.cmdline)]
        return [InstallGrub(self.name, image.name, job.layout.tree(image.name), boot_disks(job), " ".join(words))]


def _system(job: Job) -> Image | None:
    """The image that boots: the one that says so, else the first with a root file system."""
    systems = [image for image in job.deployment.images if any(fs.mount == "/" for fs in job.layout.tree(image.name))]
    return next((image for image in systems if image.boot), systems[0] if systems else None)


def _bootif(cmdline: str) -> list[str]:
    """The interface the ramdisk was booted from, as PXELINUX notes it on the kernel command line."""
    return [word for word in cmdline.split() if word.startswith("BOOTIF=")][:1]
