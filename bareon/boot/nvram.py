# SPDX-License-Identifier: Apache-2.0
"""The boot entries of the deployed disks in the firmware's memory, NVRAM, and their place in its order."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

from bareon.boot.disks import PREFIX, BootDisk
from bareon.errors import CommandError
from bareon.model.deployment import BootOrder
from bareon.step import Outcome
from bareon.text import visible
from bareon.tools import efi

LOG = logging.getLogger(__name__)

#: Links of udev to all partitions of the node by their GUIDs.
PARTITIONS = Path("/dev/disk/by-partuuid")
#: What a plan says of the order.
_PROMISES: Mapping[BootOrder, str] = {
    "first": "",
    "after-current": "; firmware boots what started this ramdisk first, then these disks",
    "unchanged": "; the boot order of the firmware stays as it is",
}
_TOLD = 8  # entries of the order that an outcome names


@dataclass(frozen=True)
class Found:
    """The order and the entries as the firmware had them before this run; ``own`` are those of bareon's."""

    order: tuple[int, ...]
    entries: Mapping[int, efi.Entry]

    @property
    def own(self) -> set[int]:
        return {number for number, entry in self.entries.items() if entry.label.startswith(PREFIX)}


def order_promise(disks: Sequence[BootDisk], wanted: BootOrder) -> str:
    """What is said of the boot order behind the description of a step that installs a boot loader on those disks."""
    return _PROMISES[wanted] if any(disk.esp for disk in disks) else ""


def remember(disks: Sequence[BootDisk], loaders: Sequence[str], wanted: BootOrder = "first") -> Outcome:
    """Have an NVRAM entry for each disk, and have them in the order where ``wanted`` says.

    An entry that is right already stays as it is. Those of bareon's that start from a partition that is gone are
    taken out. The removable path works without an entry, so a firmware that refuses them fails no deployment.

    :param loaders: the path of the loader on the EFI system partition of each disk, as firmware writes it.
    :returns: how many entries there are, and why not more; and the order, where it is not simply theirs.
    """
    numbers: list[int] = []
    told: Outcome = {}
    try:
        with efi.variables():
            found = Found(tuple(efi.order()), efi.entries())
            kept = found.own.intersection(found.order) if wanted == "unchanged" else set()
            refused = _make(disks, loaders, numbers, found, kept)
            told = _ordered(found, numbers, wanted)
            if refused:
                raise refused[0]
    except (CommandError, OSError) as error:
        rest = f"the rest is EFI/BOOT/{disks[0].platform.removable}"
        if _is_full(error):
            rest += "; the firmware's memory is full, and bareon takes out no entry but its own"
        LOG.warning("boot entries in NVRAM: %d of %d, %s: %s", len(numbers), len(disks), rest, error)
        unread: Outcome = {} if wanted == "first" else {"boot_order": f"not known ({error})"}
        return {"nvram": f"{len(numbers)} of {len(disks)} entries, {rest} ({error})", **(told or unread)}
    return {"nvram": f"{len(numbers)} {'entry' if len(numbers) == 1 else 'entries'}", **told}


def _is_full(error: CommandError | OSError) -> bool:
    """True where there is no room for another variable. Some firmware frees that of old ones when it starts only."""
    words = error.stderr if isinstance(error, CommandError) else error.strerror or ""
    return os.strerror(errno.ENOSPC) in words


def _make(
    disks: Sequence[BootDisk], loaders: Sequence[str], numbers: list[int], found: Found, kept: Collection[int]
) -> list[CommandError | OSError]:
    """Have an entry for each disk, those that the firmware takes: NVRAM that is full may hold the first ones.

    :param numbers: those of the entries are added to it.
    :param kept: numbers that must go on to be those of entries, see :func:`_entry_of`.
    :returns: why others are not there.
    """
    refused: list[CommandError | OSError] = []
    try:
        _forget_gone(found, {*kept, *(n for n, x in found.entries.items() if x.label in {y.label for y in disks})})
    except OSError as error:
        refused.append(error)
    for disk, loader in zip(disks, loaders, strict=True):
        others = {x.guid.lower() for x in disks if x is not disk}
        try:
            numbers.append(_entry_of(disk, loader, others, found, kept))
        except (CommandError, OSError) as error:
            refused.append(error)
    return refused


def _entry_of(disk: BootDisk, loader: str, others: Collection[str], found: Found, kept: Collection[int]) -> int:
    """The number of the entry of a disk, made where it is not there; others of its label are taken out.

    :param others: the partitions of the other disks, which may have the same label: namespaces of an NVMe drive have
        one serial number.
    :param kept: numbers that an order names which must stay as it is: an entry of bareon's there is made anew under
        its number, or left alone, since what somebody else makes next would take its number, and its place.
    :raises OSError: when the firmware has not kept what was made.
    """
    wanted = efi.Entry(disk.label, disk.guid.lower(), loader)
    entries = efi.entries()
    known = [n for n, x in entries.items() if x.label == disk.label and x.partition not in others]
    known.sort(key=lambda n: (n not in kept, entries[n] != wanted, n))
    for number in known[1:]:
        if number not in kept:
            efi.delete(number)
    if known and entries[known[0]] == wanted:
        return known[0]
    number = known[0] if known else _free(found)
    if known:
        _replace(number, disk, loader, found)
    else:
        efi.create(number, disk.label, disk.device, disk.number, loader)
    if efi.entries().get(number, efi.Entry("")).label != disk.label:
        raise OSError(f"the firmware did not keep the entry {disk.label!r}")
    return number


