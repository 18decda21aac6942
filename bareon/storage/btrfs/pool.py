# SPDX-License-Identifier: Apache-2.0
"""A btrfs over several devices as an aggregate of them. A new level is a row of :data:`LEVELS`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from bareon import tools
from bareon.errors import Defect
from bareon.sizes import MIB, human, mib, parse_size
from bareon.step import Outcome, Progress, Step
from bareon.storage import filesystem
from bareon.storage.allocate import DoesNotFit
from bareon.storage.btrfs.filesystem import TYPE, Btrfs, PlannedBtrfs
from bareon.storage.btrfs.found import BtrfsFacts, alias
from bareon.storage.disk import Partition
from bareon.storage.filesystem import Filesystem
from bareon.storage.identifier import Identifiers
from bareon.storage.kind import (
    Aggregate,
    Comparison,
    Content,
    Device,
    Found,
    Key,
    Kind,
    Place,
    PlannedAggregate,
    PlannedMembership,
    Reader,
    Signature,
    System,
    View,
    cells,
)

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment

SMALLEST = 125 * MIB
"""Bytes of a device at least: the minimum of mkfs.btrfs for two profiles with copies or stripes."""
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}"
_PROFILES = ("-d", "-m", "-M")
"""The options of mkfs.btrfs that a level stands for, or that contradict it."""


@dataclass(frozen=True)
class Level:
    """A level: the ``fewest`` devices, the profile of ``metadata``, and what devices of some sizes offer together."""

    fewest: int
    metadata: str
    offers: Callable[[Sequence[int]], int]


def _striped(sizes: Sequence[int]) -> int:
    """As much as has room on two devices or more at a time."""
    *rest, second, largest = sorted(sizes)
    return sum(rest) + second + min(second, largest)


LEVELS: dict[str, Level] = {
    # Without a copy of the metadata, which are few, not even the names of what is lost would be known.
    "raid0": Level(2, "raid1", _striped),
    "raid1": Level(2, "raid1", lambda sizes: min(sum(sizes) // 2, sum(sizes) - max(sizes))),
    # At least; of devices of different sizes it may be more. With two or three of them it would be raid1.
    "raid10": Level(4, "raid10", lambda sizes: min(sizes) * len(sizes) // 2),
}


# Wanted.


def pool_schema() -> Mapping[str, Any]:
    """The schema of a partition that is one of the devices."""
    fields = {key: value for key, value in filesystem.fields().items() if key != "file_system"}
    return {
        "description": "A partition that is one of the devices of a btrfs over several. The btrfs volumes with one"
        " name are one file system; they must agree in all but their size.",
        "type": "object",
        "required": ["type", "size"],
        "additionalProperties": False,
        "properties": {
            "type": {"enum": [TYPE]},
            "size": {"$ref": "#/$defs/size"},
            **fields,
            "name": {
                "description": "What the devices are known by in the input; it is not written to any disk. Left out:"
                " made of the mount point (root, srv). Needed where there are subvolumes.",
                "type": "string",
                "maxLength": 32,
                "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
                "x-pattern": "a name for a btrfs: letters, digits and _ . - only",
            },
            "level": {
                "description": "The profile of the data: raid1 has two copies on different devices, raid10 stripes"
                " of such, raid0 stripes without a copy. The metadata have the same, but for raid0, where they have"
                " two copies. Default: raid1.",
                "enum": [*LEVELS],
            },
        },
    }


@dataclass(frozen=True)
class PoolMember(Content):
    """A device of the btrfs of that name."""

    role: ClassVar[str] = TYPE
    pool: str

    @property
    def joins(self) -> Key | None:
        return TYPE, self.pool

    def mapped(self, change: Callable[[Content], Content]) -> PoolMember:
        return self

    def plan(self, place: Place) -> PlannedPoolMember:
        if place.size < SMALLEST:
            message = f"{mib(place.size)} is too small for a device of a btrfs, which needs {mib(SMALLEST)}"
            raise DoesNotFit(place.path, message)
        return PlannedPoolMember(place.device, place.size, self.pool)


@dataclass(frozen=True)
class Pool(Aggregate):
    """A btrfs over several devices. Its members carry its name."""

    level: str = "raid1"
    content: Content | None = None

    @property
    def key(self) -> Key:
        return TYPE, self.name

    @property
    def contents(self) -> tuple[Content, ...]:
        return (self.content,) if self.content else ()

    def mapped(self, change: Callable[[Content], Content]) -> Pool:
        return replace(self, content=self.content.mapped(change)) if self.content else self

    def plan(self, members: Sequence[Device], identifiers: Identifiers) -> PlannedPool:
        assert isinstance(self.content, Btrfs)
        level, over = LEVELS[self.level], tuple(member.device for member in members)
        sizes = [member.size for member in members]
        # With too few of them, which is said elsewhere, nothing depends on it.
        size = level.offers(sizes) if len(sizes) >= level.fewest else sum(sizes)
        uuid = identifiers.filesystem(TYPE, self.name)
        profiles = (self.level, level.metadata)
        content = PlannedBtrfs(alias(uuid), size, TYPE, uuid, self.content, over=over, profiles=profiles)
        return PlannedPool(self.name, self.level, over, Device(alias(uuid), size, content=content))


class Pools:
    """The pools that the volumes of a document make up, collected from their members by their names."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._by_name: dict[str, Pool] = {}

    def member(self, value: dict[str, Any], path: str) -> Partition:
        """A device of a btrfs, and that which it belongs to."""
        content = self._reader.content({**value, "file_system": TYPE}, path)
        level = value.get("level", "raid1")
        name = self._name(value, path, filesystem.leaf(content))
        if isinstance(content, Filesystem):
            content = Btrfs(**{**vars(content), "level": level})
        pool = Pool(name, level, content, path=path)
        if name not in self._by_name:
            self._by_name[name] = pool
            self._reader.aggregates.append(pool)
        first = self._by_name[name]
        if first != pool:
            other = f"not as in {first.path}: the devices of one btrfs must agree in all but their size"
            self._reader.defects.append(Defect(path, f"{other}; give another one another name"))
        return Partition(parse_size(value["size"]), PoolMember(name, path=path), path=path)

    def _name(self, value: dict[str, Any], path: str, fs: Filesystem | None) -> str:
        point = None if "subvolumes" in value or not fs else fs.point
        name = value.get("name") or (point.strip("/").replace("/", "-") or "root" if point else None)
        if name is None:
            message = "a btrfs over several devices without a mount point of its own needs a name"
            self._reader.defects.append(Defect(path, message))
            return path
        if not re.fullmatch(_NAME, name):
            message = f"{name!r} cannot be the name of a btrfs: give it a 'name'"
            self._reader.defects.append(Defect(path, message))
        return str(name)


