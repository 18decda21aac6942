# SPDX-License-Identifier: Apache-2.0
"""Steps that make volume groups and make them usable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bareon import tools
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.sizes import human, mib
from bareon.step import Outcome, Progress, Step
from bareon.storage.lvm import pool
from bareon.storage.lvm.segment import LINEAR, STRIPE

if TYPE_CHECKING:
    from bareon.storage.lvm.planned import PlannedGroup, PlannedVolume


@dataclass(frozen=True)
class MakeGroup(Step):
    """Make the physical volumes, the group and its logical volumes, and compare LVM's report with the layout."""

    group: PlannedGroup

    @property
    def description(self) -> str:
        group = self.group
        shapes = {x.name: f", {x.segment.kind}" if x.segment != LINEAR else "" for x in group.volumes}
        volumes = ", ".join(f"{x.name} ({human(x.size)}{shapes[x.name]})" for x in group.volumes)
        on = ", ".join(group.members)
        return f"Make volume group {group.name} ({human(group.size)}) on {on}" + (f": {volumes}" if volumes else "")

    def preflight(self) -> None:
        place = Path(f"/dev/{self.group.name}")
        if place.exists() and not place.is_dir():  # a folder may be that of a group that goes
            raise UnsuitableNode(f"a volume group cannot be called {self.group.name}: {place} is something else")

    def run(self, progress: Progress) -> Outcome:
        group = self.group
        for member in group.physical:
            tools.lvm.create_physical_volume(member.device, member.metadata, member.backup)
        tools.lvm.create_group(group.name, group.extent, group.members, group.tags)
        # Linear volumes take what they find; those before them were promised their physical volumes.
        for volume in sorted(group.volumes, key=lambda volume: (bool(volume.pool), not volume.on)):
            self._create(volume)
        tools.udev.wait_for({volume.device: volume.size for volume in group.volumes if not volume.is_pool})
        self._check()
        return {"bytes": group.size, "volumes": len(group.volumes)}

    def _create(self, volume: PlannedVolume) -> None:
        group, shape = self.group, volume.segment
        extents = volume.size // group.extent
        if volume.pool:
            tools.lvm.create_thin_volume(group.name, volume.pool, volume.name, volume.size, volume.tags)
            return
        if volume.is_pool:
            metadata = volume.name + pool.METADATA_PART, pool.metadata(volume.size) // group.extent
            tools.lvm.create_thin_pool(
                group.name, volume.name, extents, metadata, pool.chunk(volume.size), volume.tags
            )
            return
        if not volume.on:
            tools.lvm.create_volume(group.name, volume.name, extents, volume.tags)
            return
        tools.lvm.create_spread_volume(
            *(group.name, volume.name, extents, shape.kind, volume.on, volume.tags),
            stripes=shape.stripes if shape.type.striped else None,
            stripe=STRIPE,
            mirrors=shape.mirrors if shape.type.mirrored else None,
        )

    def _check(self) -> None:
        report = tools.lvm.report()
        found = [group for group in report.groups if group.name == self.group.name]
        if len(found) != 1 or found[0].size != self.group.size:
            raise ActionFailed(f"volume group {self.group.name}: LVM reads back {found}, not {self.group.size} bytes")
        starts = {x.device: x.start for x in report.physical if x.group_uuid == found[0].uuid}
        metadata = {tools.device.kernel_name(member.device): member.metadata for member in self.group.physical}
        if {tools.device.kernel_name(device): start for device, start in starts.items()} != metadata:
            raise ActionFailed(f"volume group {self.group.name}: its extents start at {starts}, not {metadata}")
        sizes = {x.name: (x.size, x.legs, x.pool) for x in report.volumes if x.group_uuid == found[0].uuid}
        wanted = {volume.name: (volume.size, volume.segment.legs, volume.pool) for volume in self.group.volumes}
        if sizes != wanted:
            raise ActionFailed(f"volume group {self.group.name}: LVM reads back {sizes}, not {wanted}")


@dataclass(frozen=True)
class AddVolumes(Step):
    """Make linear logical volumes in the free extents of a group that is there and may be in use."""

    group: PlannedGroup
    new: tuple[PlannedVolume, ...]

    @property
    def description(self) -> str:
        volumes = ", ".join(f"{x.name} ({human(x.size)})" for x in self.new)
        return f"Add to volume group {self.group.name}: {volumes}; its other volumes stay as they are"

    def preflight(self) -> None:
        wanted, free = sum(x.size for x in self.new), tools.lvm.free(self.group.name)
        if free < wanted:
            raise UnsuitableNode(f"volume group {self.group.name} has {mib(free)} free, and needs {mib(wanted)}")

    def run(self, progress: Progress) -> Outcome:
        before = tools.lvm.report().volumes
        for volume in self.new:
            tools.lvm.create_volume(self.group.name, volume.name, volume.size // self.group.extent, volume.tags)
        tools.udev.wait_for({volume.device: volume.size for volume in self.new})
        after = tools.lvm.report().volumes
        if lost := [x for x in before if x not in after]:
            raise ActionFailed(f"volume group {self.group.name}: LVM reads back {after}, without {lost}")
        return {"bytes": sum(x.size for x in self.new), "volumes": len(self.new)}


@dataclass(frozen=True)
class ActivateGroup(Step):
    """Make the logical volumes of a kept group usable."""

    name: str

    @property
    def description(self) -> str:
        return f"Activate volume group {self.name}"

    def run(self, progress: Progress) -> Outcome:
        tools.lvm.activate(self.name)
        tools.udev.settle()
        return {}


@dataclass(frozen=True)
class DeactivateGroup(Step):
    """Take the logical volumes of a group away, so that what is below them is free."""

    name: str
    uuid: str

    @property
    def description(self) -> str:
        return f"Deactivate volume group {self.name}"

    def run(self, progress: Progress) -> Outcome:
        tools.lvm.deactivate(self.uuid)
        return {}
