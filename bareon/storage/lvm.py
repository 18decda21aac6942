# SPDX-License-Identifier: Apache-2.0
"""LVM: physical volumes, volume groups, logical volumes; lvm(8)."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bareon import tools
from bareon.errors import ActionFailed, CommandError, Defect, UnsuitableNode
from bareon.sizes import MIB, Absolute, human, mib, parse_size, round_down, round_up
from bareon.step import Outcome, Progress, Step
from bareon.storage import filesystem, schema
from bareon.storage.allocate import Request, allocate
from bareon.storage.disk import Partition
from bareon.storage.identifier import Identifiers
from bareon.storage.kind import (
    Aggregate,
    Comparison,
    Content,
    Device,
    Found,
    Fragment,
    Key,
    Kind,
    Look,
    Place,
    PlannedAggregate,
    PlannedContent,
    Read,
    Reader,
    Search,
    Signature,
    System,
    View,
    Volume,
    cells,
    words,
)
from bareon.storage.schema import Schema

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment

LOG = logging.getLogger(__name__)

SIGNATURE = "LVM2_member"
LINUX_LVM = "E6D6D379-F507-44C2-A23C-238F2A3DF928"
"""The partition type GUID of a physical volume; Discoverable Partitions Specification."""

SYS = Path("/sys/class/block")
_OWN_BLOCKS = {"linear", "striped", "raid", "mirror"}
"""LVM's words for volumes that share no blocks with others, as thin and cached ones and snapshots do."""
PROGRAMS = ("lvm",)
EXTENT = 4 * MIB  # bytes, LVM's default
METADATA = MIB  # bytes of each physical volume that LVM takes with its defaults
LEAST_METADATA = 10 * MIB  # bytes, where a size is given

# From lvm(8): what names of logical volumes must not begin with, and must not contain.
_RESERVED = ("snapshot", "pvmove")
_RESERVED_PARTS = (
    "_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage",
    "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
)  # fmt: skip
# A group is a folder of its name in /dev, where these are already.
_NAMES_IN_DEV = (
    "autofs", "block", "bsg", "btrfs-control", "bus", "char", "console", "core", "cpu", "cuse", "disk", "dri",
    "fb0", "fd", "full", "fuse", "hpet", "hugepages", "hwrng", "initctl", "input", "kmsg", "kvm", "log",
    "loop-control", "mapper", "md", "mem", "mqueue", "net", "null", "nvram", "port", "ppp", "ptmx", "pts",
    "random", "rtc", "rtc0", "shm", "snd", "stderr", "stdin", "stdout", "tty", "uhid", "uinput", "urandom",
    "vfio", "vga_arbiter", "vhost-net", "virtio-ports", "zero",
)  # fmt: skip
_DISK_NAMES = r"(sd|vd|hd|xvd|nvme|md|dm-|loop|ram|tty|sr|mmcblk).*\d.*"
_LONGEST_DEVICE_NAME = 126  # bytes of "group-volume", hyphens in either doubled; DM_NAME_LEN in linux/dm-ioctl.h


# Wanted.