def pool_defects(deployment: Deployment) -> Iterator[Defect]:
    """Too few devices, two on one disk, and options that no such btrfs can have."""
    pools = {x.name: x for x in deployment.aggregates if isinstance(x, Pool)}
    counts = Counter(x.pool for x in deployment.contents() if isinstance(x, PoolMember))
    for pool in pools.values():
        fewest = LEVELS[pool.level].fewest
        if counts[pool.name] < fewest:
            message = f"a btrfs of {pool.level} needs {fewest} devices or more, found {counts[pool.name]}"
            yield Defect(pool.path, message)
        yield from _options(pool)
    for disk in deployment.disks:
        first: dict[str, Partition] = {}
        for part in disk.volumes:
            if isinstance(part.content, PoolMember):
                other = first.setdefault(part.content.pool, part)
                if other is not part:
                    message = f"a second device of btrfs {part.content.pool!r} on one disk, beside {other.path}"
                    yield Defect(part.path, message)


def _options(pool: Pool) -> Iterator[Defect]:
    fs = filesystem.leaf(pool.content)
    if not fs:
        return
    for number, item in enumerate(fs.mkfs_options):
        if (option := item.partition(" ")[0]) in _PROFILES:
            yield Defect(f"{fs.path}.mkfs_options[{number}]", f"{option} is what 'level' stands for: give that")
    for mount in fs.mounts:
        if "degraded" in mount.options.split(","):
            key = f"{mount.path}.options" if mount.path else f"{fs.path}.fstab_options"
            message = "with 'degraded' a disk that comes late is left behind, and nothing brings it into step"
            yield Defect(key, f"{message}: mount it so by hand, once, when a disk has failed")


# Planned.


@dataclass(frozen=True)
class PlannedPoolMember(PlannedMembership):
    """A device of the btrfs of that name."""

    pool: str

    @property
    def joins(self) -> Key | None:
        return TYPE, self.pool

    @property
    def signature(self) -> Signature:
        return Signature(TYPE)

    def differences(self, found: Signature | None, comparison: Comparison) -> Iterator[str]:
        if found and found.type != TYPE:  # all else is compared as a whole
            yield f"{self.device}: expected a device of a btrfs, found {found.words}"


