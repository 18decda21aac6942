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

_WHOLE = ("disk", "loop", "rom")
# What is stacked on a device and reported by itself, as arrays and volume groups.
_KNOWN = ("part", *(name for kind in KINDS for name in kind.lsblk_types))


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
        device = by_number.get(number) or by_path.get(source) or by_path.get(_resolved(source))
        if device:
            note(device, "mounted", point, process)
    for line in Path("/proc/swaps").read_text().splitlines()[1:]:
        # /proc/swaps says /dev/dm-1 where lsblk says /dev/mapper/...: only the number is the same for both.
        place = Path(unescaped(line.split()[0]))
        if place.is_block_device():
            number = f"{os.major(place.stat().st_rdev)}:{os.minor(place.stat().st_rdev)}"
            if device := by_number.get(number):
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
    version = Path("/sys/class/block", device.name, "md/metadata_version")
    return version.exists() and version.read_text().startswith("external")


def _below(device: BlockDevice, by_name: Mapping[str, BlockDevice]) -> set[str]:
    """The kernel names of the devices that a device is directly stacked on.

    A partition of an array is stacked on the array; one of a disk is reported by itself.
    """
    if device.type == "part":
        parent = by_name.get(device.parent or "")
        return {parent.name} if parent and parent.type not in ("disk", "loop") else set()
    slaves = Path("/sys/class/block") / device.name.replace("/", "!") / "slaves"
    return {slave.name for slave in slaves.iterdir()} if slaves.is_dir() else set()


def _resolved(source: str) -> str:
    return str(Path(source).resolve()) if source.startswith("/dev/") else source


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