_META_SIZE = {"lvm_meta_size": {"$ref": "#/$defs/lvm_meta_size"}}
_PV: Mapping[str, Any] = {
    "description": "A partition that is a physical volume of a volume group.",
    "type": "object",
    "required": ["type", "size", "vg"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["pv"]},
        "size": {"$ref": "#/$defs/size"},
        "vg": {"$ref": "#/$defs/vg_name"},
        **_META_SIZE,
        "keep_data": {
            "description": "Accepted: what is kept is decided by the volumes of the group.",
            "type": "boolean",
        },
    },
}
_VG: Mapping[str, Any] = {
    "description": "A volume group over the physical volumes that name it.",
    "type": "object",
    "required": ["type", "id", "volumes"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["vg"]},
        "id": {"$ref": "#/$defs/vg_name"},
        "volumes": {
            "description": "The logical volumes.",
            "type": "array",
            "items": {"$ref": "#/$defs/lv_entry"},
        },
    },
}
_LV: Mapping[str, Any] = {
    "description": "A logical volume.",
    "type": "object",
    "required": ["type", "name", "size"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["lv"]},
        "size": {"$ref": "#/$defs/size"},
        "name": {
            "description": "The name of the logical volume.",
            "type": "string",
            "maxLength": 100,
            "pattern": "^(?!\\.{1,2}$)[A-Za-z0-9+_.][A-Za-z0-9+_.-]*$",
            "x-pattern": "a name for LVM: letters, digits and + _ . - only, not beginning with a hyphen",
        },
        **filesystem.fields(),
    },
}
_POOL: Mapping[str, Any] = {"description": "Accepted and ignored.", "deprecated": True, "type": "object"}


@dataclass(frozen=True)
class PhysicalVolume(Content):
    """A physical volume of the group ``vg``.

    ``metadata`` is what the first extent starts after, in bytes; ``None`` for LVM's own choice. ``backup`` is the
    size of a second copy of the metadata at the end, in bytes; 0 for none.
    """

    role: ClassVar[str] = "pv"
    vg: str
    metadata: int | None = None
    backup: int = 0

    @property
    def type_guid(self) -> str:
        return LINUX_LVM

    @property
    def joins(self) -> Key:
        return "lvm", self.vg

    def mapped(self, change: Callable[[Content], Content]) -> PhysicalVolume:
        return self

    def plan(self, place: Place) -> PlannedPhysicalVolume:
        metadata = METADATA if self.metadata is None else self.metadata
        return PlannedPhysicalVolume(place.device, place.size, self.vg, metadata, self.backup)


@dataclass(frozen=True)
class LogicalVolume(Volume):
    """A logical volume that shall be."""

    name: str = field(kw_only=True)


@dataclass(frozen=True)
class VolumeGroup(Aggregate):
    """A volume group. Its physical volumes name it by ``vg``."""

    volumes: tuple[LogicalVolume, ...]

    @property
    def key(self) -> Key:
        return "lvm", self.name

    @property
    def contents(self) -> tuple[Content, ...]:
        return tuple(volume.content for volume in self.volumes if volume.content)

    def given(self, content: Content) -> int | None:
        held = (x for x in self.volumes if x.content and any(inner is content for inner in x.content.nested()))
        return next((x.size.size for x in held if isinstance(x.size, Absolute)), None)

    def mapped(self, change: Callable[[Content], Content]) -> VolumeGroup:
        return replace(
            self,
            volumes=tuple(replace(x, content=x.content.mapped(change)) if x.content else x for x in self.volumes),
        )

    def plan(self, members: Sequence[Device], identifiers: Identifiers) -> PlannedGroup:
        physical = tuple(x.content for x in members if isinstance(x.content, PlannedPhysicalVolume))
        rooms = (member.size - member.metadata - member.backup for member in physical)
        size = sum(max(0, round_down(room, EXTENT)) for room in rooms)
        requests = [Request(volume.size, f"{volume.path}.size") for volume in self.volumes]
        sizes = allocate(size, size, requests, EXTENT)
        volumes = (self._planned(x, y, identifiers) for x, y in zip(self.volumes, sizes, strict=True))
        return PlannedGroup(self.name, size, EXTENT, physical, tuple(volumes))

    def _planned(self, wanted: LogicalVolume, size: int, identifiers: Identifiers) -> PlannedVolume:
        place = Place(f"/dev/{self.name}/{wanted.name}", size, f"{wanted.path}.size", identifiers)
        content = wanted.content.plan(place) if wanted.content else None
        return PlannedVolume(place.device, size, wanted.name, content=content)


def _logical(volume: Volume) -> LogicalVolume:
    """The volume, which no other kind can have put into a group."""
    if not isinstance(volume, LogicalVolume):
        raise TypeError(f"{volume.path} is no logical volume")
    return volume