@dataclass(frozen=True)
class PlannedPool(PlannedAggregate):
    """A btrfs over devices, as ``device``, which is a name for all of them."""

    level: str
    over: tuple[str, ...]
    device: Device

    @property
    def kind(self) -> Kind:
        from bareon.storage.btrfs.kind import KIND

        return KIND

    @property
    def members(self) -> tuple[str, ...]:
        return self.over

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self.device,)

    @property
    def system(self) -> System:
        # The kernel mounts it once it was told of each device, which is what this program does in an initramfs.
        return System(programs=(tools.btrfs.PROGRAMS,))

    @property
    def programs(self) -> tuple[str, ...]:
        return tools.btrfs.PROGRAMS

    def means(self, found: Found) -> bool:
        return isinstance(found, BtrfsFacts) and not set(found.members).isdisjoint(self.over)

    def clash(self, found: Found) -> str:
        return f"{found.title} is already on {', '.join(found.stands_on)}"

    def differences(self, comparison: Comparison) -> Iterator[str]:
        name, found = f"btrfs {self.name}", self._found(comparison)
        if not found and self._made_anew(comparison):
            return  # a run that was cut off between wiping and making it left nothing there
        if len(found) != 1:
            listed = "; ".join(f"{x.title} over {_listed(x.members)}" for x in found) or "none"
            yield f"{name}: expected one over {_listed(self.over)}, found {listed}"
            return
        there = found[0]
        if there.missing:
            which = set(self.over) - set(there.members)
            gone = f", not there: {_listed(which)}" if which else ""
            how = "mount it with the option degraded, then 'btrfs replace' or 'btrfs device remove missing'"
            yield f"{name}: {there.missing} of {there.count} devices are missing{gone}; {how}"
        elif set(there.members) != set(self.over):
            yield f"{name}: expected the devices {_listed(self.over)}, found {_listed(there.members)}"
        if there.stale:
            how = "mount it, and run 'btrfs scrub'"
            yield f"{name}: {_listed(there.stale)} lacks what was written last to the others; {how}"
        for what, wanted, seen in zip(
            ("data", "metadata"), self._profiles, (there.level, there.metadata), strict=True
        ):
            # Data that were never written have no profile yet.
            if seen not in (wanted, "none"):
                yield f"{name}: expected {what} as {wanted}, found {seen or 'what cannot be read'}"
        yield from comparison.differences(self._named(there.alias), there.content)

    def adopted(self, comparison: Comparison) -> PlannedPool:
        found = next(iter(self._found(comparison)), None)
        before = self._named(found.alias) if found else self.device
        device = comparison.adopted(before, found.content if found else None)
        if device.decision == "format":  # with another UUID, and so with another name
            device = _called(device, self.device.device)
        return replace(self, device=device, decision=device.decision)

    def _found(self, comparison: Comparison) -> list[BtrfsFacts]:
        return [x for x in comparison.found(BtrfsFacts) if self.means(x)]

    def _made_anew(self, comparison: Comparison) -> bool:
        content = self.device.content
        return comparison.make and isinstance(content, PlannedBtrfs) and not content.wanted.keep_data

    @property
    def _profiles(self) -> tuple[str, str]:
        return self.level, LEVELS[self.level].metadata

    def _named(self, name: str) -> Device:
        return _called(self.device, name)

    def make(self, action: str) -> Iterator[Step]:
        yield from ()  # to make the file system is to make it

    def start(self, action: str) -> Iterator[Step]:
        if self.decision != "format":  # what is made anew is called otherwise, and scanned then
            yield ScanDevices(action, self.name, self.over, self.device.device)

    def view(self) -> View:
        kind, point = cells(self.device.content)
        row = (human(self.device.size), kind, point, self.decision)
        title = f"btrfs {self.name}  ({self.level}, {human(self.device.size)}, on {', '.join(self.over)})"
        return View(title, ("size", "file system", "mount", "decision"), (row,))

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "device": self.device.device,
            "level": self.level,
            "metadata": LEVELS[self.level].metadata,
            "members": list(self.over),
            "size": self.device.size,
            **filesystem.document(self.device.content),
            "decision": self.decision,
        }

    def found(self) -> BtrfsFacts:
        content = self.device.content
        assert isinstance(content, PlannedBtrfs)
        members = tuple(sorted(self.over))
        there = (content.uuid, len(members), members, self.device.device, *self._profiles, ())
        return BtrfsFacts(*there, content=content.signature)


def _called(device: Device, name: str) -> Device:
    """A device, and what is on it, by another name."""
    return replace(device, device=name, content=replace(device.content, device=name) if device.content else None)


def _listed(devices: Collection[str] | Iterable[str]) -> str:
    return ", ".join(sorted(devices)) or "none"


@dataclass(frozen=True)
class ScanDevices(Step):
    """Tell the kernel of the devices of a btrfs that is kept."""

    name: str
    over: tuple[str, ...]
    device: str

    @property
    def description(self) -> str:
        return f"Scan the devices of btrfs {self.name}: {', '.join(self.over)}"

    def run(self, progress: Progress) -> Outcome:
        tools.btrfs.scan(self.over)
        tools.udev.wait_for({self.device: None})
        return {}
