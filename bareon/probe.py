# SPDX-License-Identifier: Apache-2.0
"""Facts of the machine, read from it; this changes nothing on any disk.

Arrays and volume groups that do not run are started read-only meanwhile, to see their content.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bareon import usage
from bareon.errors import CommandError
from bareon.hardware import read as read_hardware
from bareon.look import signature, structures, tags
from bareon.model.node import CertificateFacts, NodeFacts, SecureBootFacts, Use
from bareon.run import missing
from bareon.sizes import human
from bareon.storage.disk import DiskFacts, Driver, PartitionFacts
from bareon.storage.kind import Firmware, Found
from bareon.storage.multipath import MapFacts, PathFacts, partition_device
from bareon.system import module
from bareon.text import redacted
from bareon.tools import driver, efi, lsblk, multipath, sfdisk, smartctl

LOG = logging.getLogger(__name__)

_NO_DISKS = ("ram", "zram", "fd")
_LIVE = ("/", "/run/initramfs/live", "/run/live/medium", "/lib/live/mount/medium", "/cdrom", "/run/archiso/bootmnt")
"""Where systems mount what they run from: their root, or the media of dracut, live-boot, casper and archiso."""
_MEDIUM = "bareon.medium="
"""What the ramdisk's own media put on the kernel's command line; ``ramdisk/iso.py``."""


def probe() -> NodeFacts:
    """Everything bareon's decisions need to know of this machine.

    :raises CommandError: when a program that reads it is missing or fails.
    :raises UnsuitableNode: when there are arrays or volume groups, but not the programs to read them; or naming a
        device that cannot be read.
    """
    devices = [device for device in lsblk.devices() if not is_passed_over(device)]
    uses = usage.uses(devices)
    users = usage.users(devices, uses)
    links = _links()
    modular = module.named(driver.index(module.NAMES))
    asked = health([device.path for device in devices if device.type == "disk"])
    paths = _paths(devices)
    alone = {device.path: [device] for device in devices if device.type in ("disk", "loop", "rom")}
    for path in (path for found in paths.values() for path in found):
        alone.pop(path.path, None)  # the map is the disk
    disks = tuple(
        _disk(
            device,
            hardware,
            _kernel_partitions(device, devices),
            links,
            users,
            asked.get(hardware[0].path, smartctl.UNKNOWN),
            _drivers([path.path for path in hardware], modular),
        )
        for device in devices
        if (hardware := {**alone, **paths}.get(device.path))
    )
    firmware: Firmware = "uefi" if Path("/sys/firmware/efi").is_dir() else "bios"
    cmdline = Path("/proc/cmdline").read_text().strip()
    booted = {efi.booted_partition() if firmware == "uefi" else None, named_medium(cmdline)} - {None}
    disks = tuple(replace(disk, boot_medium=is_boot_medium(disk, uses, booted)) for disk in disks)
    found = structures(disks)
    return NodeFacts(
        firmware=firmware,
        disks=disks,
        structures=found,
        cmdline=redacted(cmdline),
        secure_boot=_secure_boot() if firmware == "uefi" else None,
        firmware_bits=efi.bits() if firmware == "uefi" else None,
        uses=_renamed(uses, devices, found),
        hardware=read_hardware(Path("/")),
    )


def _renamed(uses: Sequence[Use], devices: Sequence[lsblk.BlockDevice], found: Sequence[Found]) -> tuple[Use, ...]:
    """The uses with the facts' names of devices: that of a logical volume, for one, is another than the kernel's."""
    numbers = {x.path: x.number for x in devices}
    names: dict[str, str] = {}
    for device in (device for structure in found for device in structure.present):
        if (place := Path(device)).is_block_device():
            status = place.stat()
            names[f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"] = device
    return tuple(replace(use, device=names.get(numbers[use.device], use.device)) for use in uses)


def is_passed_over(device: lsblk.BlockDevice) -> bool:
    """True for memory, such as the ramdisk's own, and for floppies: nothing is ever deployed to them."""
    return device.name.startswith(_NO_DISKS)


