# SPDX-License-Identifier: Apache-2.0
"""The boot entries of the deployed disks in the firmware's memory, NVRAM."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from bareon.boot.disks import PREFIX, BootDisk
from bareon.errors import CommandError
from bareon.tools import efi

LOG = logging.getLogger(__name__)

#: Links of udev to all partitions of the node by their GUIDs.
PARTITIONS = Path("/dev/disk/by-partuuid")


def remember(disks: Sequence[BootDisk], loaders: Sequence[str]) -> str:
    """Have an NVRAM entry for each disk, that of the first disk first in the order.

    An entry that is right already stays as it is. Those of bareon's that start from a partition that is gone are
    taken out. The removable path works without an entry, so a firmware that refuses them fails no deployment.

    :param loaders: the path of the loader on the EFI system partition of each disk, as firmware writes it.
    :returns: how many entries there are, and why not more.
    """
    there = 0
    try:
        with efi.variables():
            _forget_gone()
            numbers: list[int] = []
            for disk, loader in reversed(list(zip(disks, loaders, strict=True))):
                others = {x.guid.lower() for x in disks if x is not disk}
                numbers.insert(0, _entry_of(disk, loader, others))
                there += 1
            order = efi.order()
            if order[: len(numbers)] != numbers:
                efi.reorder([*numbers, *(number for number in order if number not in numbers)])
    except (CommandError, OSError) as error:
        rest = f"the rest is EFI/BOOT/{disks[0].platform.removable}"
        LOG.warning("boot entries in NVRAM: %d of %d, %s: %s", there, len(disks), rest, error)
        return f"{there} of {len(disks)} entries, {rest} ({error})"
    return f"{there} {'entry' if there == 1 else 'entries'}"


def _entry_of(disk: BootDisk, loader: str, others: Collection[str]) -> int:
    """The number of the entry of a disk, made where it is not there; others of its label are taken out.

    :param others: the partitions of the other disks, which may have the same label: namespaces of an NVMe drive have
        one serial number.
    :raises OSError: when the firmware has not kept what was made.
    """
    wanted = efi.Entry(disk.label, disk.guid.lower(), loader)

    def labelled() -> dict[int, efi.Entry]:
        found = efi.entries().items()
        return {n: entry for n, entry in found if entry.label == disk.label and entry.partition not in others}

    known = labelled()
    right = [number for number, entry in known.items() if entry == wanted]
    for number in known:
        if number not in right[:1]:
            efi.delete(number)
    if right:
        return right[0]
    efi.create(disk.label, disk.device, disk.number, loader)
    made = labelled()
    if not made:
        raise OSError(f"the firmware did not keep the entry {disk.label!r}")
    return next(iter(made))


def _forget_gone() -> None:
    """Take out entries of bareon's whose partition no disk of the node has: a disk was replaced, or made anew."""
    try:
        there = {path.name.lower() for path in PARTITIONS.iterdir()}
    except OSError:
        return  # udev does not run, so that nobody knows
    for number, found in efi.entries().items():
        if found.label.startswith(PREFIX) and found.partition and found.partition not in there:
            LOG.info("boot entry %04X, %s: its partition %s is gone", number, found.label, found.partition)
            efi.delete(number)
