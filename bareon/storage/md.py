# SPDX-License-Identifier: Apache-2.0
"""md RAID arrays; md(4). A new level is a row of :data:`LEVELS`."""

from __future__ import annotations

import contextlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bareon import tools
from bareon.errors import ActionFailed, CommandError, Defect, UnsuitableNode
from bareon.sizes import KIB, MIB, Size, human, mib, parse_size, round_down
from bareon.step import Outcome, Progress, Step
from bareon.storage import filesystem, schema
from bareon.storage.allocate import DoesNotFit
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
    cells,
    words,
)
from bareon.storage.schema import Schema

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment

LOG = logging.getLogger(__name__)

SIGNATURE = "linux_raid_member"
LINUX_RAID = "A19D880F-05FC-4D3B-A006-743F0F84911E"
"""The partition type GUID of a member; Discoverable Partitions Specification."""

SYS = Path("/sys/class/block")
PROGRAMS = ("mdadm",)
DATA_OFFSET = 2 * MIB  # bytes at the start of each member: superblock, bitmap
CHUNK = 512 * KIB  # bytes, mdadm's default for striped levels
TOLERANCE = MIB  # bytes that the size of an array may be off
METADATA = "1.2"
HOMEHOST = "any"  # mdadm's word for every host
LONGEST = 31  # characters of host and name in a superblock; of what is longer mdadm leaves out the host, unasked

# What mdadm takes as a name without a host's, and the schemas allow for ``name``.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}"


@dataclass(frozen=True)
class Level:
    """Properties of a RAID level: the ``fewest`` members that mdadm takes, spares not counted, what members of
    ``component`` bytes each offer together, by which module GRUB reads it beside that for md itself, whether it can
    do without one of its members, so that a spare is of use, and the kernel's module, where that has another name.
    """

    fewest: int
    offers: Callable[[int, int], int]
    grub_module: str | None = None
    redundant: bool = True
    module: str | None = None


