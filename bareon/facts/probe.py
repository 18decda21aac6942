# SPDX-License-Identifier: Apache-2.0
"""Reads the machine; nothing else does, and this changes nothing."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path

from bareon.facts.node import Content, DiskFacts, NodeFacts, PartitionFacts
from bareon.tools import blkid, lsblk, sfdisk

LOG = logging.getLogger(__name__)

PROGRAMS = (*blkid.PROGRAMS, *lsblk.PROGRAMS, *sfdisk.PROGRAMS)


def probe() -> NodeFacts:
    """Everything bareon's decisions need to know of this machine.

    :raises CommandError: when a program that reads it is missing or fails.
    """
    devices = [device for device in lsblk.devices() if not device.name.startswith(("ram", "zram"))]
    users = _users(devices)
    links = _links()
    disks = [device for device in devices if device.type in ("disk", "loop", "rom")]
    tags = blkid.probe([device.path for device in disks if device.type != "rom"])
    return NodeFacts(
        firmware="uefi" if Path("/sys/firmware/efi").is_dir() else "bios",
        disks=tuple(_disk(device, tags.get(device.path, {}), links.get(device.path, ()), users) for device in disks),
        cmdline=Path("/proc/cmdline").read_text().strip(),
    )


def _disk(
    device: lsblk.BlockDevice,
    tags: dict[str, str],
    links: tuple[str, ...],
    users: dict[str, list[str]],
) -> DiskFacts:
    table = tags.get("PTTYPE")
    return DiskFacts(
        device=device.path,
        size=device.size,
        kind=device.type,
        logical_sector=device.logical_sector,
        physical_sector=device.physical_sector,
        model=device.model,
        serial=device.serial,
        wwn=device.wwn,
        scsi=device.scsi,
        transport=device.transport,
        read_only=device.read_only,
        removable=device.removable,
        links=links,
        table=table,
        content=_content(tags),
        partitions=_partitions(device.path, users) if table else (),
        users=tuple(users.get(device.path, ())),
    )


def _content(tags: dict[str, str]) -> Content | None:
    if "AMBIVALENT" in tags:
        return Content("ambivalent")
    if "TYPE" not in tags:
        return None
    return Content(tags["TYPE"], tags.get("UUID"), tags.get("LABEL"))


def _partitions(device: str, users: dict[str, list[str]]) -> tuple[PartitionFacts, ...]:
    entries = sfdisk.read(device).entries
    tags = blkid.probe([entry.device for entry in entries if Path(entry.device).is_block_device()])
    return tuple(
        PartitionFacts(
            number=entry.number,
            device=entry.device,
            start=entry.start,
            size=entry.size,
            type=entry.type,
            guid=entry.guid,
            name=entry.name,
            content=_content(tags.get(entry.device, {})),
            users=tuple(users.get(entry.device, ())),
        )
        for entry in entries
    )


def _links() -> dict[str, tuple[str, ...]]:
    import pyudev  # a quarter of the start-up time, and not needed with saved facts

    return {
        device.device_node: tuple(sorted(device.device_links))
        for device in pyudev.Context().list_devices(subsystem="block")
        if device.device_node
    }


def _users(devices: list[lsblk.BlockDevice]) -> dict[str, list[str]]:
    """Who uses each device, in words: mounts of every process, swap areas, devices stacked on it."""
    by_number = {device.number: device.path for device in devices}
    found: dict[str, list[str]] = defaultdict(list)
    for number, source, point, process in _mounts():
        # btrfs shows a number of its own, so that the source must do.
        path = by_number.get(number) or (source if source in by_number.values() else None)
        if path:
            found[path].append(f"mounted at {point}" + (f" (process {process})" if process else ""))
    for line in Path("/proc/swaps").read_text().splitlines()[1:]:
        found[line.split()[0]].append("used as swap")
    for device in devices:
        holders = Path("/sys/class/block") / device.name / "holders"
        for holder in sorted(holders.iterdir()) if holders.is_dir() else ():
            found[device.path].append(f"held by /dev/{holder.name}")
    return found


def _mounts() -> list[tuple[str, str, str, str]]:
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
            source = right.split(" ")[1]
            found.setdefault((number, source), (number, source, _unescape(point), name))
    return list(found.values())


def _unescape(text: str) -> str:
    """Undo the octal escapes of mountinfo; proc(5)."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
