# SPDX-License-Identifier: Apache-2.0
"""Planned physical volumes, volume groups and logical volumes, and their differences from what was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bareon.sizes import human, mib
from bareon.step import Step
from bareon.storage import filesystem
from bareon.storage.kind import (
    UNKNOWN,
    Comparison,
    Device,
    Found,
    Key,
    Kind,
    PlannedAggregate,
    PlannedMembership,
    Signature,
    System,
    View,
    cells,
)
from bareon.storage.lvm import pool
from bareon.storage.lvm.found import PROGRAMS, SIGNATURE, LogicalVolumeFacts, VolumeGroupFacts
from bareon.storage.lvm.segment import EXTENT, LINEAR, THIN_CHECK, Segment
from bareon.storage.lvm.step import ActivateGroup, AddVolumes, MakeGroup

_OWN_BLOCKS = {"linear", "striped", "raid", "mirror"}
"""LVM's words for volumes that share no blocks with others, as thin and cached ones and snapshots do."""


@dataclass(frozen=True)
class PlannedPhysicalVolume(PlannedMembership):
    """A physical volume of the group ``vg``.

    Its first extent starts after ``metadata`` bytes; the last ``backup`` bytes hold a second copy of the metadata.
    """

    vg: str
    metadata: int
    backup: int = 0

    @property
    def joins(self) -> Key:
        return "lvm", self.vg

    @property
    def signature(self) -> Signature:
        return Signature(SIGNATURE)


@dataclass(frozen=True)
class PlannedVolume(Device):
    """A logical volume of whole extents.

    ``on`` are the physical volumes of one that is spread over several; ``pool`` is the name of a thin one's pool.
    """

    name: str
    segment: Segment = LINEAR
    on: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    pool: str = ""

    @property
    def is_pool(self) -> bool:
        """True for a thin pool, which no device is there for."""
        return self.segment.kind == "thin-pool"

    @property
    def may_be_added(self) -> bool:
        """True for one that may be made in a group that is there: a linear one, which takes any free extents."""
        return self.segment == LINEAR and filesystem.may_be_added(self.content)

    @property
    def taken(self) -> int:
        """The bytes of its group that it takes, copies, parity and metadata included."""
        if self.pool:
            return 0
        if self.is_pool:
            return self.size + pool.metadata(self.size)
        form = self.segment.type
        leg = self.size // self.segment.stripes + form.metadata * EXTENT
        return leg * self.segment.legs

    @property
    def system(self) -> System:
        needs = self.segment.type.system
        return replace(needs, kernel_arguments=(f"rd.lvm.lv={self.device.removeprefix('/dev/')}",))

    def differences(self, found: LogicalVolumeFacts, comparison: Comparison) -> Iterator[str]:
        """Differences from the volume that has its name."""
        if found.size != self.size:
            yield f"{self.device}: expected {mib(self.size)}, found {mib(found.size)}"
        if self.segment == LINEAR:
            yield from _layout_differences(found, comparison)
        elif (there := found.shape) != (here := _shape(self)):
            yield f"{self.device}: expected {here}, found {there}"
        if self.pool and found.content == UNKNOWN:
            yield f"{self.device}: it is not active, and what is on it cannot be seen without writing to its pool"
        if found.health:
            yield f"{found.device}: LVM says that it is not well ({found.health}); mend it first, see lvs(8)"
        yield from comparison.differences(self, found.content)

    def found(self) -> LogicalVolumeFacts:
        """Facts that a probe will find once it is made."""
        shape = self.segment
        layout = shape.type.layout if shape.type.metadata == 0 else f"raid,{shape.type.layout}"
        content = self.content.signature if self.content else None
        return LogicalVolumeFacts(
            *(self.name, self.device, self.size, False, content),
            layout=layout,
            legs=shape.legs,
            copies=shape.mirrors + 1,
            tags=self.tags,
            pool=self.pool,
        )

    def document(self) -> dict[str, Any]:
        """Item of its group's ``volumes`` in the JSON of the plan."""
        shape = self.segment
        return {
            "name": self.name,
            "device": self.device,
            "size": self.size,
            "taken": self.taken,
            "kind": shape.kind,
            "stripes": shape.stripes,
            "mirrors": shape.mirrors,
            "physical_volumes": list(self.on),
            "pool": self.pool,
            "tags": list(self.tags),
            **filesystem.document(self.content),
            "decision": self.decision,
        }