def _paths(devices: Sequence[lsblk.BlockDevice]) -> dict[str, list[lsblk.BlockDevice]]:
    """The paths of each map of multipath, by the path of the map; of a map without any nothing is known."""
    by_name = {device.name: device for device in devices}
    maps = (device for device in devices if device.type == "mpath")
    found = {x.path: [by_name[name] for name in multipath.paths(x.name) if name in by_name] for x in maps}
    return {path: below for path, below in found.items() if below}


def _drivers(paths: Sequence[str], modular: frozenset[str]) -> tuple[Driver, ...] | None:
    """The drivers that a disk is reached by; ``None`` where the running kernel does not tell.

    :param paths: the disk, or all paths of it.
    :param modular: the names of all that is a module to it, or could be. Of others no index of a kernel tells.
    """
    bound = list(dict.fromkeys(x for path in paths for x in driver.bound(path)))
    return tuple(Driver(*x) for x in bound if x[0] in modular) if bound and modular else None


def named_medium(cmdline: str) -> str | None:
    """The GUID, in lower case, of a partition of the medium that this system came from, as its boot loader says it.

    Nothing is mounted from there once kernel and initramfs are read, and a BIOS does not say what it has started.
    """
    found = [word.removeprefix(_MEDIUM).lower() for word in cmdline.split() if word.startswith(_MEDIUM)]
    return found[-1] if found else None


def is_boot_medium(disk: DiskFacts, uses: Sequence[Use], booted: Collection[str | None]) -> bool:
    """True where it can be told that this system came from a disk: its root or its live medium is mounted from there.

    :param booted: the GUIDs of partitions that it was started from, in lower case.
    """
    mounted = any(disk.device in x.disks and x.way == "mounted" and x.at in _LIVE for x in uses)
    return mounted or any(part.guid and part.guid.lower() in booted for part in disk.partitions)


def _secure_boot() -> SecureBootFacts:
    from bareon.tools import secure_boot  # which a BIOS has no use for

    keys = secure_boot.read()
    if keys.state == "unknown":
        LOG.warning("Secure Boot: %s", keys.reason)
    return SecureBootFacts(
        keys.state,
        tuple(CertificateFacts(x.subject, x.fingerprint) for x in keys.db.certificates),
        len(keys.db.hashes),
        len(keys.dbx.hashes),
        keys.sbat,
        keys.reason,
    )


def _kernel_partitions(disk: lsblk.BlockDevice, devices: list[lsblk.BlockDevice]) -> list[lsblk.BlockDevice]:
    return [device for device in devices if device.type == "part" and device.parent == disk.name]


def _disk(
    device: lsblk.BlockDevice,
    hardware: Sequence[lsblk.BlockDevice],
    kernel: list[lsblk.BlockDevice],
    links: Mapping[str, tuple[str, ...]],
    users: dict[str, list[str]],
    health: smartctl.Health,
    drivers: tuple[Driver, ...] | None,
) -> DiskFacts:
    first, is_map = hardware[0], device.type == "mpath"
    found = tags(device.path) if device.type != "rom" and device.size else {}
    table = found.get("PTTYPE")
    mapped = multipath.partitions(device.path) if is_map else None
    partitions = _partitions(device.path, table, kernel, users, mapped)
    known = {part.device for part in partitions}
    # The kernel may still use partitions that the table on the disk has no longer.
    forgotten = [f"{words} as {x.path}" for x in kernel if x.path not in known for words in users.get(x.path, ())]
    return DiskFacts(
        device=device.path,
        size=device.size,
        kind="disk" if is_map else device.type,
        logical_sector=device.logical_sector,
        physical_sector=device.physical_sector,
        vendor=lsblk.vendor(first.path),
        model=first.model,
        serial=first.serial,
        wwn=first.wwn,
        scsi=first.scsi,
        transport=lsblk.transport(first),
        rotational=lsblk.rotational(first.path),
        read_only=device.read_only or health.read_only,
        removable=first.removable,
        links=links.get(str(Path(device.path).resolve()), ()) if is_map else links.get(device.path, ()),
        table=table,
        content=signature(device.path, found),
        partitions=partitions,
        users=(*users.get(device.path, ()), *forgotten, *(_mixed(hardware) if is_map else ())),
        sequence=lsblk.sequence(device.path),
        zoned=lsblk.zoned(device.path),
        health=health.state,
        health_words=health.words,
        drivers=drivers,
        multipath=_map(device, hardware, links) if is_map else None,
    )


