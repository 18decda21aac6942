# SPDX-License-Identifier: Apache-2.0
"""Users of block devices now: mounts of every process, swap areas, devices stacked on them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from bareon.model.node import Use
from bareon.storage.kinds import KINDS
from bareon.tools.lsblk import BlockDevice
from bareon.tools.mount import unescaped

_SYS = Path("/sys")
_WHOLE = ("disk", "loop", "rom", "mpath")
# What is stacked on a device and reported by itself, as arrays and volume groups.
_KNOWN = ("part", "mpath", *(name for kind in KINDS for name in kind.lsblk_types))


def users(devices: Sequence[BlockDevice], found: Sequence[Use]) -> dict[str, list[str]]:
    """The users of each device by its path, in words. A use of a stacked device counts for all below it.

    :param found: those of :func:`uses`.
    """
    by_name, by_path = {device.name: device for device in devices}, {device.path: device for device in devices}
    said: dict[str, list[str]] = defaultdict(list)
    for use in found:
        holder = f" ({by_path[use.at].type})" if use.way == "held" and use.at else ""
        for device in _all_below(by_path[use.device], by_name):
            words = use.words + holder + ("" if device.path == use.device else f" as {use.device}")
            if words not in said[device.path]:
                said[device.path].append(words)
    return said


def uses(devices: Sequence[BlockDevice]) -> list[Use]:
    """Every use of a device, which is called by its path."""
    by_name = {device.name: device for device in devices}
    found: list[Use] = []

    def note(
        device: BlockDevice, way: Literal["mounted", "swap", "held"], at: str | None = None, by: str = ""
    ) -> None:
        below = _all_below(device, by_name)
        names = {x.parent if x.type == "part" else x.name for x in below} - {None}
        disks = tuple(x.path for x in devices if x.name in names and x.type in _WHOLE)
        if (use := Use(device.path, way, disks, at, by or None)) not in found:
            found.append(use)

    by_number = {device.number: device for device in devices}
    by_path = {device.path: device for device in devices}
    for number, source, point, process in mounts():
        # btrfs shows a number of its own, so that the source must do.
        device = by_number.get(number) or by_path.get(source) or by_number.get(_number(source) or "")
        if device:
            note(device, "mounted", point, process)
    for together in _mounted_together(by_name):
        paths = {device.path for device in together}
        seen = {(use.at, use.process) for use in found if use.way == "mounted" and use.device in paths}
        for device in together:
            for at, by in sorted(seen, key=str) or [(None, None)]:
                note(device, "mounted", at, by or "")
    for line in Path("/proc/swaps").read_text().splitlines()[1:]:
        # /proc/swaps says /dev/dm-1 where lsblk says /dev/mapper/...: only the number is the same for both.
        if device := by_number.get(_number(unescaped(line.split()[0])) or ""):
            note(device, "swap")
    for device in devices:
        if device.type not in _KNOWN or _foreign(device):
            for name in _below(device, by_name):
                if name in by_name:
                    note(by_name[name], "held", device.path)
    return found


def _all_below(device: BlockDevice, by_name: Mapping[str, BlockDevice]) -> list[BlockDevice]:
    """A device, and all that it is stacked on."""
    found = [device]
    for upper in found:
        found += [by_name[x] for x in sorted(_below(upper, by_name)) if x in by_name and by_name[x] not in found]
    return found


def _foreign(device: BlockDevice) -> bool:
    """An array of firmware RAID, which is not reported as an array."""
    version = _SYS / "class/block" / device.name / "md/metadata_version"
    return version.exists() and version.read_text().startswith("external")


def _below(device: BlockDevice, by_name: Mapping[str, BlockDevice]) -> set[str]:
    """The kernel names of the devices that a device is directly stacked on.

    A partition of an array is stacked on the array; one of a disk, or of a map of multipath, is reported by itself.
    So is a loop device, unless what it makes a disk of is itself a device: of that the kernel tells nowhere else, and
    does not keep others off.
    """
    if device.type == "part":
        parent = by_name.get(device.parent or "")
        alone = (
            not parent or parent.type in ("disk", "mpath") or (parent.type == "loop" and not _behind(parent, by_name))
        )
        return {parent.name} if parent and not alone else set()
    slaves = _SYS / "class/block" / device.name.replace("/", "!") / "slaves"
    found = {slave.name for slave in slaves.iterdir()} if slaves.is_dir() else set()
    return found or _behind(device, by_name)


def _behind(device: BlockDevice, by_name: Mapping[str, BlockDevice]) -> set[str]:
    """The kernel name of the device that a loop device is of; nothing where it is of a file."""
    try:
        source = (_SYS / "class/block" / device.name / "loop/backing_file").read_text().removesuffix("\n")
    except OSError:
        return set()
    number = _number(source)
    return {x.name for x in by_name.values() if x.path == source or x.number == number}


def _mounted_together(by_name: Mapping[str, BlockDevice]) -> list[list[BlockDevice]]:
    """The devices of each btrfs that is mounted anywhere, of which a mount shows no more than one.

    Documentation/ABI/testing/sysfs-fs-btrfs of Linux has no word on ``devices``; fs/btrfs/sysfs.c makes it.
    """
    folders = sorted((_SYS / "fs/btrfs").glob("*/devices"))
    return [[by_name[x.name] for x in sorted(folder.iterdir()) if x.name in by_name] for folder in folders]


def _number(path: str) -> str | None:
    """The numbers of a block device (major:minor) by any of its names."""
    place = Path(path)
    if not place.is_absolute() or not place.is_block_device():
        return None
    status = place.stat()
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def mounts() -> list[tuple[str, str, str, str]]:
    """(major:minor, source, mount point, process) of every mount of every mount namespace, each once.

    The process is empty for mounts that this process sees too.
    """
    seen: set[str] = set()
    found: dict[tuple[str, str], tuple[str, str, str, str]] = {}
    others = sorted((p for p in Path("/proc").iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    for process in [Path("/proc/self"), *others]:
        try:
            namespace = str((process / "ns/mnt").readlink())
            if namespace in seen:
                continue
            lines = (process / "mountinfo").read_text(errors="surrogateescape").splitlines()
        except OSError:
            continue  # it ended meanwhile, or is a kernel thread
        seen.add(namespace)
        name = "" if process.name == "self" else process.name
        for line in lines:
            left, _, right = line.partition(" - ")
            _, _, number, _, point, *_ = left.split(" ")
            source = unescaped(right.split(" ")[1])
            found.setdefault((number, source), (number, source, unescaped(point), name))
    return list(found.values())