def _physical_volume(value: dict[str, Any], path: str, reader: Reader) -> PhysicalVolume:
    metadata = None
    if "lvm_meta_size" in value:
        size = parse_size(value["lvm_meta_size"])
        assert isinstance(size, Absolute)  # by its schema
        metadata = round_up(size.size)
        if metadata < LEAST_METADATA:
            reader.defects.append(Defect(f"{path}.lvm_meta_size", f"must be at least {mib(LEAST_METADATA)}"))
    return PhysicalVolume(value["vg"], metadata, path=path)


# Planned.


@dataclass(frozen=True)
class PlannedPhysicalVolume(PlannedContent):
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

    def differences(self, found: Signature | None, comparison: Comparison) -> Iterator[str]:
        yield from ()  # the group is compared as a whole

    def adopted(self, found: Signature | None, comparison: Comparison) -> PlannedPhysicalVolume:
        return replace(self, decision="keep")


@dataclass(frozen=True)
class PlannedVolume(Device):
    """A logical volume of whole extents."""

    name: str

    @property
    def system(self) -> System:
        return System(kernel_arguments=(f"rd.lvm.lv={self.device.removeprefix('/dev/')}",))


@dataclass(frozen=True)
class PlannedGroup(PlannedAggregate):
    """A volume group of ``size`` bytes in extents of ``extent`` bytes."""

    size: int
    extent: int
    physical: tuple[PlannedPhysicalVolume, ...]
    volumes: tuple[PlannedVolume, ...]

    @property
    def kind(self) -> Kind:
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
        return PROGRAMS

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
                yield f"{volume.device}: expected a logical volume of {mib(volume.size)}, found none"
                continue
            other = there.pop(volume.name)
            if other.size != volume.size:
                yield f"{volume.device}: expected {mib(volume.size)}, found {mib(other.size)}"
            yield from _layout_differences(other, comparison)
            yield from comparison.differences(volume, other.content)
        for extra in there.values():
            yield f"{extra.device}: expected no logical volume, found one of {mib(extra.size)}"

    def adopted(self, comparison: Comparison) -> PlannedGroup:
        found = next(x for x in comparison.found(VolumeGroupFacts, everywhere=True) if self.means(x))
        there = {volume.name: volume for volume in found.volumes}
        volumes = (comparison.adopted(volume, there[volume.name].content) for volume in self.volumes)
        return replace(self, decision="keep", volumes=tuple(volumes))

    def make(self, action: str) -> Iterator[Step]:
        yield MakeGroup(action, self)

    def start(self, action: str) -> Iterator[Step]:
        yield ActivateGroup(action, self.name)

    def view(self) -> View:
        rows = tuple((x.name, human(x.size), *cells(x.content), x.decision) for x in self.volumes)
        return View(
            f"volume group {self.name}  ({human(self.size)}, on {', '.join(self.members)})",
            ("name", "size", "file system", "mount", "decision"),
            rows,
            tuple((volume.name, volume.size) for volume in self.volumes),
            self.size,
        )

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "size": self.size,
            "members": list(self.members),
            "decision": self.decision,
            "volumes": [
                {
                    "name": volume.name,
                    "device": volume.device,
                    "size": volume.size,
                    **filesystem.document(volume.content),
                    "decision": volume.decision,
                }
                for volume in self.volumes
            ],
        }

    def found(self) -> VolumeGroupFacts:
        return VolumeGroupFacts(
            name=self.name,
            uuid=f"uuid of {self.name}",
            size=self.size,
            extent=self.extent,
            members=tuple(sorted(self.members)),
            volumes=tuple(
                LogicalVolumeFacts(x.name, x.device, x.size, False, x.content.signature if x.content else None)
                for x in self.volumes
            ),
        )