def _replace(number: int, disk: BootDisk, loader: str, found: Found) -> None:
    """Put the entry of a disk in the place of an earlier one, which is there until the new one is.

    The new one is made under another number, since efibootmgr(8) makes none over one that is there. Where the memory
    has no room for both, the earlier one makes room, and comes back where that was not enough.
    """
    spare = _free(found)
    try:
        efi.create(spare, disk.label, disk.device, disk.number, loader)
        efi.put(number, efi.content(spare))
    except (CommandError, OSError) as error:
        efi.delete(spare)
        if not _is_full(error):
            raise
        _exchange(number, disk, loader)
    else:
        efi.delete(spare)


def _exchange(number: int, disk: BootDisk, loader: str) -> None:
    """Take an entry out, and make one under its number; the earlier one comes back where that is refused."""
    former = efi.content(number)
    efi.delete(number)
    try:
        efi.create(number, disk.label, disk.device, disk.number, loader)
    except CommandError:
        try:
            efi.put(number, former)
        except OSError as error:
            LOG.warning("boot entry %04X, %s: it is gone, as it cannot be put back: %s", number, disk.label, error)
        raise


def _free(found: Found) -> int:
    """A number without an entry, which none that was somebody else's has left in the order or for the next start."""
    left = {*found.order, efi.number("BootCurrent"), efi.number("BootNext")} - found.own
    taken = {*efi.entries(), *left}
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _forget_gone(found: Found, kept: Collection[int]) -> None:
    """Take out entries of bareon's whose partition no disk of the node has: a disk was replaced, or made anew."""
    try:
        there = {path.name.lower() for path in PARTITIONS.iterdir()}
    except OSError:
        return  # udev does not run, so that nobody knows
    for number, entry in found.entries.items():
        gone = entry.label.startswith(PREFIX) and entry.partition and entry.partition not in there
        if gone and number not in kept:
            LOG.info("boot entry %04X, %s: its partition %s is gone", number, entry.label, entry.partition)
            efi.delete(number)


def _ordered(found: Found, numbers: Sequence[int], wanted: BootOrder) -> Outcome:
    """Have the order as it is wanted, with the entries of those ``numbers``, and tell of it."""
    entries = efi.entries()
    gone = found.own - entries.keys()
    others = [number for number in found.order if number not in gone and number not in numbers]
    if wanted == "unchanged":
        order = list(found.order)
    elif wanted == "first":
        order = [*numbers, *others]
    else:
        order = after_current(others, numbers, found, efi.number("BootCurrent"))
    failure = ""
    try:
        # Also where firmware has put the new ones into the order by itself.
        if efi.order() != order and order:
            efi.reorder(order)
        if (is_now := efi.order()) != order:
            failure = "the firmware did not keep what was asked for: "
    except OSError as error:
        failure, is_now = f"cannot be written ({error.strerror}): ", efi.order()
    if failure:
        LOG.warning("boot order: %s%s", failure, _described(is_now, entries))
    elif wanted == "first":
        return {}
    return {"boot_order": failure + _described(is_now, entries)}


def after_current(others: Sequence[int], numbers: Sequence[int], found: Found, current: int | None) -> list[int]:
    """An order in which what started this system comes first, then ``numbers``, then the others as they were.

    Where nobody knows what it was, or it was an entry of bareon's, the first of those that start from a network comes
    first, with those that stand behind it: who reaches the node comes by one of them.

    :param others: the order without entries of this run.
    :param current: the entry that this system was started from. It may be one that firmware made for the moment.
    """
    networks = {number for number, entry in found.entries.items() if entry.network}
    if current is not None and current in others and current not in found.own:
        first = [current]
    else:
        behind = dropwhile(lambda number: number not in networks, others)
        first = list(takewhile(lambda number: number in networks, behind))
    return [*first, *numbers, *(number for number in others if number not in first)]


def _described(order: Sequence[int], entries: Mapping[int, efi.Entry]) -> str:
    """An order for people."""
    words = []
    for number in order[:_TOLD]:
        entry = entries.get(number)
        about = visible(entry.label)[:40] if entry else "(no such entry)"
        words.append(f"{number:04X} {about}{'' if entry is None or entry.active else ' (inactive)'}")
    if len(order) > _TOLD:
        words.append(f"and {len(order) - _TOLD} more")
    return ", ".join(words) or "empty"
