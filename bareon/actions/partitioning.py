# SPDX-License-Identifier: Apache-2.0
"""do_partitioning: clears the disks and makes the tables, arrays, groups and file systems of the layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bareon import tools
from bareon.actions.base import Action, Job
from bareon.errors import UnsuitableNode
from bareon.layout.claim import configdrive_claim
from bareon.layout.paths import all_paths
from bareon.layout.stack import clashes, disks_below, on_disks, stands_on, teardown
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.sizes import human
from bareon.step import Step
from bareon.storage import erase, gpt
from bareon.storage.disk import DiskFacts, PlannedDisk
from bareon.storage.gpt import AddPartitions, ClearDisk, WriteTable
from bareon.storage.kind import words
from bareon.storage.mkfsoptions import turned_on
from bareon.storage.reader import unread


class Partitioning(Action):
    """Makes everything in the layout; with the policy ``verify`` only the file systems that are not kept."""

    name = "do_partitioning"
    makes = ("layout",)
    mounts = False

    def requires(self, job: Job) -> set[str]:
        return {
            *(program for fs in job.layout.filesystems() for program in fs.programs),
            *gpt.PROGRAMS,
            *(tools.partx.PROGRAMS if any(_added(disk) for disk in job.layout.disks) else ()),
            *(tools.multipath.PROGRAMS if any(disk.multipath for disk in job.layout.disks) else ()),
            *(program for structure in job.layout.structures() for program in structure.programs),
            *(program for disk in job.layout.disks for program in erase.programs(disk)),
        }

    def reserve(self, deployment: Deployment) -> Deployment:
        # Also when do_configdrive is to run later, in a process of its own.
        return configdrive_claim(deployment, written=False)

    def validate(self, job: Job) -> None:
        if job.deployment.policy == "clean":
            teardown(job.node, _disks(job))
        if reasons := [*clashes(job.layout, job.node)]:
            raise UnsuitableNode(*reasons)

    def warnings(self, job: Job) -> Iterator[str]:
        for fs in (x for x in job.layout.filesystems() if x.is_made):
            for reader in (x for x in fs.wanted.readers if x.image):
                for feature in turned_on(unread(fs.type, (reader,)), fs.wanted.mkfs_options):
                    yield f"{fs.wanted.path}.mkfs_options: {reader} does not read {fs.type} with {feature.name}"
        for structure in job.layout.structures():
            if structure.decision == "create":
                yield from structure.cautions

    def plan(self, job: Job) -> Sequence[Step]:
        return [*self._clear(job), *self._tables(job), *self._structures(job), *self._filesystems(job)]

    def _clear(self, job: Job) -> Iterator[Step]:
        if job.deployment.policy != "clean":
            return
        going = teardown(job.node, _disks(job))
        for structure in going:
            yield from structure.stop(self.name)
        below = disks_below(job.node)
        found = {disk.device: disk for disk in job.node.disks}
        for disk in (found[disk.device] for disk in job.layout.disks):
            partitions = tuple(part.device for part in disk.partitions)
            paths = all_paths(job.node, {disk.device}) if going else ()
            stacked = any(stands_on(structure, paths, below) for structure in going)
            contents = _contents(disk, job.node)
            what = (disk.device, partitions, contents, stacked, disk.size, disk.sequence, disk.multipath is not None)
            yield ClearDisk(self.name, *what)
        for planned in job.layout.disks:
            yield from erase.steps(self.name, planned)

    def _tables(self, job: Job) -> Iterator[Step]:
        for disk in job.layout.disks:
            if any(part.decision == "create" for part in disk.partitions):
                yield AddPartitions(self.name, disk) if _added(disk) else WriteTable(self.name, disk)

    def _structures(self, job: Job) -> Iterator[Step]:
        for structure in job.layout.structures():
            yield from structure.make(self.name) if structure.decision == "create" else structure.extend(self.name)

    def _filesystems(self, job: Job) -> Iterator[Step]:
        return (step for fs in job.layout.filesystems() for step in fs.make(self.name))


def _disks(job: Job) -> set[str]:
    """The disks of the layout, by all their paths."""
    return all_paths(job.node, {disk.device for disk in job.layout.disks})


def _added(disk: PlannedDisk) -> bool:
    """True for a disk that gets partitions beside others that stay."""
    return len({part.decision == "create" for part in disk.partitions}) > 1


def _contents(disk: DiskFacts, node: NodeFacts) -> tuple[str, ...]:
    """Descriptions of the content that is lost when the disk is cleared."""
    found = [f"{words(disk.content)} on the whole disk"] if disk.content else []
    if disk.table and not disk.partitions:
        found.append(f"an empty {disk.table} table")
    for part in disk.partitions:
        found.append(f"{words(part.content)} of {human(part.size)} on {part.device}")
    return (*found, *(structure.words for structure in on_disks(node, {disk.device})))
