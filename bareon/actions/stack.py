# SPDX-License-Identifier: Apache-2.0
"""Steps around md arrays and volume groups: stopping, starting, making."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bareon.errors import ActionFailed, UnsuitableNode
from bareon.facts.node import NodeFacts
from bareon.layout.raid import CHUNK, DATA_OFFSET
from bareon.model.layout import ArrayLayout, Layout, VolumeGroupLayout
from bareon.plan.step import Outcome, Progress, Step
from bareon.sizes import human
from bareon.tools import lvm, mdadm, udev, wipefs


def starting(
    layout: Layout, node: NodeFacts, action: str, *, everything: bool
) -> Iterator[StartArray | ActivateGroup]:
    """The steps that start what is kept and does not run yet.

    :param everything: also what only has to be mounted; else only what a file system is to be made on, since an array
        that is started is written to.
    """
    groups = [group for group in layout.volume_groups if group.decision != "create"]
    if not everything:
        groups = [group for group in groups if any(volume.decision == "format" for volume in group.volumes)]
    below = {member.device for group in groups for member in group.members}
    running = {array.name for array in node.arrays if array.device}
    for array in layout.arrays:
        needed = everything or array.decision == "format" or array.device in below
        if needed and array.decision != "create" and array.name not in running:
            yield StartArray(action, array)
    active = {group.name for group in node.volume_groups if group.volumes and all(x.active for x in group.volumes)}
    for group in groups:
        if group.name not in active:
            yield ActivateGroup(action, group.name)


@dataclass(frozen=True)
class DeactivateGroup(Step):
    """Take the logical volumes of a group away, so that what is below them is free."""

    name: str
    uuid: str

    @property
    def description(self) -> str:
        return f"Deactivate volume group {self.name}"

    def run(self, progress: Progress) -> Outcome:
        lvm.deactivate(self.uuid)
        return {}


@dataclass(frozen=True)
class StopArray(Step):
    """Stop an array, so that its members are free."""

    name: str
    device: str

    @property
    def description(self) -> str:
        return f"Stop array {self.name} ({self.device})"

    def run(self, progress: Progress) -> Outcome:
        mdadm.stop(self.device)
        return {}


@dataclass(frozen=True)
class StartArray(Step):
    """Start an array that is kept."""

    array: ArrayLayout

    @property
    def description(self) -> str:
        return f"Start array {self.array.device}"

    @property
    def programs(self) -> frozenset[str]:
        """What must be installed for it."""
        return frozenset((*mdadm.PROGRAMS, *udev.PROGRAMS))

    def run(self, progress: Progress) -> Outcome:
        mdadm.assemble(self.array.device, self.array.uuid, self.array.members)
        udev.wait_for([self.array.device], {})
        return {}


@dataclass(frozen=True)
class ActivateGroup(Step):
    """Make the logical volumes of a kept group usable."""

    name: str

    @property
    def description(self) -> str:
        return f"Activate volume group {self.name}"

    @property
    def programs(self) -> frozenset[str]:
        """What must be installed for it."""
        return frozenset((*lvm.PROGRAMS, *udev.PROGRAMS))

    def run(self, progress: Progress) -> Outcome:
        lvm.activate(self.name)
        udev.settle()
        return {}


@dataclass(frozen=True)
class MakeArray(Step):
    """Make an array with the UUID that was decided for it."""

    array: ArrayLayout

    @property
    def description(self) -> str:
        array = self.array
        return f"Make {array.level} {array.device} ({human(array.size)}) of {', '.join(array.members)}"

    def run(self, progress: Progress) -> Outcome:
        array = self.array
        mdadm.create(
            array.device, array.name, array.level, array.uuid, array.members, DATA_OFFSET, array.component, CHUNK
        )
        # A wrong size would only be seen when the file system is full.
        udev.wait_for([array.device], {array.device: array.size})
        # What an earlier array left at the same place must not come back to life.
        wipefs.wipe([array.device])
        found = mdadm.detail(array.device)
        if found is None or (found.level, found.count) != (array.level, len(array.members)):
            raise ActionFailed(f"{array.device}: mdadm reads back {found}, not {array}")
        return {"bytes": array.size}


@dataclass(frozen=True)
class MakeGroup(Step):
    """Make the physical volumes, the group and its logical volumes, and compare LVM's report with the layout."""

    group: VolumeGroupLayout

    @property
    def description(self) -> str:
        group = self.group
        volumes = ", ".join(f"{volume.name} ({human(volume.size)})" for volume in group.volumes)
        on = ", ".join(member.device for member in group.members)
        return f"Make volume group {group.name} ({human(group.size)}) on {on}" + (f": {volumes}" if volumes else "")

    def preflight(self) -> None:
        place = Path(f"/dev/{self.group.name}")
        if place.exists() and not place.is_dir():  # a folder may be that of a group that goes
            raise UnsuitableNode(f"a volume group cannot be called {self.group.name}: {place} is something else")

    def run(self, progress: Progress) -> Outcome:
        group = self.group
        for member in group.members:
            lvm.create_physical_volume(member.device, member.metadata, member.backup)
        lvm.create_group(group.name, group.extent, [member.device for member in group.members])
        for volume in group.volumes:
            lvm.create_volume(group.name, volume.name, volume.size // group.extent)
        udev.wait_for([volume.device for volume in group.volumes], {x.device: x.size for x in group.volumes})
        self._check()
        return {"bytes": group.size, "volumes": len(group.volumes)}

    def _check(self) -> None:
        report = lvm.report()
        found = [group for group in report.groups if group.name == self.group.name]
        if len(found) != 1 or found[0].size != self.group.size:
            raise ActionFailed(f"volume group {self.group.name}: LVM reads back {found}, not {self.group.size} bytes")
        starts = {x.device: x.start for x in report.physical if x.group_uuid == found[0].uuid}
        metadata = {mdadm.kernel_name(member.device): member.metadata for member in self.group.members}
        if {mdadm.kernel_name(device): start for device, start in starts.items()} != metadata:
            raise ActionFailed(f"volume group {self.group.name}: its extents start at {starts}, not {metadata}")
        sizes = {x.name: x.size for x in report.volumes if x.group_uuid == found[0].uuid}
        wanted = {volume.name: volume.size for volume in self.group.volumes}
        if sizes != wanted:
            raise ActionFailed(f"volume group {self.group.name}: LVM reads back {sizes}, not {wanted}")
