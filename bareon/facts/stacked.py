# SPDX-License-Identifier: Apache-2.0
"""What is stacked on the disks: md arrays and LVM, running or not."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bareon.errors import CommandError, UnsuitableNode
from bareon.facts.looking import Looking, running_arrays
from bareon.facts.node import ArrayFacts, Content, DiskFacts, LogicalVolumeFacts, VolumeGroupFacts
from bareon.run import missing
from bareon.tools import blkid, lvm, mdadm

LOG = logging.getLogger(__name__)

_RAID = "linux_raid_member"
_LVM = "LVM2_member"


def read(disks: Sequence[DiskFacts]) -> tuple[tuple[ArrayFacts, ...], tuple[VolumeGroupFacts, ...]]:
    """The arrays and volume groups on ``disks`` and on each other.

    What is not running is started read-only while it is looked at; what does not let itself be stopped afterwards is
    told of as running.

    :raises UnsuitableNode: when there are some, but not the programs to read them; or when one cannot be read.
    """
    with Looking() as looking:
        search = _Search(dict(_signatures(disks)), looking)
        while (
            search.examine() | search.start(complete=True)
            or search.activate(seen=True)
            or search.start(complete=False)
            or search.activate(seen=False)
        ):
            pass
    arrays, groups = search.found()
    return _as_left(arrays, groups) if looking.began else (arrays, groups)


def _as_left(
    arrays: tuple[ArrayFacts, ...], groups: tuple[VolumeGroupFacts, ...]
) -> tuple[tuple[ArrayFacts, ...], tuple[VolumeGroupFacts, ...]]:
    """The same with what runs now, after all that was started has been stopped."""
    running = running_arrays() if arrays else {}
    active = {(x.group_uuid, x.name) for x in lvm.report().volumes if x.active} if groups else set()
    return tuple(replace(x, device=running.get(x.uuid)) for x in arrays), tuple(
        replace(x, volumes=tuple(replace(v, active=(x.uuid, v.name) in active) for v in x.volumes)) for x in groups
    )


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


@dataclass
class _Search:
    """What is found from the disks upwards. Each method says whether it has found anything to go on from.

    :param signatures: type of the content by device; grows with each array and logical volume.
    """

    signatures: dict[str, str]
    looking: Looking
    arrays: dict[str, mdadm.Array] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    devices: dict[str, str] = field(default_factory=dict)  # UUIDs of the arrays that run now, by their kernel names
    looked: dict[str, ArrayFacts] = field(default_factory=dict)
    groups: dict[str, VolumeGroupFacts] = field(default_factory=dict)
    _examined: set[str] = field(default_factory=set)
    _tried: set[str] = field(default_factory=set)
    _asked: int | None = None

    def examine(self) -> bool:
        """Read the superblocks of members; several tell of one array."""
        new = [x for x, kind in self.signatures.items() if kind == _RAID and x not in self._examined]
        if new:
            _need(mdadm.PROGRAMS, "md RAID")
        for device in new:
            self._examined.add(device)
            array = mdadm.examine(device)
            if array is None:
                LOG.warning("%s: its md superblock cannot be read", device)
            elif array.level != "container":
                self.members[array.uuid].append(device)
                self.arrays.setdefault(array.uuid, array)
        return bool(new)

    def start(self, *, complete: bool) -> bool:
        """Start arrays and look inside. Those with members missing wait: a member may be on what is to be started."""
        new = [
            x
            for x in self.arrays.values()
            if x.uuid not in self.looked and (len(self.members[x.uuid]) >= x.count or not complete)
        ]
        running = running_arrays() if new else {}
        for array in new:
            members = tuple(sorted(self.members[array.uuid]))
            device = running.get(array.uuid) or self.looking.start(array.name, array.uuid, members)
            facts = ArrayFacts(array.name, array.uuid, array.level, array.count, members, "", running.get(array.uuid))
            if device:
                facts = replace(facts, size=_size(device), content=_content(device))
                self.devices[device] = array.uuid
                if facts.content:
                    self.signatures[device] = facts.content.type
            self.looked[array.uuid] = facts
        return bool(new)

    def activate(self, *, seen: bool) -> bool:
        """Ask LVM, when there is something that it was not asked about yet, and look into the logical volumes.

        :param seen: only if a physical volume was seen; else also because there is an array, since what is in
            partitions of it is not known.
        """
        ask = _LVM in self.signatures.values() or (not seen and self.arrays and not missing(lvm.PROGRAMS))
        if not ask or self._asked == len(self.devices):
            return False
        _need(lvm.PROGRAMS, "LVM")
        self._asked = len(self.devices)
        report = lvm.report()
        for group in report.groups:
            self._group(group, report)
        return True

    def _group(self, group: lvm.Group, report: lvm.Report) -> None:
        members = [volume.device for volume in report.physical if volume.group_uuid == group.uuid]
        # An array goes by its name: the kernel's number for it is another one at the next start.
        present = [self._array_below(x) or x for x in members if x.startswith("/")]
        volumes = [volume for volume in report.volumes if volume.group_uuid == group.uuid]
        paths = {volume.name: f"/dev/{group.name}/{volume.name}" for volume in volumes}
        unique = sum(other.name == group.name for other in report.groups) == 1
        looked_at = any(volume.active for volume in volumes)
        if volumes and not looked_at and unique and len(present) == len(members) and group.uuid not in self._tried:
            self._tried.add(group.uuid)
            looked_at = self.looking.activate(group.name, group.uuid, list(paths.values()))
        found = []
        # At a second look it may be active because of the first.
        before = {x.name: x.active for x in self.groups[group.uuid].volumes} if group.uuid in self.groups else {}
        for volume in volumes:
            path = paths[volume.name]
            content = _content(path) if looked_at and _is_there(path) else None
            if content:
                self.signatures[path] = content.type
            active = before.get(volume.name, volume.active)
            found.append(LogicalVolumeFacts(volume.name, path, volume.size, active, content))
        self.groups[group.uuid] = VolumeGroupFacts(
            name=group.name,
            uuid=group.uuid,
            size=group.size,
            extent=group.extent,
            members=tuple(present),
            missing=len(members) - len(present),
            volumes=tuple(found),
        )

    def _array_below(self, device: str) -> str | None:
        """The kernel name of the array that ``device`` is, or is a partition of."""
        kernel = mdadm.kernel_name(device)
        parent = "/dev/" + Path("/sys/class/block", Path(kernel).name).resolve().parent.name
        return next((x for x in (kernel, parent) if x in self.devices), None)

    def found(self) -> tuple[tuple[ArrayFacts, ...], tuple[VolumeGroupFacts, ...]]:
        """All, with aliases for the arrays that members are."""
        names = Counter(array.name for array in self.arrays.values())
        alias = {x.uuid: f"/dev/md/{x.name if names[x.name] == 1 else x.uuid}" for x in self.arrays.values()}
        known = {device: alias[uuid] for device, uuid in self.devices.items()}

        def named(members: Sequence[str]) -> tuple[str, ...]:
            return tuple(sorted(known.get(member, member) for member in members))

        return (
            tuple(
                replace(self.looked[uuid], alias=alias[uuid], members=named(self.members[uuid]))
                for uuid in self.arrays
            ),
            tuple(replace(group, members=named(group.members)) for group in self.groups.values()),
        )


def _size(device: str) -> int:
    try:
        return int(Path(f"/sys/class/block/{Path(device).name}/size").read_text()) * 512
    except OSError as error:
        raise UnsuitableNode(f"{device} cannot be read: {error.strerror}") from None


def _is_there(device: str) -> bool:
    return Path(device).exists()


def _content(device: str) -> Content | None:
    return blkid.content(tags(device))


def tags(device: str) -> dict[str, str]:
    """What :func:`bareon.tools.blkid.probe` finds on one device.

    :raises UnsuitableNode: naming the device, when it cannot be read.
    """
    try:
        return blkid.probe([device]).get(device, {})
    except CommandError as error:
        if error.code is None:  # the program is missing
            raise
        raise UnsuitableNode(f"{device} cannot be read: {error}") from None
