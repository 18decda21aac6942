# SPDX-License-Identifier: Apache-2.0
"""GUID partition tables: which partitions a disk gets, and the steps that clear it and write its table.

Implicit partitions, which were reserved, and the volumes of the input, each aligned to whole MiB. UEFI specification,
chapter 5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bareon import tools
from bareon.errors import ActionFailed, Defect, UnsuitableNode
from bareon.sizes import MIB, Absolute, Size, mib, parse_size, round_down
from bareon.step import Outcome, Progress, Step
from bareon.storage import erase, filesystem, multipath
from bareon.storage.allocate import FIRST, DoesNotFit, Request, allocate, usable_end
from bareon.storage.disk import ChosenDisk, Disk, DiskFacts, Partition, PartitionFacts, PlannedDisk, PlannedPartition
from bareon.storage.identifier import Identifiers
from bareon.storage.kind import LINUX_DATA, Comparison, Fragment, Kind, Place, Read, Reader, Reservation
from bareon.text import counted

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment

PROGRAMS = ("blkid", "parted", "sfdisk", "udevadm", "wipefs")
MAX_PARTITIONS = 128
TOLERANCE = MIB  # bytes that a start or end may be off

DATA = frozenset(
    {
        LINUX_DATA,
        filesystem.LINUX_SWAP,
        "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",  # Microsoft basic data, as parted writes it by default
        # The Discoverable Partitions Specification: root and /usr of x86-64, x86, ARM 64 and 32 bits; then /home,
        # /srv, /var, /var/tmp, the extended boot loader partition (/boot), a user's home.
        "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
        "8484680C-9521-48C6-9C11-B0720656F69E",
        "44479540-F297-41B2-9AF7-D131D5F0458A",
        "75250D76-8CC6-458E-BD66-BD47CC81A812",
        "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
        "B0E01050-EE5F-4390-949A-9101B17104E9",
        "69DAD710-2CE4-4E3C-B16C-21A1D49ABED3",
        "7D0359A3-02B3-4F0A-865C-654403E70625",
        "933AC7E1-2EB4-4F13-B844-0E14E2AEF915",
        "3B8F8425-20E0-4F3B-907F-1A25A76F98E8",
        "4D21B016-B534-45C2-A9FB-5C16E091FD2D",
        "7EC6F557-3BC5-4ACA-B293-16EF5DF639D1",
        "BC13C2FF-59E6-4262-A352-B275FD6F7172",
        "773F91EF-66D4-49B5-BD83-D683BF40AD16",
    }
)
"""Type GUIDs of partitions that hold data, whichever of them a program has chosen."""


# Wanted.

_PARTITION: Mapping[str, Any] = {
    "description": "A partition.",
    "type": "object",
    "required": ["type", "size"],
    "additionalProperties": False,
    "properties": {
        "type": {
            "enum": ["partition", "boot"],
            "description": "partition: an ordinary partition. boot: a partition flagged as boot.",
        },
        "size": {"$ref": "#/$defs/size"},
        **filesystem.fields(),
        "name": {
            "description": "The name of the partition in the GPT.",
            "type": "string",
            "minLength": 1,
            "maxLength": 36,
            "format": "printable",
            "pattern": '^[^\\u0000-\\u001f"\\\\\\U00010000-\\U0010ffff]*$',
            "x-pattern": "a partition name: quotes, backslashes, control characters and those beyond U+FFFF are not"
            " allowed",
        },
        "partition_guid": {
            "description": "The GUID of the partition in the GPT.",
            "type": "string",
            "pattern": "^(?!00000000-0000-0000-0000-000000000000$)"
            "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$",
            "x-pattern": "a GUID",
        },
    },
}


def _read(value: dict[str, Any], path: str, reader: Reader) -> Partition:
    guid = value.get("partition_guid")
    return Partition(
        size=parse_size(value["size"]),
        content=reader.content(value, path),
        name=value.get("name"),
        guid=guid.upper() if guid else None,
        boot=value["type"] == "boot",
        path=path,
    )


# Planned.


def disk_layout(wanted: Disk, real: DiskFacts, identifiers: Identifiers) -> PlannedDisk:
    """The table of a disk, to be created.

    :raises DoesNotFit: when the real disk cannot hold it.
    """
    if wanted.size is not None and wanted.size > real.size:
        over = mib(wanted.size - real.size)
        raise DoesNotFit(f"{wanted.path}.size", f"{mib(wanted.size)} is {over} more than the disk's {mib(real.size)}")
    budget = wanted.size if wanted.size is not None else round_down(real.size)
    available = usable_end(real.size, real.logical_sector) - FIRST
    parts = entries_of(wanted)
    if len(parts) > MAX_PARTITIONS:
        raise DoesNotFit("", f"a GPT holds {MAX_PARTITIONS} partitions, {len(parts)} are asked for")
    requests = [_request(part, wanted, real.logical_sector) for part in parts]
    sizes = allocate(budget, max(available, 0), requests)
    start, partitions = FIRST, []
    for number, (part, request, size) in enumerate(zip(parts, requests, sizes, strict=True), 1):
        if isinstance(part, Reservation) and part.at_end:
            start = FIRST + round_down(min(budget, available)) - size
        device = partition_device(real, number)
        place = Place(device, size, request.path, identifiers, real.logical_sector)
        partitions.append(_partition(part, place, number, start))
        start += size
    guid = identifiers.guid(f"table {real.device}")
    rule = wanted.id.rule if isinstance(wanted.id, ChosenDisk) else None
    return PlannedDisk(
        *(real.device, real.size, real.logical_sector, guid, tuple(partitions)),
        rule=rule,
        erase=wanted.erase,
        multipath=real.multipath,
    )


def entries_of(disk: Disk) -> list[Reservation | Partition]:
    """Partitions of a disk in their order: reservations before the volumes, the volumes, reservations at the end."""
    before = [x for x in disk.reservations if not x.at_end]
    return [*before, *disk.volumes, *(x for x in disk.reservations if x.at_end)]


def _request(part: Reservation | Partition, disk: Disk, sector: int) -> Request:
    if isinstance(part, Partition):
        return Request(part.size, f"{part.path}.size")
    size: Size = Absolute(part.size(sector))
    return Request(size, f"{disk.path} (implicit {part.role})")


def partition_device(disk: DiskFacts, number: int) -> str:
    """The name of a partition; the kernel's has a ``p`` where the disk's name ends in a digit."""
    if disk.multipath:
        return multipath.partition_device(disk.device, number)
    return f"{disk.device}p{number}" if disk.device[-1].isdigit() else f"{disk.device}{number}"


def _partition(part: Reservation | Partition, place: Place, number: int, start: int) -> PlannedPartition:
    content = part.content.plan(place) if part.content else None
    guid = place.identifiers.guid(f"partition {place.device}")
    if isinstance(part, Reservation):
        return PlannedPartition(
            *(place.device, place.size, number, start, part.role, guid, part.type_guid, part.name or part.role),
            content=content,
            rewritten=part.rewritten,
        )
    wanted = part.content
    return PlannedPartition(
        *(place.device, place.size, number, start),
        role=wanted.role if wanted else "volume",
        guid=part.guid or guid,
        type_guid=wanted.type_guid if wanted else LINUX_DATA,
        name=part.name,
        boot=part.boot,
        guid_given=part.guid is not None,
        content=content,
    )


def differences(wanted: PlannedDisk, found: DiskFacts, comparison: Comparison) -> Iterator[str]:
    """Differences between the planned table of a disk and what was found, a line each."""
    if found.table != wanted.table:
        yield f"{wanted.device}: expected a gpt table, found {found.table or 'none'}"
        return
    new = _added(wanted, found, comparison)
    if len(wanted.partitions) - len(new) != len(found.partitions):
        expected = counted(len(wanted.partitions), "partition")
        yield f"{wanted.device}: expected {expected}, found {len(found.partitions)}"
    there = {part.number: part for part in found.partitions}
    for part in wanted.partitions:
        if part.number in there:
            yield from _differences(part, there.pop(part.number), comparison)
        elif part in new:
            yield from _no_room(part, wanted, found)
        else:
            yield f"{part.device}: expected a partition of {mib(part.size)} at {mib(part.start)}, found none"
    for extra in there.values():
        yield f"{extra.device}: expected no partition, found one of {mib(extra.size)} at {mib(extra.start)}"


def _added(wanted: PlannedDisk, found: DiskFacts, comparison: Comparison) -> list[PlannedPartition]:
    """The partitions that this run adds to the table: behind all that are there, by their numbers."""
    last = max((part.number for part in found.partitions), default=0)
    if not comparison.make:
        return []
    return [x for x in wanted.partitions if x.number > last and filesystem.may_be_added(x.content)]


def _no_room(part: PlannedPartition, wanted: PlannedDisk, found: DiskFacts) -> Iterator[str]:
    """Why a partition cannot be added: what is there would have to give way."""
    if wanted.multipath:
        yield f"{part.device}: expected a partition, found none; it is not added to a disk of several paths"
    for other in found.partitions:
        if part.start < other.end and other.start < part.end:
            yield f"{part.device}: expected {mib(part.size)} free for it at {mib(part.start)}, found {other.device}"


def _differences(wanted: PlannedPartition, found: PartitionFacts, comparison: Comparison) -> Iterator[str]:
    if wanted.device != found.device:  # which only what makes partitions of maps can choose
        yield f"{wanted.device}: expected it to be called so, found {found.device}; kpartx -p chooses the name"
    for what, a, b in (("start", wanted.start, found.start), ("end", wanted.end, found.end)):
        if abs(a - b) > TOLERANCE:
            yield f"{wanted.device}: expected its {what} at {mib(a)}, found {mib(b)}"
    # Programs differ in the type of a data partition, of which only its place and content count.
    right = DATA if wanted.type_guid in DATA else {wanted.type_guid}
    if filesystem.ESP_MOUNT in _points(wanted):
        right = {*right, filesystem.ESP}  # which a BIOS does not mind, and programs choose there too
    if found.type.upper() not in right:
        yield f"{wanted.device}: expected partition type {wanted.type_guid}, found {found.type}"
    if wanted.name and _is_named_by_author(wanted) and wanted.name != found.name:
        named = repr(found.name) if found.name else "no name"
        comparison.warn(f"{wanted.device}: expected the name {wanted.name!r}, found {named}; the table is kept")
    if wanted.guid_given and wanted.guid != (found.guid or "").upper():
        yield f"{wanted.device}: expected the GUID {wanted.guid}, found {found.guid}"
    yield from comparison.differences(wanted, found.content)


def _points(part: PlannedPartition) -> list[str]:
    """The mount points of the file system on a partition."""
    content = part.content
    return [x.point for x in content.mounts] if isinstance(content, filesystem.PlannedFilesystem) else []


def _is_named_by_author(part: PlannedPartition) -> bool:
    """True for a partition with data, and for an EFI system partition of the input, which alone is mounted."""
    return part.role == "volume" or bool(part.role == "esp" and _points(part))


def adopted(wanted: PlannedDisk, found: DiskFacts, comparison: Comparison) -> PlannedDisk:
    """The disk with the places and identifiers that are there. There are no differences."""
    there = {part.number: part for part in found.partitions}
    partitions = (_adopted(x, there[x.number], comparison) if x.number in there else x for x in wanted.partitions)
    return replace(wanted, partitions=tuple(partitions))


def _adopted(wanted: PlannedPartition, found: PartitionFacts, comparison: Comparison) -> PlannedPartition:
    part = comparison.adopted(wanted, found.content)
    return replace(
        part,
        device=found.device,
        start=found.start,
        size=found.size,
        name=found.name if _is_named_by_author(part) else part.name,
        guid=found.guid or wanted.guid,
        decision="format" if wanted.rewritten else part.decision,
    )


@dataclass(frozen=True)
class ClearDisk(Step):
    """Remove every signature of the partitions and of the disk itself, the table and its backup included.

    ``stacked`` says that arrays or volume groups run on it now; ``size`` (bytes) and ``sequence`` tell whether the
    device is still the disk that was decided about. ``multipath`` says that it is a map, which the devices of its
    partitions hold.
    """

    device: str
    partitions: tuple[str, ...]
    contents: tuple[str, ...]
    stacked: bool = False
    size: int = 0
    sequence: int | None = None
    multipath: bool = False

    @property
    def description(self) -> str:
        what = "; ".join(self.contents)
        return f"Clear {self.device}" + (f": {what}" if what else ", on which nothing is recognised")

    @property
    def destroys(self) -> tuple[str, ...]:
        return (self.device,)  # what is not recognised may be data all the same

    def preflight(self) -> None:
        if not self.stacked:  # else it is free only once the steps before this one have run
            self._refuse_if_busy()

    def _refuse_if_busy(self) -> None:
        held = tools.multipath.partitions(self.device).values() if self.multipath else ()
        for device in held or (self.device,):
            tools.device.refuse_if_busy(device)

    def run(self, progress: Progress) -> Outcome:
        self._refuse_if_busy()
        if (tools.lsblk.size(self.device), tools.lsblk.sequence(self.device)) != (self.size, self.sequence):
            raise ActionFailed(f"{self.device} is another disk than when the plan was made")
        # The kernel may have no device for an entry; another one may be called as that of a map would be.
        mapped = [*tools.multipath.partitions(self.device).values()] if self.multipath else []
        parts = mapped if self.multipath else [part for part in self.partitions if Path(part).is_block_device()]
        tools.device.wipe(parts)
        for part in mapped:
            tools.dmsetup.remove(part.removeprefix("/dev/mapper/"))
        if self.multipath:
            parts = []
        tools.device.wipe([self.device])
        devices = [*parts, self.device]
        if left := tools.blkid.probe(devices):
            raise ActionFailed(f"signatures came back: {left}")
        return {}


@dataclass(frozen=True)
class WriteTable(Step):
    """Write the partition table in one go, and have another program read it back."""

    disk: PlannedDisk

    @property
    def description(self) -> str:
        partitions = counted(len(self.disk.partitions), "partition")
        return f"Write a {self.disk.table} table with {partitions} to {self.disk.device}"

    @property
    def destroys(self) -> tuple[str, ...]:
        return ()  # what was there is named by the step that clears the disk

    def preflight(self) -> None:
        if not self.disk.multipath:
            return
        mapped = tools.multipath.partitions(self.disk.device).values()
        for part in self.disk.partitions:
            if part.device not in mapped and Path(part.device).exists():
                reason = f"{part.device} is the name of another device, and would be that of a partition"
                raise UnsuitableNode(f"{reason} of {self.disk.device}; call the map otherwise, see multipath.conf(5)")

    def run(self, progress: Progress) -> Outcome:
        disk = self.disk
        script = tools.sfdisk.script(disk.guid, disk.sector, FIRST, entries(disk.partitions))
        tools.sfdisk.write(disk.device, script, told=disk.multipath is None)
        label, seen = tools.parted.read(disk.device)
        wanted = [(part.number, part.start, part.size) for part in disk.partitions]
        found = [(part.number, part.start, part.size) for part in seen]
        if label != disk.table or found != wanted:
            raise ActionFailed(f"{disk.device}: parted reads back {label} {found}, not {disk.table} {wanted}")
        if disk.multipath:
            tools.udev.settle()  # udev's rules do the same
            tools.multipath.map_partitions(disk.device, multipath.DELIMITER)
            mapped, names = tools.multipath.partitions(disk.device), {x.number: x.device for x in disk.partitions}
            if mapped != names:
                raise ActionFailed(f"{disk.device}: the devices of its partitions are {mapped}, not {names}")
        tools.udev.wait_for({part.device: part.size for part in disk.partitions})
        return {"partitions": len(wanted)}


@dataclass(frozen=True)
class AddPartitions(Step):
    """Add to the table of a disk, which may be in use, the partitions that are not there, behind all that are.

    The kernel is told of these alone, so that it need not let go of the others.
    """

    disk: PlannedDisk

    @property
    def description(self) -> str:
        new = ", ".join(f"{x.device} ({mib(x.size)})" for x in self._new)
        return f"Add {new} to the table of {self.disk.device}; its other partitions stay as they are"

    @property
    def _new(self) -> list[PlannedPartition]:
        return [part for part in self.disk.partitions if part.decision == "create"]

    def preflight(self) -> None:
        if known := [x.device for x in self._new if Path(x.device).exists()]:
            raise UnsuitableNode(f"{', '.join(known)} is there, and the table of {self.disk.device} does not have it")

    def run(self, progress: Progress) -> Outcome:
        device, new = self.disk.device, self._new
        before = tools.sfdisk.read(device)
        tools.sfdisk.add(device, tools.sfdisk.lines_of(self.disk.sector, entries(new)))
        after = tools.sfdisk.read(device)
        if replace(after, entries=after.entries[: -len(new)]) != before:
            raise ActionFailed(f"{device}: sfdisk has changed other partitions: {after}, before: {before}")
        _, seen = tools.parted.read(device)
        wanted = [(part.number, part.start, part.size) for part in self.disk.partitions]
        found = [(part.number, part.start, part.size) for part in seen]
        if found != wanted:
            raise ActionFailed(f"{device}: parted reads back {found}, not {wanted}")
        tools.partx.add(device, new[0].number, new[-1].number)
        tools.udev.wait_for({part.device: part.size for part in new})
        return {"partitions": len(new)}


def entries(partitions: Iterable[PlannedPartition]) -> list[tools.sfdisk.Entry]:
    """Partitions as sfdisk takes them."""
    return [
        tools.sfdisk.Entry(
            part.number,
            part.device,
            part.start,
            part.size,
            part.type_guid,
            part.guid,
            part.name,
            part.boot,
        )
        for part in partitions
    ]


# The kind.


class _Gpt(Kind):
    name = "partition"
    roles = ("bios_grub", "esp", "multiboot", "configdrive", "volume")

    @property
    def fragments(self) -> tuple[Fragment, ...]:
        return (Fragment("volume", "partition", ("partition", "boot"), _PARTITION),)

    def readers(self, reader: Reader) -> Mapping[str, Read]:
        def read(value: dict[str, Any], path: str) -> Partition:
            return _read(value, path, reader)

        return {"partition": read, "boot": read}

    def defects(self, deployment: Deployment) -> Iterator[Defect]:
        yield from erase.defects(deployment)
        by_guid: dict[str, list[Partition]] = defaultdict(list)
        for disk in deployment.disks:
            for part in disk.volumes:
                if part.guid:
                    by_guid[part.guid].append(part)
        for guid, parts in by_guid.items():
            for again in parts[1:]:
                yield Defect(f"{again.path}.partition_guid", f"{guid} is already the GUID of {parts[0].path}")


KIND = _Gpt()
