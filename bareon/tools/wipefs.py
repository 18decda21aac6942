# SPDX-License-Identifier: Apache-2.0
"""Removing signatures: wipefs(8)."""

from __future__ import annotations

from collections.abc import Sequence

from bareon.run import run
from bareon.tools.device import refuse_if_busy

PROGRAMS = ("wipefs",)


def wipe(devices: Sequence[str]) -> None:
    """Remove every signature libblkid knows, backup GPT headers included, from each device in turn.

    :raises UnsuitableNode: when a device is in use.
    """
    for device in devices:
        # Without --force it leaves partition tables inside partitions, such as those of virtual machines' disks, and
        # with it it would not look whether somebody uses the device.
        refuse_if_busy(device)
        run(["wipefs", "--all", "--force", "--quiet", "--lock=yes", device])
