# SPDX-License-Identifier: Apache-2.0
"""The boot entries of the deployed disks in the firmware's memory, NVRAM."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bareon.boot.disks import BootDisk
from bareon.errors import CommandError
from bareon.tools import efi

LOG = logging.getLogger(__name__)


def remember(disks: Sequence[BootDisk], loaders: Sequence[str]) -> str:
    """Make an NVRAM entry for each disk, that of the first disk first in the order.

    The removable path works without an entry, so a firmware that refuses them does not fail the deployment.

    :param loaders: the path of the loader on the EFI system partition of each disk, as firmware writes it.
    :returns: how many entries were made, and why not more.
    """
    made = 0
    try:
        with efi.variables():
            for disk, loader in reversed(list(zip(disks, loaders, strict=True))):
                efi.replace(disk.label, disk.device, disk.number, loader)
                made += 1
    except (CommandError, OSError) as error:
        rest = f"the rest is EFI/BOOT/{disks[0].platform.removable}"
        LOG.warning("boot entries in NVRAM: %d of %d, %s: %s", made, len(disks), rest, error)
        return f"{made} of {len(disks)} entries, {rest} ({error})"
    return f"{made} {'entry' if made == 1 else 'entries'}"
