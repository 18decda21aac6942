# SPDX-License-Identifier: Apache-2.0
"""What is wanted against what is found: differences in words, or the layout with what is there taken over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bareon.errors import DisksDiffer
from bareon.facts.node import ArrayFacts, Content, DiskFacts, NodeFacts, PartitionFacts, VolumeGroupFacts
from bareon.layout.teardown import stands_on
from bareon.model.filesystem import FILESYSTEM_TYPES, Filesystem
from bareon.model.layout import (
    ArrayLayout,
    DiskLayout,
    FilesystemLayout,
    Layout,
    LogicalVolumeLayout,
    PartitionLayout,
    VolumeGroupLayout,
)
from bareon.sizes import MIB, mib

TOLERANCE = MIB  # bytes that a start or end may be off


def adopt(layout: Layout, node: NodeFacts, *, make: bool, copy: bool = False, configdrive: bool = False) -> Layout:
    """The wanted layout with the identifiers that are there, everything kept.

    :param make: whether file systems with ``keep_data: false`` are to be made anew.
    :param copy: whether images are to be copied; those that hold a whole file system replace what is there.
    :param configdrive: whether a configdrive is to be written, which is never data to be kept.
    :raises DisksDiffer: listing every difference.
    """
    return _Comparison(layout, node, make, copy, configdrive).adopted()


@dataclass(frozen=True)
class _Comparison:
    layout: Layout
    node: NodeFacts
    make: bool
    copy: bool
    configdrive: bool

    def adopted(self) -> Layout:
        if differences := list(self._differences()):
            raise DisksDiffer(differences, self.layout)
        disks = {disk.device: disk for disk in self.node.disks}
        names = {disk.device for disk in self.layout.disks}
        arrays = {x.name: x for x in self.node.arrays if stands_on(x.members, names, self.node)}
        groups = {group.name: group for group in self.node.volume_groups}
        return replace(
            self.layout,
            disks=tuple(self._adopted_disk(disk, disks[disk.device]) for disk in self.layout.disks),
            arrays=tuple(self._adopted_array(array, arrays[array.name]) for array in self.layout.arrays),
            volume_groups=tuple(self._adopted_group(x, groups[x.name]) for x in self.layout.volume_groups),
        )

    def _differences(self) -> Iterator[str]:
        disks = {disk.device: disk for disk in self.node.disks}
        for disk in self.layout.disks:
            yield from self._disk(disk, disks[disk.device])
        for array in self.layout.arrays:
            yield from self._array(array)
        for group in self.layout.volume_groups:
            yield from self._group(group)
        yield from self._unasked()

    def _unasked(self) -> Iterator[str]:
        """Arrays and groups on the disks of the layout that it does not have: they may reach to other disks."""
        disks = {disk.device for disk in self.layout.disks}
        arrays = {array.name for array in self.layout.arrays}
        for array in self.node.arrays:
            if array.name not in arrays and stands_on(array.members, disks, self.node):
                yield f"array {array.name}: expected none, found one on {_listed(array.members)}"
        groups = {group.name for group in self.layout.volume_groups}
        for group in self.node.volume_groups:
            if group.name not in groups and stands_on(group.members, disks, self.node):
                yield f"volume group {group.name}: expected none, found one on {_listed(group.members)}"

    def _disk(self, wanted: DiskLayout, found: DiskFacts) -> Iterator[str]:
        if found.table != wanted.table:
            yield f"{wanted.device}: expected a gpt table, found {found.table or 'none'}"
            return
        if len(wanted.partitions) != len(found.partitions):
            yield f"{wanted.device}: expected {len(wanted.partitions)} partitions, found {len(found.partitions)}"
        there = {part.number: part for part in found.partitions}
        for part in wanted.partitions:
            if part.number in there:
                yield from self._partition(part, there.pop(part.number))
            else:
                yield f"{part.device}: expected a partition of {mib(part.size)} at {mib(part.start)}, found none"
        for extra in there.values():
            yield f"{extra.device}: expected no partition, found one of {mib(extra.size)} at {mib(extra.start)}"

    def _partition(self, wanted: PartitionLayout, found: PartitionFacts) -> Iterator[str]:
        for what, a, b in (("start", wanted.start, found.start), ("end", wanted.end, found.end)):
            if abs(a - b) > TOLERANCE:
                yield f"{wanted.device}: expected its {what} at {mib(a)}, found {mib(b)}"
        if wanted.type_guid != found.type.upper():
            yield f"{wanted.device}: expected partition type {wanted.type_guid}, found {found.type}"
        if wanted.name and wanted.role == "volume" and wanted.name != found.name:
            yield f"{wanted.device}: expected the name {wanted.name!r}, found {found.name or 'none'!r}"
        if wanted.guid_given and wanted.guid != (found.guid or "").upper():
            yield f"{wanted.device}: expected the GUID {wanted.guid}, found {found.guid}"
        yield from self._filesystem(wanted.filesystem, found.content)

    def _filesystem(self, wanted: FilesystemLayout | None, found: Content | None) -> Iterator[str]:
        if wanted is None or wanted.wanted.from_image:
            return  # an image's own file system may be of any kind, and is not there before the image is
        if found is None and self.make and not wanted.wanted.keep_data:
            return  # it is made anew, and a run that was cut off between wiping and making it left nothing there
        kind = found.type if found else "nothing"
        label = found.label if found else None
        if kind != wanted.wanted.type:
            yield f"{wanted.device}: expected {wanted.wanted.type}, found {kind}"
        elif wanted.wanted.label and wanted.wanted.label != label:
            yield f"{wanted.device}: expected the label {wanted.wanted.label!r}, found {label or 'none'!r}"

    def _array(self, wanted: ArrayLayout) -> Iterator[str]:
        disks = {disk.device for disk in self.layout.disks}
        found = [x for x in self.node.arrays if x.name == wanted.name and stands_on(x.members, disks, self.node)]
        if len(found) != 1:
            yield f"{wanted.device}: expected an array over {_listed(wanted.members)}, found {len(found) or 'none'}"
            return
        array = found[0]
        if array.level != wanted.level:
            yield f"{wanted.device}: expected {wanted.level}, found {array.level}"
        if set(array.members) != set(wanted.members):
            yield f"{wanted.device}: expected the members {_listed(wanted.members)}, found {_listed(array.members)}"
        if array.size is not None and abs(array.size - wanted.size) > TOLERANCE:
            yield f"{wanted.device}: expected {mib(wanted.size)}, found {mib(array.size)}"
        yield from self._filesystem(wanted.filesystem, array.content)

    def _group(self, wanted: VolumeGroupLayout) -> Iterator[str]:
        found = [group for group in self.node.volume_groups if group.name == wanted.name]
        if len(found) != 1:
            yield f"volume group {wanted.name}: expected one, found {len(found) or 'none'}"
            return
        group = found[0]
        members = {member.device for member in wanted.members}
        if set(group.members) != members or group.missing:
            missing = f" and {group.missing} missing" if group.missing else ""
            found_members = f"{_listed(group.members)}{missing}"
            yield f"volume group {wanted.name}: expected on {_listed(members)}, found on {found_members}"
        there = {volume.name: volume for volume in group.volumes}
        for volume in wanted.volumes:
            if volume.name not in there:
                yield f"{volume.device}: expected a logical volume of {mib(volume.size)}, found none"
                continue
            other = there.pop(volume.name)
            if other.size != volume.size:
                yield f"{volume.device}: expected {mib(volume.size)}, found {mib(other.size)}"
            yield from self._filesystem(volume.filesystem, other.content)
        for extra in there.values():
            yield f"{extra.device}: expected no logical volume, found one of {mib(extra.size)}"

    def _adopted_disk(self, wanted: DiskLayout, found: DiskFacts) -> DiskLayout:
        there = {part.number: part for part in found.partitions}
        parts = (self._adopted_partition(part, there[part.number]) for part in wanted.partitions)
        return replace(wanted, partitions=tuple(parts))

    def _adopted_partition(self, wanted: PartitionLayout, found: PartitionFacts) -> PartitionLayout:
        filesystem = self._adopted_filesystem(wanted.filesystem, found.content)
        rewritten = wanted.role == "configdrive" and self.configdrive
        return replace(
            wanted,
            device=found.device,
            start=found.start,
            size=found.size,
            guid=found.guid or wanted.guid,
            decision="format" if rewritten else filesystem.decision if filesystem else "keep",
            filesystem=filesystem,
        )

    def _adopted_filesystem(self, wanted: FilesystemLayout | None, found: Content | None) -> FilesystemLayout | None:
        if wanted is None:
            return None
        anew = self._anew(wanted.wanted)
        if anew or found is None:
            return replace(wanted, decision="format" if anew else "keep")
        kind = found.type if found.type in FILESYSTEM_TYPES else wanted.wanted.type
        return replace(
            wanted, wanted=replace(wanted.wanted, type=kind), decision="keep", uuid=found.uuid or wanted.uuid
        )

    def _anew(self, wanted: Filesystem) -> bool:
        if wanted.from_image:
            # Under clean nothing is to be kept: disks that are as described were made by an earlier stage.
            return self.copy and (self.layout.policy == "clean" or not wanted.keep_data)
        return self.make and not wanted.keep_data

    def _adopted_array(self, wanted: ArrayLayout, found: ArrayFacts) -> ArrayLayout:
        filesystem = self._adopted_filesystem(wanted.filesystem, found.content)
        decision = filesystem.decision if filesystem else "keep"
        return replace(wanted, uuid=found.uuid, decision=decision, filesystem=filesystem)

    def _adopted_group(self, wanted: VolumeGroupLayout, found: VolumeGroupFacts) -> VolumeGroupLayout:
        there = {volume.name: volume for volume in found.volumes}
        volumes = (self._adopted_volume(volume, there[volume.name].content) for volume in wanted.volumes)
        return replace(wanted, decision="keep", volumes=tuple(volumes))

    def _adopted_volume(self, wanted: LogicalVolumeLayout, found: Content | None) -> LogicalVolumeLayout:
        filesystem = self._adopted_filesystem(wanted.filesystem, found)
        return replace(wanted, decision=filesystem.decision if filesystem else "keep", filesystem=filesystem)


def _listed(devices: object) -> str:
    return ", ".join(sorted(devices)) or "none"  # type: ignore[call-overload]
