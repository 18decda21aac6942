# SPDX-License-Identifier: Apache-2.0
"""Reads the machine; nothing else does, and this changes nothing on any disk.

To see what is in arrays and logical volumes that are not running, they are started read-only meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from bareon.facts import stacked, usage
from bareon.facts.node import DiskFacts, NodeFacts, PartitionFacts
from bareon.tools import blkid, lsblk, sfdisk

_NO_DISKS = ("ram", "zram", "fd")


def probe() -> NodeFacts:
    """Everything bareon's decisions need to know of this machine.

    :raises CommandError: when a program that reads it is missing or fails.
    :raises UnsuitableNode: when there are arrays or volume groups, but not the programs to read them.
    """
    devices = [device for device in lsblk.devices() if not device.name.startswith(_NO_DISKS)]
    users = usage.users(devices)
    links = _links()
    disks = tuple(
        _disk(device, links.get(device.path, ()), users)
        for device in devices
        if device.type in ("disk", "loop", "rom")
    )
    arrays, groups = stacked.read(disks)
    return NodeFacts(
        firmware="uefi" if Path("/sys/firmware/efi").is_dir() else "bios",
        disks=disks,
        arrays=arrays,
        volume_groups=groups,
        cmdline=Path("/proc/cmdline").read_text().strip(),
    )


def _disk(device: lsblk.BlockDevice, links: tuple[str, ...], users: dict[str, list[str]]) -> DiskFacts:
    tags = blkid.probe([device.path]).get(device.path, {}) if device.type != "rom" else {}
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
        content=blkid.content(tags),
        partitions=_partitions(device.path, users) if table else (),
        users=tuple(users.get(device.path, ())),
    )


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
            content=blkid.content(tags.get(entry.device, {})),
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
