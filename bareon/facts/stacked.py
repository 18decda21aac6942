# SPDX-License-Identifier: Apache-2.0
"""What is stacked on the disks: md arrays and LVM, running or not."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bareon.errors import CommandError, UnsuitableNode
from bareon.facts.node import ArrayFacts, Content, DiskFacts, LogicalVolumeFacts, VolumeGroupFacts
from bareon.run import missing
from bareon.tools import blkid, lvm, mdadm

LOG = logging.getLogger(__name__)

_RAID = "linux_raid_member"
_LVM = "LVM2_member"


def read(disks: Sequence[DiskFacts]) -> tuple[tuple[ArrayFacts, ...], tuple[VolumeGroupFacts, ...]]:
    """The arrays and volume groups on ``disks``. What is not running is started read-only while it is looked at.

    :raises UnsuitableNode: when there are some, but not the programs to read them.
    """
    with contextlib.ExitStack() as stack:
        started = [_start(array, stack) for array in _arrays(disks)]
        arrays = tuple(array for array, _ in started)
        aliases = {device: array.alias for array, device in started if device}
        found = [x.content.type for x in arrays if x.content] + [type for _, type in _signatures(disks)]
        # What is in partitions of an array is not known, so LVM is asked wherever there is an array.
        ask = _LVM in found or (started and not missing(lvm.PROGRAMS))
        groups = _groups(stack, aliases) if ask else ()
    return arrays, groups


def _signatures(disks: Sequence[DiskFacts]) -> Iterator[tuple[str, str]]:
    """(device, type of its content) of all disks and partitions."""
    for disk in disks:
        whole = [(disk.device, disk.content)]
        for device, content in whole + [(part.device, part.content) for part in disk.partitions]:
            if content:
                yield device, content.type


def _need(programs: Sequence[str], what: str) -> None:
    if absent := missing(programs):
        raise UnsuitableNode(f"there is {what} on the disks, and {', '.join(absent)} is not installed to read it")


def _arrays(disks: Sequence[DiskFacts]) -> list[ArrayFacts]:
    """Arrays by the superblocks of their members; several members tell of one array."""
    devices = [device for device, type_ in _signatures(disks) if type_ == _RAID]
    if not devices:
        return []
    _need(mdadm.PROGRAMS, "md RAID")
    members: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, mdadm.Array] = {}
    for device in devices:
        array = mdadm.examine(device)
        if array is None:
            LOG.warning("%s: its md superblock cannot be read", device)
        elif array.level != "container":
            members[array.uuid].append(device)
            seen.setdefault(array.uuid, array)
    running = _running()
    names = Counter(array.name for array in seen.values())
    return [
        ArrayFacts(
            name=array.name,
            uuid=uuid,
            level=array.level,
            count=array.count,
            members=tuple(sorted(members[uuid])),
            alias=f"/dev/md/{array.name if names[array.name] == 1 else uuid}",
            device=running.get(uuid),
        )
        for uuid, array in seen.items()
    ]


def _running() -> dict[str, str]:
    """Devices of the running arrays by the arrays' UUIDs."""
    found = {}
    for entry in sorted(Path("/sys/class/block").glob("md*")):
        if (entry / "md").is_dir() and (array := mdadm.detail(f"/dev/{entry.name}")):
            found[array.uuid] = f"/dev/{entry.name}"
    return found


def _start(array: ArrayFacts, stack: contextlib.ExitStack) -> tuple[ArrayFacts, str | None]:
    """The array with what can be seen in it, and its device, started for as long as ``stack`` lasts."""
    device = array.device
    if device is None:
        name = f"/dev/md/{array.uuid.replace(':', '')}"
        try:
            mdadm.assemble(name, array.uuid, array.members, read_only=True)
        except CommandError as error:
            LOG.warning("array %s cannot be started: %s", array.name, error)
            if Path(name).exists():  # assembled in part, and holding its members
                mdadm.stop(name)
            return array, None
        stack.callback(mdadm.stop, name)
        device = mdadm.kernel_name(name)
    size = int(Path(f"/sys/class/block/{Path(device).name}/size").read_text()) * 512
    return replace(array, size=size, content=_content(device)), device


def _content(device: str) -> Content | None:
    return blkid.content(blkid.probe([device]).get(device, {}))


def _groups(stack: contextlib.ExitStack, names: dict[str, str]) -> tuple[VolumeGroupFacts, ...]:
    _need(lvm.PROGRAMS, "LVM")
    report = lvm.report()
    return tuple(_group(group, report, stack, names) for group in report.groups)


def _group(
    group: lvm.Group, report: lvm.Report, stack: contextlib.ExitStack, names: dict[str, str]
) -> VolumeGroupFacts:
    members = [volume.device for volume in report.physical if volume.group_uuid == group.uuid]
    # An array goes by its name: the kernel's number for it is another one at the next start.
    present = sorted(_alias(x, names) for x in members if x.startswith("/"))
    volumes = [volume for volume in report.volumes if volume.group_uuid == group.uuid]
    unique = sum(other.name == group.name for other in report.groups) == 1
    looked_at = any(volume.active for volume in volumes)
    if volumes and not looked_at and unique and len(present) == len(members):
        try:
            lvm.activate(group.name, read_only=True)
            stack.callback(lvm.deactivate, group.uuid)
            looked_at = True
        except CommandError as error:
            LOG.warning("volume group %s cannot be activated: %s", group.name, error)
    return VolumeGroupFacts(
        name=group.name,
        uuid=group.uuid,
        size=group.size,
        extent=group.extent,
        members=tuple(present),
        missing=len(members) - len(present),
        volumes=tuple(_volume(group.name, volume, looked_at) for volume in volumes),
    )


def _alias(device: str, names: dict[str, str]) -> str:
    """The alias of the array that ``device`` is, or is a partition of; else the device itself."""
    kernel = mdadm.kernel_name(device)
    parent = Path("/sys/class/block", Path(kernel).name).resolve().parent.name
    return names.get(kernel) or names.get(f"/dev/{parent}") or device


def _volume(group: str, volume: lvm.Volume, looked_at: bool) -> LogicalVolumeFacts:
    device = f"/dev/{group}/{volume.name}"
    seen = looked_at and Path(device).exists()
    return LogicalVolumeFacts(volume.name, device, volume.size, volume.active, _content(device) if seen else None)
