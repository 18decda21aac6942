# SPDX-License-Identifier: Apache-2.0
"""Wanted physical volumes, volume groups and logical volumes, and the schema of an input for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from bareon.errors import Defect
from bareon.sizes import MIB, Absolute, mib, parse_size, round_down, round_up
from bareon.storage import filesystem
from bareon.storage.allocate import Request
from bareon.storage.disk import Partition
from bareon.storage.identifier import Identifiers
from bareon.storage.kind import Aggregate, Content, Device, Fragment, Key, Place, Read, Reader, Volume
from bareon.storage.lvm.planned import PlannedGroup, PlannedPhysicalVolume, PlannedVolume
from bareon.storage.lvm.pool import thin_sizes
from bareon.storage.lvm.room import Asked, grant
from bareon.storage.lvm.segment import EXTENT, SEGMENT_TYPES, Segment, segment

LINUX_LVM = "E6D6D379-F507-44C2-A23C-238F2A3DF928"
"""The partition type GUID of a physical volume; Discoverable Partitions Specification."""

METADATA = MIB  # bytes of each physical volume that LVM takes with its defaults
LEAST_METADATA = 10 * MIB  # bytes, where a size is given

META_SIZE = {"lvm_meta_size": {"$ref": "#/$defs/lvm_meta_size"}}
_PV: Mapping[str, Any] = {
    "description": "A partition that is a physical volume of a volume group.",
    "type": "object",
    "required": ["type", "size", "vg"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["pv"]},
        "size": {"$ref": "#/$defs/size"},
        "vg": {"$ref": "#/$defs/vg_name"},
        **META_SIZE,
        "keep_data": {
            "description": "Accepted: what is kept is decided by the volumes of the group.",
            "type": "boolean",
        },
    },
}
_TAGS: Mapping[str, Any] = {
    "description": "Tags, by which programs of LVM can select it.",
    "type": "array",
    "items": {
        "type": "string",
        "maxLength": 1024,
        "pattern": "^[A-Za-z0-9_+./=!:&#][A-Za-z0-9_+./=!:&#-]*$",
        "x-pattern": "a tag for LVM: letters, digits and _ + . - / = ! : & # only, not beginning with a hyphen",
    },
    "uniqueItems": True,
}
_VG: Mapping[str, Any] = {
    "description": "A volume group over the physical volumes that name it.",
    "type": "object",
    "required": ["type", "id", "volumes"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["vg"]},
        "id": {"$ref": "#/$defs/vg_name"},
        "tags": _TAGS,
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
        "kind": {
            "description": "How it lies on the physical volumes of the group: linear, anywhere; striped, in turn on"
            " several; raid1, with copies; raid5, in stripes with parity; raid10, in stripes with copies. Each"
            " stripe, copy and parity has a physical volume of its own. The size is that without copies and parity."
            " A thin-pool holds no file system, but volumes that are thin: these take of it what is written to them."
            " Default: linear.",
            "enum": list(SEGMENT_TYPES),
        },
        "stripes": {
            "description": "The number of stripes with data, of a volume that has stripes. Default: as many as there"
            " are physical volumes for, but at least two.",
            "type": "integer",
            "minimum": 2,
            "maximum": 64,
        },
        "mirrors": {
            "description": "The number of copies besides the first one, as lvcreate counts them, of a volume that has"
            " copies; 1 at most for raid10. Default: 1.",
            "type": "integer",
            "minimum": 1,
            "maximum": 9,
        },
        "pool": {
            "description": "The name of the thin pool in the same group that holds a thin volume. A percentage as"
            " its size is one of the pool, and 'remaining' what the other volumes leave of it; all of them together"
            " may be larger than the pool, with a warning.",
            "type": "string",
        },
        "tags": _TAGS,
        **filesystem.fields(),
    },
}
_POOL: Mapping[str, Any] = {"description": "Accepted and ignored.", "deprecated": True, "type": "object"}

FRAGMENTS = (
    Fragment("entry", "vg", ("vg",), _VG),
    Fragment("volume", "pv", ("pv",), _PV),
    Fragment("volume", "lvm_meta_pool", ("lvm_meta_pool",), _POOL),
    Fragment("lv_entry", "lv", ("lv",), _LV),
)
"""Schemas of the volumes of an input."""


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
    """A logical volume that shall be, of a kind of :data:`SEGMENT_TYPES`.

    How many ``stripes`` it has, and ``mirrors`` besides the first copy, is ``None`` where the input does not say, and
    so is ``pool``, the name of the thin pool that it is in.
    """

    name: str = field(kw_only=True)
    kind: str = field(default="linear", kw_only=True)
    stripes: int | None = field(default=None, kw_only=True)
    mirrors: int | None = field(default=None, kw_only=True)
    pool: str | None = field(default=None, kw_only=True)
    tags: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class VolumeGroup(Aggregate):
    """A volume group. Its physical volumes name it by ``vg``."""

    volumes: tuple[LogicalVolume, ...]
    tags: tuple[str, ...] = field(default=(), kw_only=True)

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
        rooms = [max(0, round_down(x.size - x.metadata - x.backup, EXTENT)) for x in physical]
        thick = [x for x in self.volumes if x.kind != "thin"]
        segments = [segment(x.kind, x.stripes, x.mirrors, len(physical)) for x in thick]
        asked = (Asked(x.size, f"{x.path}.size", y) for x, y in zip(thick, segments, strict=True))
        granted = grant(rooms, list(asked))
        on = (tuple(physical[number].device for number in x.on) for x in granted)
        made = {
            wanted.name: self._planned(wanted, shape, room.size, over, identifiers)
            for wanted, shape, room, over in zip(thick, segments, granted, on, strict=True)
        }
        for pool in [x.name for x in thick if x.kind == "thin-pool"]:
            made |= self._in_pool(made[pool], identifiers)
        volumes = tuple(made[x.name] for x in self.volumes if x.name in made)
        return PlannedGroup(self.name, sum(rooms), EXTENT, physical, volumes, self.tags)

    def _in_pool(self, pool: PlannedVolume, identifiers: Identifiers) -> dict[str, PlannedVolume]:
        """The volumes of a thin pool, by name."""
        held = [x for x in self.volumes if x.kind == "thin" and x.pool == pool.name]
        sizes = thin_sizes(pool.size, [Request(x.size, f"{x.path}.size") for x in held])
        return {
            x.name: self._planned(x, Segment("thin"), size, (), identifiers)
            for x, size in zip(held, sizes, strict=True)
        }

    def _planned(
        self, wanted: LogicalVolume, shape: Segment, size: int, on: tuple[str, ...], identifiers: Identifiers
    ) -> PlannedVolume:
        place = Place(f"/dev/{self.name}/{wanted.name}", size, f"{wanted.path}.size", identifiers)
        content = wanted.content.plan(place) if wanted.content else None
        pool = wanted.pool or ""
        return PlannedVolume(place.device, size, wanted.name, shape, on, wanted.tags, pool, content=content)


def physical_volume(value: dict[str, Any], path: str, reader: Reader) -> PhysicalVolume:
    """The physical volume that an item of an input describes."""
    metadata = None
    if "lvm_meta_size" in value:
        size = parse_size(value["lvm_meta_size"])
        assert isinstance(size, Absolute)  # by its schema
        metadata = round_up(size.size)
        if metadata < LEAST_METADATA:
            reader.defects.append(Defect(f"{path}.lvm_meta_size", f"must be at least {mib(LEAST_METADATA)}"))
    return PhysicalVolume(value["vg"], metadata, path=path)


def readers(reader: Reader) -> Mapping[str, Read]:
    """The functions that read the volumes of :data:`FRAGMENTS`, by ``type``."""

    def group(value: dict[str, Any], path: str) -> VolumeGroup:
        volumes = (reader.volume(x, f"{path}.volumes[{i}]") for i, x in enumerate(value["volumes"]))
        found = tuple(_logical(x) for x in volumes if x)
        return VolumeGroup(value["id"], found, tags=tuple(value.get("tags", ())), path=path)

    def volume(value: dict[str, Any], path: str) -> LogicalVolume:
        return LogicalVolume(
            parse_size(value["size"]),
            reader.content(value, path),
            name=value["name"],
            kind=value.get("kind", "linear"),
            stripes=value.get("stripes"),
            mirrors=value.get("mirrors"),
            pool=value.get("pool"),
            tags=tuple(value.get("tags", ())),
            path=path,
        )

    def physical(value: dict[str, Any], path: str) -> Partition:
        content = reader.contained(value, path, physical_volume(value, path, reader))
        return Partition(parse_size(value["size"]), content, path=path)

    def pool(value: dict[str, Any], path: str) -> None:
        reader.warnings.append(f"{path} is ignored: lvm_meta_pool")

    return {"vg": group, "lv": volume, "pv": physical, "lvm_meta_pool": pool}


def _logical(volume: Volume) -> LogicalVolume:
    """The volume, which no other kind can have put into a group."""
    if not isinstance(volume, LogicalVolume):
        raise TypeError(f"{volume.path} is no logical volume")
    return volume