LEVELS: dict[str, Level] = {
    "raid0": Level(2, lambda count, component: count * component, redundant=False),
    "raid1": Level(2, lambda count, component: component),
    "raid4": Level(3, lambda count, component: (count - 1) * component, "raid5rec", module="raid456"),
    "raid5": Level(3, lambda count, component: (count - 1) * component, "raid5rec", module="raid456"),
    "raid6": Level(4, lambda count, component: (count - 2) * component, "raid6rec", module="raid456"),
    # Two copies of each chunk, laid over the members in turn.
    "raid10": Level(2, lambda count, component: component // CHUNK * count // 2 * CHUNK),
}


def component(sizes: Sequence[int]) -> int:
    """Component size: bytes that an array uses of each of its members, as much as the smallest has, in whole MiB."""
    return max(0, round_down(min(sizes) - DATA_OFFSET))


def array_size(level: str, sizes: Sequence[int]) -> int:
    """Size in bytes of an array over members of ``sizes`` bytes; md(4)."""
    if level == "raid0":  # the only one that uses all of members of different sizes
        return sum(max(0, round_down(size - DATA_OFFSET)) for size in sizes)
    return LEVELS[level].offers(len(sizes), component(sizes))


# Wanted.

_RAID: Mapping[str, Any] = {
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


# Planned.


@dataclass(frozen=True)
class PlannedMember(PlannedContent):
    """A member of the array of that name, or a spare of it."""

    array: str
    spare: bool = False

    @property
    def joins(self) -> Key:
        return "md", self.array

    @property
    def signature(self) -> Signature:
        return Signature(SIGNATURE)

    def differences(self, found: Signature | None, comparison: Comparison) -> Iterator[str]:
        yield from ()  # the array is compared as a whole

    def adopted(self, found: Signature | None, comparison: Comparison) -> PlannedMember:
        return replace(self, decision="keep")


@dataclass(frozen=True)
class PlannedArray(PlannedAggregate):
    """An md array over devices. ``component`` is what it uses of each, in bytes; ``device`` is what it offers.

    ``spares`` are members that stand by; which of them do is no difference, as it changes when one fails. What of
    ``metadata``, ``bitmap`` and ``homehost`` is ``None`` was not asked for: a new array has it as it is best, a kept
    one as it is. ``runs_as`` is the device of one that runs under another name than its own.
    """

    level: str
    over: tuple[str, ...]
    component: int
    uuid: str
    device: Device
    spares: tuple[str, ...] = ()
    metadata: str | None = None
    bitmap: bool | None = None
    homehost: str | None = None
    runs_as: str | None = None

    @property
    def has_bitmap(self) -> bool:
        """True where it has a write-intent bitmap."""
        return LEVELS[self.level].redundant if self.bitmap is None else self.bitmap

    @property
    def kind(self) -> Kind:
        return KIND

    @property
    def members(self) -> tuple[str, ...]:
        return (*self.over, *self.spares)

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self.device,)

    @property
    def lasting(self) -> Mapping[str, str]:
        # udev's link, of mdadm's own rules. An array of somebody else's disk may have the name at the next start.
        return {self.device.device: f"/dev/disk/by-id/md-uuid-{self.uuid}"}

    @property
    def system(self) -> System:
        module = LEVELS[self.level].grub_module
        line = f"ARRAY {self.device.device} UUID={self.uuid}"
        modules = ("mdraid1x", "diskfilter", *([module] if module else []))
        return System(
            modules,
            mdadm_conf=(line,),
            kernel_arguments=(f"rd.md.uuid={self.uuid}",),
            modules=(LEVELS[self.level].module or self.level,),
            programs=(("mdadm",),),
        )

    @property
    def programs(self) -> tuple[str, ...]:
        return PROGRAMS

    def means(self, found: Found) -> bool:
        return isinstance(found, ArrayFacts) and found.name == self.name

    def clash(self, found: Found) -> str:
        return f"an array {self.name} is already on {', '.join(found.stands_on)}"

    def differences(self, comparison: Comparison) -> Iterator[str]:
        name = self.device.device
        found = [x for x in comparison.found(ArrayFacts) if self.means(x)]
        if len(found) != 1:
            yield f"{name}: expected an array over {_listed(self.members)}, found {len(found) or 'none'}"
            return
        array = found[0]
        for other in comparison.found(ArrayFacts, everywhere=True):
            if self.means(other) and other is not array:  # one of the two has the name; nobody can say which, later
                yield f"{name}: expected no other array of this name, found one over {_listed(other.members)}"
        if array.level != self.level:
            yield f"{name}: expected {self.level}, found {array.level}"
        gone = set(self.members) - set(array.members)
        if set(array.members) - set(self.members) or (gone and not array.missing):
            yield f"{name}: expected the members {_listed(self.members)}, found {_listed(array.members)}"
        if array.missing:
            yield f"{name}: {array.degraded(gone)}"
        if array.task == "reshape":
            yield f"{name}: is being reshaped{array.done}; {array.wait}"
        if self.metadata and array.metadata and array.metadata != self.metadata:
            yield f"{name}: expected metadata {self.metadata}, found {array.metadata}"
        if array.count != len(self.over):
            yield f"{name}: expected {len(self.over)} members in use, found a place for {array.count}"
        if array.size is not None and abs(array.size - self.device.size) > TOLERANCE:
            yield f"{name}: expected {mib(self.device.size)}, found {mib(array.size)}"
        yield from comparison.differences(self.device, array.content)

    def adopted(self, comparison: Comparison) -> PlannedArray:
        found = next(x for x in comparison.found(ArrayFacts) if self.means(x))
        for notice in self._noticed(found):
            comparison.warn(f"{self.device.device}: {notice}")
        device = comparison.adopted(self.device, found.content)
        return replace(
            self,
            uuid=found.uuid,
            device=device,
            decision=device.decision,
            metadata=found.metadata,
            bitmap=found.bitmap,
            homehost=found.homehost,
            runs_as=found.runs_as,
        )

    def _noticed(self, found: ArrayFacts) -> Iterator[str]:
        """What is not as asked for, but harms nothing, in words."""
        if self.bitmap is not None and found.bitmap not in (None, self.bitmap):
            change = f"mdadm --grow --bitmap={'internal' if self.bitmap else 'none'}"
            yield f"it has {'a' if found.bitmap else 'no'} write-intent bitmap, and stays so; {change} changes it"
        if self.homehost and found.homehost != self.homehost:
            yield f"its homehost is {found.homehost or 'not known'}, not {self.homehost}, and stays so"
        if found.out_of_step:
            yield f"{_listed(found.out_of_step)} is out of use, and no spare any more"

    def make(self, action: str) -> Iterator[Step]:
        yield MakeArray(action, self)

    def start(self, action: str) -> Iterator[Step]:
        yield NameArray(action, self, self.runs_as) if self.runs_as else StartArray(action, self)

    def view(self) -> View:
        content = self.device.content
        purpose = f"volume group {content.member_of}" if content and content.member_of else "-"
        kind, point = cells(content)
        row = (human(self.device.size), purpose if kind == "-" else kind, point, self.decision)
        title = f"{self.device.device}  ({self.level}, {human(self.device.size)}, on {_over(self)})"
        return View(title, ("size", "file system", "mount", "decision"), (row,))

    def document(self) -> dict[str, Any]:
        content = self.device.content
        return {
            "name": self.device.device,
            "level": self.level,
            "members": list(self.members),
            "spares": list(self.spares),
            "size": self.device.size,
            "md_uuid": self.uuid,
            "metadata": self.metadata or METADATA,
            "bitmap": self.has_bitmap,
            "homehost": self.homehost or HOMEHOST,
            "volume_group": content.member_of if content else None,
            **filesystem.document(content),
            "decision": self.decision,
        }

    def found(self) -> ArrayFacts:
        content = self.device.content
        return ArrayFacts(
            name=self.name,
            uuid=self.uuid,
            level=self.level,
            count=len(self.over),
            members=tuple(sorted(self.members)),
            alias=self.device.device,
            size=self.device.size,
            content=content.signature if content else None,
            metadata=self.metadata or METADATA,
            bitmap=self.has_bitmap,
            homehost=self.homehost or HOMEHOST,
        )


def _over(array: PlannedArray) -> str:
    spares = f", spare {', '.join(array.spares)}" if array.spares else ""
    return f"{', '.join(array.over)}{spares}"


def _listed(devices: Collection[str]) -> str:
    return ", ".join(sorted(devices)) or "none"


@dataclass(frozen=True)
class MakeArray(Step):
    """Make an array with the UUID that was decided for it."""

    array: PlannedArray

    @property
    def description(self) -> str:
        array = self.array
        size = human(array.device.size)
        return f"Make {array.level} {array.device.device} ({size}) of {_over(array)}"

    def run(self, progress: Progress) -> Outcome:
        array, device = self.array, self.array.device.device
        tools.mdadm.create(
            device,
            array.name,
            array.level,
            array.uuid,
            array.over,
            DATA_OFFSET,
            array.component,
            CHUNK,
            array.spares,
            metadata=array.metadata or METADATA,
            bitmap=array.has_bitmap,
            homehost=array.homehost or HOMEHOST,
        )
        # A wrong size would only be seen when the file system is full.
        tools.udev.wait_for({device: array.device.size})
        # What an earlier array left at the same place must not come back to life.
        tools.device.wipe([device])
        found = tools.mdadm.detail(device)
        if found is None or (found.level, found.count) != (array.level, len(array.over)):
            raise ActionFailed(f"{device}: mdadm reads back {found}, not {array}")
        return {"bytes": array.device.size}


@dataclass(frozen=True)
class StartArray(Step):
    """Start an array that is kept."""

    array: PlannedArray

    @property
    def description(self) -> str:
        return f"Start array {self.array.device.device}"

    def run(self, progress: Progress) -> Outcome:
        device = self.array.device.device
        tools.mdadm.assemble(device, self.array.uuid, self.array.members)
        tools.udev.wait_for({device: None})
        return {}


@dataclass(frozen=True)
class NameArray(Step):
    """Give an array that runs as ``runs_as`` the name below ``/dev/md`` that is its own.

    It is not stopped for that, since volume groups may be active on it.
    """

    array: PlannedArray
    runs_as: str

    @property
    def description(self) -> str:
        return f"Name array {self.runs_as} {self.array.device.device}"

    def run(self, progress: Progress) -> Outcome:
        device = self.array.device.device
        found = tools.mdadm.detail(self.runs_as)
        if found is None or found.uuid != self.array.uuid:
            raise ActionFailed(f"{self.runs_as}: it is no longer array {self.array.name}")
        tools.device.link(device, self.runs_as)
        tools.udev.wait_for({device: None})
        return {}


# Found.


@dataclass(frozen=True)
class ArrayFacts(Found):
    """An md array. ``device`` and ``size`` are those of the running array, ``None`` where it is not running.

    ``count`` is the number of members it should have, ``members`` those that are there. Names need not be unique;
    ``alias`` is, and stands for the array among the members of a volume group: ``/dev/md/`` and its name, or its UUID
    where another array has the same name. ``runs_as`` is ``device`` where it runs, but not as its name says.

    What shows only while it runs: ``missing`` is the number of places without a member in step, ``out_of_step`` are
    the members that have failed or are stale, ``rebuilt`` those that are being brought into step; ``task`` is
    ``recover``, ``reshape`` or the like, of which ``percent`` are done. ``metadata``, ``bitmap`` and ``homehost``
    are ``None`` where they are not known.
    """

    name: str
    uuid: str
    level: str
    count: int
    members: tuple[str, ...]
    alias: str
    device: str | None = None
    size: int | None = None
    content: Signature | None = None
    metadata: str | None = None
    bitmap: bool | None = None
    homehost: str | None = None
    runs_as: str | None = None
    missing: int = 0
    out_of_step: tuple[str, ...] = ()
    rebuilt: tuple[str, ...] = ()
    task: str | None = None
    percent: int | None = None

    @property
    def done(self) -> str:
        """How far its task is, in words that can follow others."""
        return f" ({self.percent}% done)" if self.percent is not None else ""

    @property
    def wait(self) -> str:
        """What to wait for, in words."""
        start = "" if self.running else "it goes on once the array runs (mdadm --assemble --scan): "
        return f"{start}wait until 'mdadm --wait {self.device or self.alias}' returns"

    def degraded(self, gone: Collection[str]) -> str:
        """What is missing, in words, and what would mend it; the members ``gone`` are not there at all."""
        words = [f"is degraded, {self.missing} of {self.count} members missing"]
        words += [f"not there: {_listed(gone)}"] if gone else []
        words += [f"failed or stale: {_listed(self.out_of_step)}"] if self.out_of_step else []
        if self.rebuilt:
            words += [f"{_listed(self.rebuilt)} is being rebuilt{self.done}", self.wait]
        else:
            words.append(f"add what is to take the place: mdadm --manage {self.device or self.alias} --add DEVICE")
        return "; ".join(words)

    @property
    def title(self) -> str:
        return f"array {self.name}"

    @property
    def words(self) -> str:
        return f"{self.title} ({words(self.content)})"

    @property
    def stands_on(self) -> tuple[str, ...]:
        return self.members

    @property
    def offers(self) -> tuple[tuple[str, Signature | None], ...]:
        return ((self.alias, self.content),)

    @property
    def running(self) -> bool:
        return self.device is not None

    @property
    def usable(self) -> bool:
        return self.running and self.runs_as is None

    @property
    def plausible(self) -> Iterator[tuple[str, str, bool]]:
        figures = (self.count, self.size or 0, self.missing, self.percent or 0)
        yield "", self.device or "/dev/", min(figures) >= 0

    def stop(self, action: str) -> Iterator[Step]:
        yield StopArray(action, self.name, str(self.device))


@dataclass(frozen=True)
class StopArray(Step):
    """Stop an array, so that its members are free."""

    name: str
    device: str

    @property
    def description(self) -> str:
        return f"Stop array {self.name} ({self.device})"

    def run(self, progress: Progress) -> Outcome:
        tools.mdadm.stop(self.device)
        return {}


# The kind.


class _Md(Kind):
    name = "md"
    noun = "array"
    section = "arrays"
    about_section = "md arrays"
    always = True
    roles = (RaidMember.role,)
    lsblk_types = ("linear", *LEVELS)
    found = ArrayFacts

    @property
    def fragments(self) -> tuple[Fragment, ...]:
        return (Fragment("volume", "raid", ("raid",), _RAID),)

    @property
    def plan_schema(self) -> Mapping[str, Schema]:
        return {
            "array": schema.record(
                "An md array of the plan.",
                {
                    "name": schema.string("Its device, such as /dev/md/boot."),
                    "level": schema.string("Its RAID level."),
                    "members": schema.items("The partitions it lies on, spares last."),
                    "spares": schema.items("Those of them that stand by for one that fails."),
                    "size": schema.count("What it offers."),
                    "md_uuid": schema.string("The UUID of the array itself."),
                    "metadata": schema.string("The version of its superblocks."),
                    "bitmap": schema.boolean("Whether it has a write-intent bitmap."),
                    "homehost": schema.string("The host that it is for; any for every host."),
                    "volume_group": schema.optional_string("The volume group that it is a physical volume of."),
                    **filesystem.planned_fields(),
                    "decision": schema.DECISION,
                },
            )
        }

    @property
    def facts_schema(self) -> Mapping[str, Schema]:
        return {
            "found_array": schema.record(
                "An md array as it was found.",
                {
                    "alias": schema.string("Its name below /dev/md."),
                    "level": schema.string("Its RAID level."),
                    "members": schema.items("The members that are there."),
                    "size": schema.count("What it offers; null when it is not running.", optional=True),
                    "content": schema.CONTENT,
                },
            )
        }

    def readers(self, reader: Reader) -> Mapping[str, Read]:
        arrays = Arrays(reader.aggregates, reader.defects)

        def read(value: dict[str, Any], path: str) -> Partition:
            return arrays.member(value, path, parse_size(value["size"]), reader.content(value, path))

        return {"raid": read}

    def defects(self, deployment: Deployment) -> Iterator[Defect]:
        first: dict[str, Array] = {}
        arrays = [x for x in deployment.aggregates if isinstance(x, Array)]
        for array in arrays:
            if array.name in first:
                message = f"the array of {first[array.name].path} is already called {array.name!r}"
                yield Defect(f"{array.path}.name", f"{message}: give one another name")
            first.setdefault(array.name, array)
        yield from _members(arrays, deployment)

    def search(self, look: Look) -> Search:
        return _Search(look)

    def stop_device(self, device: str) -> bool:
        if not (SYS / Path(device).name / "md").is_dir():
            return False
        tools.mdadm.stop(device)
        return True

    def about(self, item: Mapping[str, Any]) -> str:
        return str(item["level"])


def _members(arrays: Sequence[Array], deployment: Deployment) -> Iterator[Defect]:
    """Too few members, spares that are of no use, or two on one disk."""
    members = [content for content in deployment.contents() if isinstance(content, RaidMember)]
    counts = Counter(member.array for member in members if not member.spare)
    spares = {member.array: member.path for member in members if member.spare}
    for array in arrays:
        count, needed = counts[array.name], LEVELS[array.level].fewest
        if count < needed:
            beside = " beside its spares" if array.name in spares else ""
            yield Defect(array.path, f"{array.level} needs {needed} members or more{beside}, found {count}")
        if array.name in spares and not LEVELS[array.level].redundant:
            message = f"{array.level} is lost with any of its members, so that a spare is of no use"
            yield Defect(f"{spares[array.name]}.spare", message)
        yield from _options(array)
    known = {array.name for array in arrays}
    for disk in deployment.disks:
        first: dict[str, Partition] = {}
        for part in disk.volumes:
            if not isinstance(part.content, RaidMember) or part.content.array not in known:
                continue
            other = first.setdefault(part.content.array, part)
            if other is not part:
                message = f"a second member of array {part.content.array!r} on one disk, beside {other.path}"
                yield Defect(part.path, message)


def _options(array: Array) -> Iterator[Defect]:
    """What its level or its name do not go with."""
    if array.bitmap and not LEVELS[array.level].redundant:
        yield Defect(f"{array.path}.bitmap", f"{array.level} is never out of step, and has no write-intent bitmap")
    if array.metadata == "1.0" and array.level != "raid1":
        message = f"a member of {array.level} has no whole file system that anybody could read: 1.0 is for raid1"
        yield Defect(f"{array.path}.metadata", message)
    if array.homehost and len(f"{array.homehost}:{array.name}") > LONGEST:
        message = (
            f"with the name {array.name!r} and a colon it has more than the {LONGEST} characters of a superblock"
        )
        yield Defect(f"{array.path}.homehost", message)


class _Search(Search):
    """Arrays by the superblocks of their members; several members tell of one array."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._examined: set[str] = set()
        self._arrays: dict[str, tools.mdadm.Array] = {}
        self._members: dict[str, list[str]] = defaultdict(list)
        self._devices: dict[str, str] = {}  # kernel names of those that run now, by their UUIDs
        self._looked: dict[str, ArrayFacts] = {}

    def go_on(self, *, sure: bool) -> bool:
        return self._examine() | self._start(sure)

    def _examine(self) -> bool:
        new = [x for x in self._look.devices(SIGNATURE) if x not in self._examined]
        if new and (absent := tools.device.missing(PROGRAMS)):
            raise UnsuitableNode(
                f"there is md RAID on the disks, and {', '.join(absent)} is not installed to read it"
            )
        for device in new:
            self._examined.add(device)
            array = tools.mdadm.examine(device)
            if array is None:
                LOG.warning("%s: its md superblock cannot be read", device)
            elif array.level != "container":
                self._members[array.uuid].append(device)
                self._arrays.setdefault(array.uuid, array)
        return bool(new)

    def _start(self, sure: bool) -> bool:
        """Start arrays and look inside. Those with members missing wait: a member may be on what is to be started."""
        new = [
            x
            for x in self._arrays.values()
            if x.uuid not in self._looked and (len(self._members[x.uuid]) >= x.count or not sure)
        ]
        running = _running() if new else {}
        for array in new:
            members = tuple(sorted(self._members[array.uuid]))
            was = running.get(array.uuid)
            device = was or self._started(array, members)
            facts = ArrayFacts(array.name, array.uuid, array.level, array.count, members, "", was)
            facts = replace(facts, homehost=array.homehost, runs_as=_misnamed(array.name, was))
            if device:
                facts = replace(facts, size=_size(device), content=self._look.content(device))
                facts = self._with_state(facts, tools.mdadm.state(SYS / Path(device).name / "md"))
                self._devices[array.uuid] = device
                self._look.offer(device, facts.content, partitioned=True)
            self._looked[array.uuid] = facts
        return bool(new)

    def _with_state(self, facts: ArrayFacts, state: tools.mdadm.State) -> ArrayFacts:
        used = {*state.in_step, *state.spare, *state.rebuilt}
        kernel = {member: tools.device.kernel_name(member) for member in facts.members}
        return replace(
            facts,
            metadata=state.metadata,
            bitmap=state.bitmap,
            missing=state.missing,
            out_of_step=tuple(x for x in facts.members if used and kernel[x] not in used),
            rebuilt=tuple(x for x in facts.members if kernel[x] in state.rebuilt),
            task=state.task,
            percent=state.percent,
        )

    def _started(self, array: tools.mdadm.Array, members: Sequence[str]) -> str | None:
        """The kernel's name of an array that was started; ``None`` where it cannot be started."""
        link = f"/dev/md/{array.uuid.replace(':', '')}"
        try:
            tools.mdadm.assemble(link, array.uuid, members, read_only=True)
        except CommandError as error:
            LOG.warning("array %s cannot be started: %s", array.name, error)
            # It may be assembled in part, and hold its members.
            self._look.begun(_Started(array.name, array.uuid, tools.device.kernel_name(link)))
            return None
        device = tools.device.kernel_name(link)
        self._look.begun(_Started(array.name, array.uuid, device))
        return device

    def found(self) -> Sequence[ArrayFacts]:
        names = Counter(array.name for array in self._arrays.values())
        alias = {x.uuid: f"/dev/md/{x.name if names[x.name] == 1 else x.uuid}" for x in self._arrays.values()}
        for uuid, device in self._devices.items():
            self._look.name(device, alias[uuid])
        return [
            replace(
                self._looked[uuid],
                alias=alias[uuid],
                members=tuple(sorted(map(self._look.name_of, self._members[uuid]))),
                out_of_step=tuple(sorted(map(self._look.name_of, self._looked[uuid].out_of_step))),
                rebuilt=tuple(sorted(map(self._look.name_of, self._looked[uuid].rebuilt))),
            )
            for uuid in self._arrays
        ]

    def as_left(self, found: Sequence[Found]) -> Sequence[Found]:
        running = _running() if found else {}
        return [
            replace(x, device=(device := running.get(x.uuid)), runs_as=_misnamed(x.name, device))
            for x in found
            if isinstance(x, ArrayFacts)
        ]


@dataclass(frozen=True)
class _Started:
    """An array that was started, as ``device`` then."""

    name: str
    uuid: str
    device: str

    @property
    def title(self) -> str:
        return f"array {self.name}"

    @property
    def devices(self) -> tuple[str, ...]:
        return (self.device,)

    def runs(self) -> bool:
        return self._now() is not None

    def stop(self) -> None:
        tools.mdadm.stop(self._now() or self.device)

    def _now(self) -> str | None:
        """Its device now: udev may have started it again under another number."""
        state = SYS / Path(self.device).name / "md/array_state"
        with contextlib.suppress(OSError):
            if state.read_text().strip() != "clear":  # also one that was assembled in part, and does not run
                return self.device
        return _running().get(self.uuid)


def _running() -> dict[str, str]:
    """Devices of the running arrays by the arrays' UUIDs."""
    found = {}
    for entry in sorted(SYS.glob("md*")):
        if (entry / "md").is_dir() and (array := tools.mdadm.detail(f"/dev/{entry.name}")):
            found[array.uuid] = f"/dev/{entry.name}"
    return found


def _misnamed(name: str, device: str | None) -> str | None:
    """The device that an array runs as, where its name below ``/dev/md`` is none of that device."""
    return device if device and tools.device.kernel_name(f"/dev/md/{name}") != device else None


def _size(device: str) -> int:
    try:
        return tools.lsblk.size(device)
    except OSError as error:
        raise UnsuitableNode(f"{device} cannot be read: {error.strerror}") from None


KIND = _Md()
