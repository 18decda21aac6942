# SPDX-License-Identifier: Apache-2.0
"""What os-prober sees on a node with several images: which of them, and which systems besides."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from bareon.boot.disks import BootDisk
from bareon.errors import CommandError
from bareon.step import Outcome
from bareon.tools import mount, osprober

LOG = logging.getLogger(__name__)

PLACE = "/run/bareon/probed"
"""Where EFI system partitions are mounted meanwhile."""


@contextlib.contextmanager
def esps_mounted(disks: Sequence[BootDisk], mounted: Collection[str]) -> Iterator[None]:
    """Have the EFI system partitions of some disks mounted for the length of a ``with`` block, to be read alone.

    os-prober reads what is not mounted through GRUB's own drivers, which takes the most of its time.

    :param mounted: devices that are mounted already.
    """
    with contextlib.ExitStack() as stack:
        for number, disk in enumerate(disks):
            if disk.esp and disk.esp.device not in mounted:
                place = f"{PLACE}/{number}"
                Path(place).mkdir(parents=True, exist_ok=True)
                stack.enter_context(mount.mounted(disk.esp.device, place, kind="vfat", options="ro"))
        yield


def probed(roots: Mapping[str, str]) -> Outcome:
    """Which of the images os-prober sees, and which others.

    Not their names: it reads them in files of the image, through links that lead to those of the ramdisk.

    :param roots: the device of the root file system of each image.
    """
    try:
        seen = {os.path.realpath(device): name for device, name in osprober.systems().items()}
    except CommandError as error:
        LOG.warning("os-prober failed, the menu is made of what was deployed: %s", error)
        return {"os_prober": "failed"}
    devices = {os.path.realpath(device): image for image, device in roots.items()}
    if missed := [image for device, image in devices.items() if device not in seen]:
        LOG.warning("os-prober does not see %s; their entries are made of what was deployed", ", ".join(missed))
    outcome: Outcome = {"os_prober": f"{len(devices) - len(missed)} of {len(devices)}"}
    if others := [f"{name} on {device}" for device, name in seen.items() if device not in devices]:
        LOG.warning("systems that are none of the images, not in the boot menu: %s", ", ".join(others))
        outcome["other_systems"] = ", ".join(others)
    return outcome
