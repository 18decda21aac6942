# SPDX-License-Identifier: Apache-2.0
"""Wanted members and arrays, and the schema of an input for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from bareon.errors import Defect
from bareon.sizes import Size, mib
from bareon.storage import filesystem
from bareon.storage.allocate import DoesNotFit
from bareon.storage.disk import Partition
from bareon.storage.identifier import Identifiers
from bareon.storage.kind import Aggregate, Content, Device, Key, Place
from bareon.storage.md.level import DATA_OFFSET, LEVELS, array_size, component
from bareon.storage.md.planned import PlannedArray, PlannedMember

LINUX_RAID = "A19D880F-05FC-4D3B-A006-743F0F84911E"
"""The partition type GUID of a member; Discoverable Partitions Specification."""

# What mdadm takes as a name without a host's, and the schemas allow for ``name``.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}"

RAID: Mapping[str, Any] = {
    "description": "A partition that is a member of an md array. The raid volumes with one mount point (or, without"
    " one, with one name) form an array; they must agree in all but their size.",
    "type": "object",
    "required": ["type", "size"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["raid"]},
        "size": {"$ref": "#/$defs/size"},
        **filesystem.fields(),
        "name": {
            "description": "The name of the array. Left out: made of the mount point (root, boot, var-lib).",
            "type": "string",
            "maxLength": 32,
            "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
            "x-pattern": "a name for an array: letters, digits and _ . - only",
        },
        "level": {
            "description": "The RAID level. Default: raid1.",
            "enum": [*LEVELS, *(int(level.removeprefix("raid")) for level in LEVELS)],
        },
        "spare": {
            "description": "true: a spare, which takes the place of a member that fails. Default: false.",
            "type": "boolean",
        },
        "metadata": {
            "description": "The version of the superblock. 1.0 has it at the end of each member, which then"
            " begins with the file system, so that firmware and others that know no md can read it; for raid1"
            " only. Default: 1.2, or whatever an array has that is kept.",
            "enum": ["1.0", "1.2"],
        },
        "bitmap": {
            "description": "Whether the array has a write-intent bitmap, by which only what was being written"
            " is brought into step after a crash, or when a member comes back. Default: true, but for raid0,"
            " which has none; an array that is kept keeps its own.",
            "type": "boolean",
        },
        "homehost": {
            "description": "The host that the array is for. Another host, unless told otherwise, gives the array's"
            " device another name. Default: any, which is every host.",
            "type": "string",
            "pattern": "^[A-Za-z0-9]([A-Za-z0-9.-]{0,28}[A-Za-z0-9])?$",
            "x-pattern": "the name of a host: letters, digits, . and - only",
        },
    },
}


@dataclass(frozen=True)
class RaidMember(Content):
    """A member of the array of that name, or a spare of it."""

    role: ClassVar[str] = "raid"
    array: str
    spare: bool = False

    @property
    def type_guid(self) -> str:
        return LINUX_RAID

    @property
    def joins(self) -> Key:
        return "md", self.array

    def mapped(self, change: Callable[[Content], Content]) -> RaidMember:
        return self

    def plan(self, place: Place) -> PlannedMember:
        return PlannedMember(place.device, place.size, self.array, self.spare)


@dataclass(frozen=True)
class Array(Aggregate):
    """An md array, and what it holds. Its members carry its name.

    What of ``metadata``, ``bitmap`` and ``homehost`` is ``None`` the input does not say.
    """

    level: str = "raid1"
    content: Content | None = None
    metadata: str | None = None
    bitmap: bool | None = None
    homehost: str | None = None

    @property
    def key(self) -> Key:
        return "md", self.name

    @property
    def contents(self) -> tuple[Content, ...]:
        return (self.content,) if self.content else ()

    def mapped(self, change: Callable[[Content], Content]) -> Array:
        return replace(self, content=self.content.mapped(change)) if self.content else self

    def plan(self, members: Sequence[Device], identifiers: Identifiers) -> PlannedArray:
        spares = [x for x in members if isinstance(x.content, PlannedMember) and x.content.spare]
        used = [member for member in members if member not in spares]
        # Whatever a spare has less than the others would keep it from taking the place of one.
        sizes = [min(member.size, *(spare.size for spare in spares)) if spares else member.size for member in used]
        size = array_size(self.level, sizes) if sizes else 0
        if size <= 0:
            raise DoesNotFit(self.path, f"its members have no room beside {mib(DATA_OFFSET)} of metadata each")
        place = Place(f"/dev/md/{self.name}", size, f"{self.path}.size", identifiers)
        device = Device(place.device, size, content=self.content.plan(place) if self.content else None)
        names, others = (tuple(member.device for member in listed) for listed in (used, spares))
        uuid = identifiers.array(self.name)
        return PlannedArray(
            self.name,
            self.level,
            names,
            component(sizes),
            uuid,
            device,
            others,
            metadata=self.metadata,
            bitmap=self.bitmap,
            homehost=self.homehost,
        )


class Arrays:
    """The arrays that the volumes of a document make up, collected from their members.

    :param found: takes the arrays, in the order of their first members.
    :param defects: takes the defects.
    """

    def __init__(self, found: list[Aggregate], defects: list[Defect]) -> None:
        self._found = found
        self._defects = defects
        self._by_key: dict[object, Array] = {}

    def member(self, value: dict[str, Any], path: str, size: Size, content: Content | None) -> Partition:
        """A member of an array, and the array it belongs to: that of its mount point and images, else of its name.

        :param content: of the array.
        """
        fs = filesystem.leaf(content)
        point = fs.point if fs else None
        key = (point, fs.images) if fs and point else (value.get("name"), None)
        level = value.get("level", "raid1")
        level = level if isinstance(level, str) else f"raid{int(level)}"
        given = {key: value.get(key) for key in ("metadata", "bitmap", "homehost")}
        array = Array(self._name(value, path, point), level, content, **given, path=path)
        if key not in self._by_key:
            self._by_key[key] = array
            self._found.append(array)
        first = self._by_key[key]
        if first != array:
            other = f"not as in {first.path}: the members of one array must agree in all but their size"
            self._defects.append(Defect(path, other))
        return Partition(size, RaidMember(first.name, value.get("spare", False), path=path), path=path)

    def _name(self, value: dict[str, Any], path: str, point: str | None) -> str:
        name = value.get("name") or (point.strip("/").replace("/", "-") or "root" if point else None)
        if name is None:
            self._defects.append(Defect(path, "a raid volume without a mount point needs a name, the array's"))
            return path
        if not re.fullmatch(_NAME, name):
            self._defects.append(Defect(path, f"{name!r} cannot be the name of an array: give it a 'name'"))
        return str(name)