def _map(
    device: lsblk.BlockDevice, paths: Sequence[lsblk.BlockDevice], links: Mapping[str, tuple[str, ...]]
) -> MapFacts:
    name, wwid = device.path.removeprefix("/dev/mapper/"), multipath.wwid(device.name)
    return MapFacts(name, wwid, tuple(PathFacts(x.path, x.scsi, links.get(x.path, ())) for x in paths))


def _mixed(paths: Sequence[lsblk.BlockDevice]) -> Iterator[str]:
    """Why a map cannot be taken for one disk: an array that gives a path to another LUN leaves the map as it was."""
    wwns = {x.wwn for x in paths} - {None}
    if len(wwns) > 1 or len({x.size for x in paths}) > 1:
        told = ", ".join(f"{x.path} (wwn {x.wwn or 'not known'}, {human(x.size)})" for x in paths)
        yield f"a map of paths to different LUNs: {told}"


def health(disks: Sequence[str]) -> dict[str, smartctl.Health]:
    """What disks say of their health; nothing where nobody can ask them."""
    if missing(smartctl.PROGRAMS):
        LOG.info("smartctl is not installed: disks are not asked for their health")
        return {}
    return {disk: smartctl.ask(disk) for disk in disks}


def _partitions(
    device: str,
    table: str | None,
    kernel: list[lsblk.BlockDevice],
    users: dict[str, list[str]],
    mapped: Mapping[int, str] | None,
) -> tuple[PartitionFacts, ...]:
    """The partitions of a disk, of which those of a map are ``mapped`` by their numbers."""
    entries = tuple(_as_entry(part) for part in kernel) if mapped is None else ()
    if table:
        try:
            entries = sfdisk.read(device).entries
        except CommandError as error:
            LOG.warning("%s: its %s table cannot be read, taking the kernel's view: %s", device, table, error)
    if mapped is not None:
        names = {x.number: mapped.get(x.number, partition_device(device, x.number)) for x in entries}
        entries = tuple(replace(x, device=names[x.number]) for x in entries)
    there = {x.device for x in entries if Path(x.device).is_block_device()}
    if mapped is not None:
        foreign = there.difference(mapped.values())
        there -= foreign
        users = users | {x: ["the name of another device, while the partition has none"] for x in foreign}
    found = {device: tags(device) for device in sorted(there)}
    return tuple(
        PartitionFacts(
            number=entry.number,
            device=entry.device,
            start=entry.start,
            size=entry.size,
            type=entry.type,
            guid=entry.guid,
            name=entry.name,
            content=signature(entry.device, found.get(entry.device, {})),
            users=tuple(users.get(entry.device, ())),
        )
        for entry in entries
    )


def _as_entry(part: lsblk.BlockDevice) -> sfdisk.Entry:
    """A partition as the kernel sees it; of its type nothing is known."""
    sysfs = Path("/sys/class/block") / part.name
    number, start = (int((sysfs / name).read_text()) for name in ("partition", "start"))
    return sfdisk.Entry(number, part.path, start * 512, part.size, "", None, None)


def _links() -> dict[str, tuple[str, ...]]:
    import pyudev  # a quarter of the start-up time, and not needed with saved facts

    return {
        device.device_node: tuple(sorted(device.device_links))
        for device in pyudev.Context().list_devices(subsystem="block")
        if device.device_node
    }