@dataclass(frozen=True)
class PlannedGroup(PlannedAggregate):
    """A volume group of ``size`` bytes in extents of ``extent`` bytes."""

    size: int
    extent: int
    physical: tuple[PlannedPhysicalVolume, ...]
    volumes: tuple[PlannedVolume, ...]
    tags: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        # It reads and looks for what is planned here.
        from bareon.storage.lvm.kind import KIND

        return KIND

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(member.device for member in self.physical)

    @property
    def devices(self) -> tuple[Device, ...]:
        return self.volumes

    @property
    def system(self) -> System:
        return System(("lvm",), modules=("dm_mod",), programs=(("lvm",),))

    @property
    def programs(self) -> tuple[str, ...]:
        return (*PROGRAMS, *((THIN_CHECK,) if any(x.is_pool for x in self.volumes) else ()))

    @property
    def cautions(self) -> Iterator[str]:
        """What the thin volumes that are written anew may not find room for in their pools."""
        for found in (x for x in self.volumes if x.is_pool):
            held = [x for x in self.volumes if x.pool == found.name]
            promised = sum(x.size for x in held)
            if promised > found.size and any(x.decision != "keep" for x in held):
                sizes = f"may grow to {mib(promised)} together, and it has {mib(found.size)}"
                then = "writing fails once it is full, see lvmthin(7)"
                yield f"the volumes of thin pool {found.device} {sizes}: {then}"

    def means(self, found: Found) -> bool:
        return isinstance(found, VolumeGroupFacts) and found.name == self.name

    def clash(self, found: Found) -> str:
        return f"a volume group {self.name} is already on {', '.join(found.stands_on)}"

    def differences(self, comparison: Comparison) -> Iterator[str]:
        found = [x for x in comparison.found(VolumeGroupFacts, everywhere=True) if self.means(x)]
        if len(found) != 1:
            yield f"volume group {self.name}: expected one, found {len(found) or 'none'}"
            return
        group = found[0]
        if set(group.members) != set(self.members) or group.missing:
            missing = f" and {group.missing} missing" if group.missing else ""
            found_members = f"{_listed(group.members)}{missing}"
            yield f"volume group {self.name}: expected on {_listed(self.members)}, found on {found_members}"
        there = {volume.name: volume for volume in group.volumes}
        for volume in self.volumes:
            if volume.name not in there:
                if not (comparison.make and volume.may_be_added):
                    yield f"{volume.device}: expected a logical volume of {mib(volume.size)}, found none"
                elif group.extent != self.extent:
                    sizes = f"extents of {mib(self.extent)}, found {mib(group.extent)}"
                    yield f"volume group {self.name}: expected, to add {volume.name} to it, {sizes}"
                continue
            yield from volume.differences(there.pop(volume.name), comparison)
        for extra in there.values():
            yield f"{extra.device}: expected no logical volume, found one of {mib(extra.size)}"

    def adopted(self, comparison: Comparison) -> PlannedGroup:
        found = next(x for x in comparison.found(VolumeGroupFacts, everywhere=True) if self.means(x))
        there = {volume.name: volume for volume in found.volumes}
        volumes = (comparison.adopted(x, there[x.name].content) if x.name in there else x for x in self.volumes)
        kept = replace(self, decision="keep", volumes=tuple(volumes))
        for notice in (*self._noticed(found), *kept.cautions):
            comparison.warn(notice)
        return kept

    def _noticed(self, found: VolumeGroupFacts) -> Iterator[str]:
        """What is not as asked for, but harms nothing, in words."""
        there = {volume.device: volume.tags for volume in found.volumes} | {found.title: found.tags}
        asked = {x.device: x.tags for x in self.volumes if x.device in there} | {found.title: self.tags}
        for name, tags in asked.items():
            if gone := sorted(set(tags) - set(there[name])):
                change = "vgchange" if name == found.title else "lvchange"
                yield f"{name} has not the tag {', '.join(gone)}, and stays so; {change} --addtag gives it"

    def make(self, action: str) -> Iterator[Step]:
        yield MakeGroup(action, self)

    def extend(self, action: str) -> Iterator[Step]:
        if new := tuple(volume for volume in self.volumes if volume.decision == "create"):
            yield AddVolumes(action, self, new)

    def start(self, action: str) -> Iterator[Step]:
        yield ActivateGroup(action, self.name)

    def view(self) -> View:
        plain = all(volume.segment == LINEAR for volume in self.volumes)
        rows = tuple(
            (x.name, human(x.size), *([] if plain else [_lies(x)]), *cells(x.content), x.decision)
            for x in self.volumes
        )
        return View(
            f"volume group {self.name}  ({human(self.size)}, on {', '.join(self.members)})",
            ("name", "size", *([] if plain else ["kind"]), "file system", "mount", "decision"),
            rows,
            tuple((volume.name, volume.taken) for volume in self.volumes if not volume.pool),
            self.size,
        )

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "size": self.size,
            "members": list(self.members),
            "decision": self.decision,
            "tags": list(self.tags),
            "volumes": [volume.document() for volume in self.volumes],
        }

    def found(self) -> VolumeGroupFacts:
        return VolumeGroupFacts(
            name=self.name,
            uuid=f"uuid of {self.name}",
            size=self.size,
            extent=self.extent,
            members=tuple(sorted(self.members)),
            tags=self.tags,
            volumes=tuple(volume.found() for volume in self.volumes),
        )


def _listed(devices: Sequence[str]) -> str:
    return ", ".join(sorted(set(devices))) or "none"


def _lies(volume: PlannedVolume) -> str:
    """How a volume lies on its group, and where, for the text of the plan."""
    if volume.pool:
        return f"thin in {volume.pool}"
    return volume.segment.words + (f" on {', '.join(volume.on)}" if volume.on else "")


def _shape(volume: PlannedVolume) -> str:
    """How a volume is to lie, in the words of :attr:`LogicalVolumeFacts.shape`."""
    if volume.is_pool or volume.pool:
        return volume.found().shape
    segment = volume.segment
    copies = f", {segment.mirrors + 1} copies" if segment.type.mirrored else ""
    return f"{segment.type.layout} on {segment.legs} physical volumes{copies}"


def _layout_differences(found: LogicalVolumeFacts, comparison: Comparison) -> Iterator[str]:
    """Differences of a volume from a linear one: one that has its own blocks may go on as it is, no other one."""
    kinds = found.layout.split(",")
    if _OWN_BLOCKS.isdisjoint(kinds):
        yield f"{found.device}: expected a linear logical volume, found one that is {found.layout}"
    elif "linear" not in kinds:
        comparison.warn(f"{found.device}: expected a linear logical volume, found {found.layout}; it is kept")