def _listed(devices: Sequence[str]) -> str:
    return ", ".join(sorted(set(devices))) or "none"


@dataclass(frozen=True)
class MakeGroup(Step):
    """Make the physical volumes, the group and its logical volumes, and compare LVM's report with the layout."""

    group: PlannedGroup

    @property
    def description(self) -> str:
        group = self.group
        volumes = ", ".join(f"{volume.name} ({human(volume.size)})" for volume in group.volumes)
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
        tools.lvm.create_group(group.name, group.extent, group.members)
        for volume in group.volumes:
            tools.lvm.create_volume(group.name, volume.name, volume.size // group.extent)
        tools.udev.wait_for({volume.device: volume.size for volume in group.volumes})
        self._check()
        return {"bytes": group.size, "volumes": len(group.volumes)}

    def _check(self) -> None:
        report = tools.lvm.report()
        found = [group for group in report.groups if group.name == self.group.name]
        if len(found) != 1 or found[0].size != self.group.size:
            raise ActionFailed(f"volume group {self.group.name}: LVM reads back {found}, not {self.group.size} bytes")
        starts = {x.device: x.start for x in report.physical if x.group_uuid == found[0].uuid}
        metadata = {tools.device.kernel_name(member.device): member.metadata for member in self.group.physical}
        if {tools.device.kernel_name(device): start for device, start in starts.items()} != metadata:
            raise ActionFailed(f"volume group {self.group.name}: its extents start at {starts}, not {metadata}")
        sizes = {x.name: x.size for x in report.volumes if x.group_uuid == found[0].uuid}
        wanted = {volume.name: volume.size for volume in self.group.volumes}
        if sizes != wanted:
            raise ActionFailed(f"volume group {self.group.name}: LVM reads back {sizes}, not {wanted}")


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


# Found.


@dataclass(frozen=True)
class LogicalVolumeFacts:
    """A logical volume. What is in it is only known where it could be activated.

    ``layout`` is LVM's list of what it is, ``health`` what LVM finds wrong with it; lvs(8).
    """

    name: str
    device: str
    size: int
    active: bool
    content: Signature | None = None
    layout: str = "linear"
    health: str = ""


@dataclass(frozen=True)
class VolumeGroupFacts(Found):
    """A volume group. ``missing`` physical volumes are counted; ``members`` are those that are there."""

    name: str
    uuid: str
    size: int
    extent: int
    members: tuple[str, ...]
    missing: int = 0
    volumes: tuple[LogicalVolumeFacts, ...] = ()

    @property
    def title(self) -> str:
        return f"volume group {self.name}"

    @property
    def words(self) -> str:
        volumes = ", ".join(f"{x.name}: {words(x.content)} of {human(x.size)}" for x in self.volumes)
        return f"{self.title} ({volumes or 'empty'})"

    @property
    def stands_on(self) -> tuple[str, ...]:
        return self.members

    @property
    def offers(self) -> tuple[tuple[str, Signature | None], ...]:
        return tuple((volume.device, volume.content) for volume in self.volumes)

    @property
    def present(self) -> tuple[str, ...]:
        return tuple(volume.device for volume in self.volumes if volume.active)

    @property
    def running(self) -> bool:
        return any(volume.active for volume in self.volumes)

    @property
    def usable(self) -> bool:
        return bool(self.volumes) and all(volume.active for volume in self.volumes)

    @property
    def plausible(self) -> Iterator[tuple[str, str, bool]]:
        yield "", "/dev/", self.size >= 0 and self.extent > 0 and self.missing >= 0
        for place, volume in enumerate(self.volumes):
            yield f".volumes[{place}]", volume.device, volume.size >= 0

    def stop(self, action: str) -> Iterator[Step]:
        yield DeactivateGroup(action, self.name, self.uuid)


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


# The kind.


class _Lvm(Kind):
    name = "lvm"
    noun = "volume group"
    section = "volume_groups"
    about_section = "LVM volume groups"
    always = True
    roles = (PhysicalVolume.role,)
    lsblk_types = ("lvm",)
    found = VolumeGroupFacts

    @property
    def fragments(self) -> tuple[Fragment, ...]:
        return (
            Fragment("entry", "vg", ("vg",), _VG),
            Fragment("volume", "pv", ("pv",), _PV),
            Fragment("volume", "lvm_meta_pool", ("lvm_meta_pool",), _POOL),
            Fragment("lv_entry", "lv", ("lv",), _LV),
        )

    @property
    def plan_schema(self) -> Mapping[str, Schema]:
        return {
            "volume_group": schema.record(
                "A volume group of the plan.",
                {
                    "name": schema.string("Its name."),
                    "size": schema.count("What it offers in whole extents."),
                    "members": schema.items("The devices of its physical volumes."),
                    "decision": {**schema.DECISION, "description": "create or keep."},
                    "volumes": schema.items("Its logical volumes.", "logical_volume"),
                },
            ),
            "logical_volume": schema.record(
                "A logical volume of the plan.",
                {
                    "name": schema.string("Its name."),
                    "device": schema.string("The kernel's name of it."),
                    "size": schema.count("Its size."),
                    **filesystem.planned_fields(),
                    "decision": schema.DECISION,
                },
            ),
        }

    @property
    def facts_schema(self) -> Mapping[str, Schema]:
        return {
            "found_volume_group": schema.record(
                "A volume group as it was found.",
                {
                    "name": schema.string("Its name."),
                    "size": schema.count("What it offers."),
                    "members": schema.items("The physical volumes that are there."),
                    "volumes": schema.items("Its logical volumes.", "found_logical_volume"),
                },
            ),
            "found_logical_volume": schema.record(
                "A logical volume as it was found.",
                {
                    "name": schema.string("Its name."),
                    "device": schema.string("The kernel's name of it."),
                    "size": schema.count("Its size."),
                    "content": schema.CONTENT,
                    "layout": schema.string(
                        "What it is in LVM's words: linear, striped, raid,raid1, thin,sparse, ..."
                    ),
                    "health": schema.string("What LVM finds wrong with it; empty for nothing."),
                },
            ),
        }

    def keys(self, fragment: str) -> Mapping[str, Any]:
        if fragment != "raid":
            return {}
        meaning = "The array is a physical volume of this volume group instead of having a file system."
        return {"vg": {"description": meaning, "$ref": "#/$defs/vg_name"}, **_META_SIZE}

    def readers(self, reader: Reader) -> Mapping[str, Read]:
        def group(value: dict[str, Any], path: str) -> VolumeGroup:
            volumes = (reader.volume(x, f"{path}.volumes[{i}]") for i, x in enumerate(value["volumes"]))
            return VolumeGroup(value["id"], tuple(_logical(x) for x in volumes if x), path=path)

        def volume(value: dict[str, Any], path: str) -> LogicalVolume:
            size = parse_size(value["size"])
            return LogicalVolume(size, reader.content(value, path), name=value["name"], path=path)

        def physical(value: dict[str, Any], path: str) -> Partition:
            content = reader.contained(value, path, _physical_volume(value, path, reader))
            return Partition(parse_size(value["size"]), content, path=path)

        def pool(value: dict[str, Any], path: str) -> None:
            reader.warnings.append(f"{path} is ignored: lvm_meta_pool")

        return {"vg": group, "lv": volume, "pv": physical, "lvm_meta_pool": pool}

    def contain(self, value: dict[str, Any], path: str, content: Content | None, reader: Reader) -> Content | None:
        if "vg" not in value or isinstance(content, PhysicalVolume):
            return content
        if content:
            message = "an array is a physical volume or has a file system, not both"
            reader.defects.append(Defect(f"{path}.vg", message))
        return _physical_volume(value, path, reader)

    def defects(self, deployment: Deployment) -> Iterator[Defect]:
        groups = [x for x in deployment.aggregates if isinstance(x, VolumeGroup)]
        members = [x for x in deployment.contents() if isinstance(x, PhysicalVolume)]
        first: dict[str, VolumeGroup] = {}
        for group in groups:
            if group.name in first:
                message = f"{group.name!r} is already the volume group of {first[group.name].path}"
                yield Defect(f"{group.path}.id", message)
            first.setdefault(group.name, group)
        for group in groups:
            if group.name in _NAMES_IN_DEV or re.fullmatch(_DISK_NAMES, group.name):
                message = f"/dev/{group.name} is something else: give the group another name"
                yield Defect(f"{group.path}.id", message)
        for member in members:
            if member.vg not in first:
                listed = ", ".join(map(repr, sorted(first))) or "none"
                yield Defect(f"{member.path}.vg", f"there is no volume group {member.vg!r}; there are: {listed}")
        for group in groups:
            if not any(member.vg == group.name for member in members):
                message = f"volume group {group.name!r} has no physical volume: no pv, and no raid, names it by 'vg'"
                yield Defect(group.path, message)
            yield from _names(group)

    def search(self, look: Look) -> Search:
        return _Search(look)

    def stop_device(self, device: str) -> bool:
        uuid = _group_of(Path(device).name)
        if uuid:
            tools.lvm.deactivate(uuid)
        return uuid is not None


def _layout_differences(found: LogicalVolumeFacts, comparison: Comparison) -> Iterator[str]:
    """Differences of a volume from a linear one: one that has its own blocks may go on as it is, no other one."""
    kinds = found.layout.split(",")
    if _OWN_BLOCKS.isdisjoint(kinds):
        yield f"{found.device}: expected a linear logical volume, found one that is {found.layout}"
    elif "linear" not in kinds:
        comparison.warn(f"{found.device}: expected a linear logical volume, found {found.layout}; it is kept")
    if found.health:
        yield f"{found.device}: LVM says that it is not well ({found.health}); mend it first, see lvs(8)"


def _names(group: VolumeGroup) -> Iterator[Defect]:
    first: dict[str, LogicalVolume] = {}
    for volume in group.volumes:
        if volume.name in first:
            yield Defect(f"{volume.path}.name", f"{volume.name!r} is already the name of {first[volume.name].path}")
        first.setdefault(volume.name, volume)
    for volume in group.volumes:
        if volume.name.startswith(_RESERVED) or any(part in volume.name for part in _RESERVED_PARTS):
            yield Defect(f"{volume.path}.name", f"LVM keeps the name {volume.name!r} for itself")
        if len(f"{group.name}{volume.name}".replace("-", "--")) + 1 > _LONGEST_DEVICE_NAME:
            yield Defect(f"{volume.path}.name", "the names of group and volume are too long together")


class _Search(Search):
    """Volume groups by LVM's own report, asked again when devices have come to light on which there may be more."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._asked: int | None = None
        self._tried: set[str] = set()
        self._groups: dict[str, VolumeGroupFacts] = {}

    def go_on(self, *, sure: bool) -> bool:
        members, nested = self._look.devices(SIGNATURE), self._look.nested
        # What is in partitions of an array is not known, so LVM is asked wherever there is an array.
        ask = members or (nested and not sure and not tools.device.missing(PROGRAMS))
        if not ask or self._asked == nested:
            return False
        if absent := tools.device.missing(PROGRAMS):
            raise UnsuitableNode(f"there is LVM on the disks, and {', '.join(absent)} is not installed to read it")
        self._asked = nested
        report = tools.lvm.report()
        for group in report.groups:
            self._take(group, report)
        return True

    def _take(self, group: tools.lvm.Group, report: tools.lvm.Report) -> None:
        """A group with what can be seen in its volumes, activated where nothing is yet."""
        members = [volume.device for volume in report.physical if volume.group_uuid == group.uuid]
        present = [x for x in members if x.startswith("/")]
        volumes = [volume for volume in report.volumes if volume.group_uuid == group.uuid]
        unique = sum(other.name == group.name for other in report.groups) == 1
        looked_at = any(volume.active for volume in volumes)
        if volumes and not looked_at and unique and len(present) == len(members) and group.uuid not in self._tried:
            looked_at = self._activated(group, [f"/dev/{group.name}/{volume.name}" for volume in volumes])
        # At a second look it may be active because of the first.
        before = {x.name: x.active for x in self._groups[group.uuid].volumes} if group.uuid in self._groups else {}
        found = (self._volume(group.name, x, looked_at, before.get(x.name, x.active)) for x in volumes)
        self._groups[group.uuid] = VolumeGroupFacts(
            name=group.name,
            uuid=group.uuid,
            size=group.size,
            extent=group.extent,
            members=tuple(present),
            missing=len(members) - len(present),
            volumes=tuple(found),
        )

    def _activated(self, group: tools.lvm.Group, volumes: Sequence[str]) -> bool:
        self._tried.add(group.uuid)
        try:
            tools.lvm.activate(group.name, read_only=True)
        except CommandError as error:
            LOG.warning("volume group %s cannot be activated: %s", group.name, error)
        self._look.begun(_Started(group.name, group.uuid, tuple(map(tools.device.kernel_name, volumes))))
        with contextlib.suppress(CommandError):  # udev may be about to start an array on a volume
            tools.udev.settle()
        return group.uuid in _active()

    def _volume(self, group: str, volume: tools.lvm.Volume, looked_at: bool, active: bool) -> LogicalVolumeFacts:
        device = f"/dev/{group}/{volume.name}"
        # A pool offers nothing by itself.
        visible = looked_at and "pool" not in volume.layout.split(",") and _is_there(device)
        content = self._look.content(device) if visible else None
        if content:
            self._look.offer(device, content)
        return LogicalVolumeFacts(
            *(volume.name, device, volume.size, active, content), layout=volume.layout, health=volume.health
        )

    def found(self) -> Sequence[VolumeGroupFacts]:
        # An array goes by its name: the kernel's number for it is another one at the next start.
        return [
            replace(group, members=tuple(sorted(map(self._look.name_of, group.members))))
            for group in self._groups.values()
        ]

    def as_left(self, found: Sequence[Found]) -> Sequence[Found]:
        active = {(x.group_uuid, x.name) for x in tools.lvm.report().volumes if x.active} if found else set()
        return [
            replace(x, volumes=tuple(replace(v, active=(x.uuid, v.name) in active) for v in x.volumes))
            for x in found
            if isinstance(x, VolumeGroupFacts)
        ]


@dataclass(frozen=True)
class _Started:
    """A volume group that was activated."""

    name: str
    uuid: str
    devices: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"volume group {self.name}"

    def runs(self) -> bool:
        return self.uuid in _active()

    def stop(self) -> None:
        tools.lvm.deactivate(self.uuid)


def _active() -> set[str]:
    """The UUIDs of the groups of which a volume is active."""
    return {uuid for path in SYS.glob("dm-*") if (uuid := _group_of(path.name))}


def _group_of(name: str) -> str | None:
    """The UUID of the group that a device of the device mapper belongs to, as LVM prints it."""
    try:
        text = (SYS / name / "dm/uuid").read_text().strip()
    except OSError:
        return None  # it is no such device, or went meanwhile
    if not text.startswith("LVM-"):
        return None
    plain, parts = text.removeprefix("LVM-")[:32], []
    for length in (6, 4, 4, 4, 4, 4, 6):
        parts.append(plain[:length])
        plain = plain[length:]
    return "-".join(parts)


def _is_there(device: str) -> bool:
    return Path(device).exists()


KIND = _Lvm()
