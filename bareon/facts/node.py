# SPDX-License-Identifier: Apache-2.0
"""What a node is, as values. Sizes and positions are bytes.

``--dump_node_facts`` prints :func:`to_json` of this, ``--node_facts`` reads it back. The form is described in
``doc/source/reference/node-facts.rst``; ``FORMAT`` changes when a reader of the old form would be misled.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

FORMAT = 1
LARGEST = 64 << 20  # bytes of a document; what is longer is cut off, and so no JSON
#: Bytes of a logical sector that the kernel's block layer knows.
SECTORS = tuple(512 << power for power in range(8))


@dataclass(frozen=True)
class Content:
    """A signature as libblkid sees it: ``type`` is ``ext4``, ``swap``, ``LVM2_member``, ``linux_raid_member`` …"""

    type: str
    uuid: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class PartitionFacts:
    """One entry of a partition table. ``users`` says in words who uses it now, or something
    stacked on it; empty when nobody does. Arrays and volume groups on it are no users by themselves.
    """

    number: int
    device: str
    start: int
    size: int
    type: str
    guid: str | None = None
    name: str | None = None
    content: Content | None = None
    users: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class DiskFacts:
    """A whole block device. ``kind`` is lsblk's type (``disk``, ``loop``, ``rom`` …), ``links`` its names in /dev.

    ``users`` are those of the whole device; those of its partitions stand there. ``sequence`` is the kernel's running
    number of it, another one after each start of the machine.
    """

    device: str
    size: int
    kind: str = "disk"
    logical_sector: int = 512
    physical_sector: int = 512
    model: str | None = None
    serial: str | None = None
    wwn: str | None = None
    scsi: str | None = None
    transport: str | None = None
    read_only: bool = False
    removable: bool = False
    links: tuple[str, ...] = ()
    table: str | None = None
    content: Content | None = None
    partitions: tuple[PartitionFacts, ...] = ()
    users: tuple[str, ...] = ()
    sequence: int | None = None

    def in_use(self) -> tuple[str, ...]:
        """Who uses the disk or any of its partitions, in words that name the device."""
        of_parts = [f"{part.device} is {user}" for part in self.partitions for user in part.users]
        return (*(f"{self.device} is {user}" for user in self.users), *of_parts)


@dataclass(frozen=True)
class ArrayFacts:
    """An md array. ``device`` and ``size`` are those of the running array, ``None`` where it is not running.

    ``count`` is the number of members it should have, ``members`` those that are there. Names need not be unique;
    ``alias`` is, and stands for the array among the members of a volume group: ``/dev/md/`` and its name, or its UUID
    where another array has the same name.
    """

    name: str
    uuid: str
    level: str
    count: int
    members: tuple[str, ...]
    alias: str
    device: str | None = None
    size: int | None = None
    content: Content | None = None


@dataclass(frozen=True)
class LogicalVolumeFacts:
    """A logical volume. What is in it is only known where it could be activated."""

    name: str
    device: str
    size: int
    active: bool
    content: Content | None = None


@dataclass(frozen=True)
class VolumeGroupFacts:
    """A volume group. ``missing`` physical volumes are counted; ``members`` are those that are there."""

    name: str
    uuid: str
    size: int
    extent: int
    members: tuple[str, ...]
    missing: int = 0
    volumes: tuple[LogicalVolumeFacts, ...] = ()


@dataclass(frozen=True)
class NodeFacts:
    """The node as bareon's decisions need it.

    ``cmdline`` is the running kernel's command line, less what looks like a secret.
    """

    firmware: Literal["bios", "uefi"]
    disks: tuple[DiskFacts, ...]
    arrays: tuple[ArrayFacts, ...] = ()
    volume_groups: tuple[VolumeGroupFacts, ...] = ()
    cmdline: str = ""
    format: int = FORMAT


def to_json(facts: NodeFacts) -> dict[str, Any]:
    """``facts`` as JSON values; ``from_json`` is its inverse."""
    return dataclasses.asdict(facts)


def from_json(value: object) -> NodeFacts:
    """Read back what :func:`to_json` gave.

    :raises ValueError: naming the place, when ``value`` is not of that form.
    """
    if isinstance(value, dict) and value.get("format") != FORMAT:
        raise ValueError(f"$.format: this bareon reads format {FORMAT}, not {value.get('format')!r}")
    facts = _decode(NodeFacts, value, "$")
    assert isinstance(facts, NodeFacts)
    for path, device, right in _plausible(facts):
        if not device.startswith("/dev/"):
            raise ValueError(f"{path}.device: {device!r} is no path in /dev")
        if not right:
            raise ValueError(f"{path}: no device has such a size, sector size, start or number")
    return facts


def _plausible(facts: NodeFacts) -> Iterator[tuple[str, str, bool]]:
    """Each device with its JSON path, and whether its figures can be those of one."""
    for number, disk in enumerate(facts.disks):
        path = f"$.disks[{number}]"
        yield path, disk.device, disk.size >= 0 and disk.logical_sector in SECTORS and disk.physical_sector > 0
        for place, part in enumerate(disk.partitions):
            yield f"{path}.partitions[{place}]", part.device, part.number > 0 and part.start >= 0 and part.size >= 0
    for number, array in enumerate(facts.arrays):
        yield f"$.arrays[{number}]", array.device or "/dev/", array.count >= 0 and (array.size or 0) >= 0
    for number, group in enumerate(facts.volume_groups):
        path = f"$.volume_groups[{number}]"
        yield path, "/dev/", group.size >= 0 and group.extent > 0 and group.missing >= 0
        for place, volume in enumerate(group.volumes):
            yield f"{path}.volumes[{place}]", volume.device, volume.size >= 0


def _decode(form: Any, value: object, path: str) -> object:
    origin = typing.get_origin(form)
    if dataclasses.is_dataclass(form):
        return _decode_object(form, value, path)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{path}: expected a list")
        item = typing.get_args(form)[0]
        return tuple(_decode(item, x, f"{path}[{i}]") for i, x in enumerate(value))
    if origin in (types.UnionType, typing.Union):
        inner = next(x for x in typing.get_args(form) if x is not type(None))
        return None if value is None else _decode(inner, value, path)
    if origin is Literal:
        if value not in typing.get_args(form):
            raise ValueError(f"{path}: expected one of {', '.join(typing.get_args(form))}")
        return value
    if type(value) is not form:
        raise ValueError(f"{path}: expected {form.__name__}, found {type(value).__name__}")
    return value


_type_hints = functools.cache(typing.get_type_hints)  # a node has many disks


def _decode_object(form: Any, value: object, path: str) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object")
    hints = _type_hints(form)
    if unknown := sorted(set(value) - set(hints)):
        raise ValueError(f"{path}.{unknown[0]}: unknown key")
    for field in dataclasses.fields(form):
        if field.name not in value and field.default is dataclasses.MISSING:
            raise ValueError(f"{path}.{field.name}: missing")
    return form(**{key: _decode(hints[key], item, f"{path}.{key}") for key, item in value.items()})
