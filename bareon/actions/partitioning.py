# SPDX-License-Identifier: Apache-2.0
"""do_partitioning: from whatever is on the disks to the tables and file systems of the layout."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bareon.actions.base import Action, Job
from bareon.actions.stack import DeactivateGroup, MakeArray, MakeGroup, StopArray
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.facts.node import Content, DiskFacts, NodeFacts
from bareon.layout.configdrive import reserved
from bareon.layout.sets import torn
from bareon.layout.teardown import stands_on, teardown
from bareon.model.deployment import Deployment
from bareon.model.layout import DiskLayout, FilesystemLayout
from bareon.plan.step import Outcome, Progress, Step
from bareon.sizes import human
from bareon.tools import blkid, device, lsblk, lvm, mdadm, mkfs, parted, sfdisk, udev, wipefs


class Partitioning(Action):
    """Makes the disks what the layout says; makes only file systems where the policy keeps the rest."""

    name = "do_partitioning"

    def requires(self, job: Job) -> set[str]:
        made = (fs for fs in job.layout.filesystems() if _is_made(fs))
        return {
            *(mkfs.program(fs.wanted.type) for fs in made),
            *(program for tool in (blkid, parted, sfdisk, udev, wipefs) for program in tool.PROGRAMS),
            *(mdadm.PROGRAMS if job.layout.arrays else ()),
            *(lvm.PROGRAMS if job.layout.volume_groups else ()),
        }

    def reserve(self, deployment: Deployment) -> Deployment:
        # Also when do_configdrive is to run later, in a process of its own.
        return reserved(deployment)

    def validate(self, job: Job) -> None:
        if job.deployment.policy != "clean":
            return
        disks = {disk.device for disk in job.layout.disks}
        teardown(job.node, disks)
        reasons = [*torn(job.node, disks), *_name_clashes(job, disks)]
        if reasons:
            raise UnsuitableNode(*reasons)

    def plan(self, job: Job) -> Sequence[Step]:
        return [*self._clear(job), *self._tables(job), *self._stack(job), *self._filesystems(job)]

    def _clear(self, job: Job) -> Iterator[Step]:
        if job.deployment.policy != "clean":
            return
        going = teardown(job.node, {disk.device for disk in job.layout.disks})
        for group in going.volume_groups:
            yield DeactivateGroup(self.name, group.name, group.uuid)
        for array in going.arrays:
            yield StopArray(self.name, array.name, str(array.device))
        members = [member for array in going.arrays for member in array.members]
        members += [member for group in going.volume_groups for member in group.members]
        for disk in _found(job):
            partitions = tuple(part.device for part in disk.partitions)
            stacked = stands_on(members, {disk.device}, job.node)
            yield ClearDisk(
                self.name, disk.device, partitions, _contents(disk, job.node), stacked, disk.size, disk.sequence
            )

    def _tables(self, job: Job) -> Iterator[Step]:
        for disk in job.layout.disks:
            if any(part.decision == "create" for part in disk.partitions):
                yield WriteTable(self.name, disk)

    def _stack(self, job: Job) -> Iterator[Step]:
        for array in job.layout.arrays:
            if array.decision == "create":
                yield MakeArray(self.name, array)
        for group in job.layout.volume_groups:
            if group.decision == "create":
                yield MakeGroup(self.name, group)

    def _filesystems(self, job: Job) -> Iterator[Step]:
        for filesystem in job.layout.filesystems():
            if _is_made(filesystem):
                yield MakeFilesystem(self.name, filesystem)


def _is_made(filesystem: FilesystemLayout) -> bool:
    return filesystem.decision != "keep" and not filesystem.wanted.from_image


def _name_clashes(job: Job, disks: Collection[str]) -> Iterator[str]:
    """Arrays and groups on disks that stay, with names that are to be given to new ones."""
    for group in job.layout.volume_groups:
        for other in job.node.volume_groups:
            if other.name == group.name and not stands_on(other.members, disks, job.node):
                yield f"a volume group {group.name} is already on {', '.join(other.members)}"
    for array in job.layout.arrays:
        for old in job.node.arrays:
            if old.name == array.name and not stands_on(old.members, disks, job.node):
                yield f"an array {array.name} is already on {', '.join(old.members)}"


def _found(job: Job) -> Iterator[DiskFacts]:
    """What was found of each disk of the layout."""
    facts = {disk.device: disk for disk in job.node.disks}
    return (facts[disk.device] for disk in job.layout.disks)


def _contents(disk: DiskFacts, node: NodeFacts) -> tuple[str, ...]:
    """What would be lost with the disk, in words."""
    found = [f"{_named(disk.content)} on the whole disk"] if disk.content else []
    if disk.table and not disk.partitions:
        found.append(f"an empty {disk.table} table")
    for part in disk.partitions:
        found.append(f"{_named(part.content)} of {human(part.size)} on {part.device}")
    for array in node.arrays:
        if stands_on(array.members, {disk.device}, node):
            found.append(f"array {array.name} ({_named(array.content)})")
    for group in node.volume_groups:
        if stands_on(group.members, {disk.device}, node):
            volumes = ", ".join(f"{x.name}: {_named(x.content)} of {human(x.size)}" for x in group.volumes)
            found.append(f"volume group {group.name} ({volumes or 'empty'})")
    return tuple(found)


def _named(content: Content | None) -> str:
    if content is None:
        return "no file system"
    return f"{content.type} {content.label!r}" if content.label else content.type


@dataclass(frozen=True)
class ClearDisk(Step):
    """Remove every signature of the partitions and of the disk itself, the table and its backup included.

    ``stacked`` says that arrays or volume groups run on it now; ``size`` (bytes) and ``sequence`` tell whether the
    device is still the disk that was decided about.
    """

    device: str
    partitions: tuple[str, ...]
    contents: tuple[str, ...]
    stacked: bool = False
    size: int = 0
    sequence: int | None = None

    @property
    def description(self) -> str:
        what = "; ".join(self.contents)
        return f"Clear {self.device}" + (f": {what}" if what else ", on which nothing is recognised")

    @property
    def destroys(self) -> tuple[str, ...]:
        return (self.device,)  # what is not recognised may be data all the same

    def preflight(self) -> None:
        if not self.stacked:  # else it is free only once the steps before this one have run
            device.refuse_if_busy(self.device)

    def run(self, progress: Progress) -> Outcome:
        device.refuse_if_busy(self.device)
        if (lsblk.size(self.device), lsblk.sequence(self.device)) != (self.size, self.sequence):
            raise ActionFailed(f"{self.device} is another disk than when the plan was made")
        # A table may have entries that the kernel made no device for.
        devices = [*(part for part in self.partitions if Path(part).is_block_device()), self.device]
        wipefs.wipe(devices)
        if left := blkid.probe(devices):
            raise ActionFailed(f"signatures came back: {left}")
        return {}


@dataclass(frozen=True)
class WriteTable(Step):
    """Write the partition table in one go, and have another program read it back."""

    disk: DiskLayout

    @property
    def description(self) -> str:
        return f"Write a {self.disk.table} table with {len(self.disk.partitions)} partitions to {self.disk.device}"

    @property
    def destroys(self) -> tuple[str, ...]:
        return ()  # what was there is named by the step that clears the disk

    def run(self, progress: Progress) -> Outcome:
        disk = self.disk
        sfdisk.write(disk.device, sfdisk.script(disk.guid, disk.sector, entries(disk)))
        label, seen = parted.read(disk.device)
        wanted = [(part.number, part.start, part.size) for part in disk.partitions]
        found = [(part.number, part.start, part.size) for part in seen]
        if label != disk.table or found != wanted:
            raise ActionFailed(f"{disk.device}: parted reads back {label} {found}, not {disk.table} {wanted}")
        udev.wait_for([part.device for part in disk.partitions], {p.device: p.size for p in disk.partitions})
        return {"partitions": len(wanted)}


def entries(disk: DiskLayout) -> list[sfdisk.Entry]:
    """The partitions of a disk as sfdisk takes them."""
    return [
        sfdisk.Entry(
            part.number,
            part.device,
            part.start,
            part.size,
            part.type_guid,
            part.guid,
            part.name,
            part.boot,
        )
        for part in disk.partitions
    ]


@dataclass(frozen=True)
class MakeFilesystem(Step):
    """Make a file system with the UUID that was decided for it."""

    filesystem: FilesystemLayout

    @property
    def description(self) -> str:
        fs = self.filesystem
        mount = f" for {fs.mount}" if fs.mount and fs.mount != "swap" else ""
        return f"Make {fs.wanted.type} on {fs.device} ({human(fs.size)}){mount}"

    @property
    def destroys(self) -> tuple[str, ...]:
        return (self.filesystem.device,) if self.filesystem.decision == "format" else ()

    def preflight(self) -> None:
        # An array or logical volume that does not run yet has no device, and nobody who could use it.
        if self.filesystem.decision == "format" and Path(self.filesystem.device).exists():
            device.refuse_if_busy(self.filesystem.device)

    def run(self, progress: Progress) -> Outcome:
        fs = self.filesystem
        if fs.decision == "format":
            wipefs.wipe([fs.device])
        mkfs.make(fs.wanted.type, fs.device, fs.uuid, fs.wanted.label, fat32=fs.wanted.fat32)
        udev.look_again(fs.device)
        return {"bytes": fs.size}
