# SPDX-License-Identifier: Apache-2.0
"""The grammar of storage: what every kind of it is made of, wanted, planned and found.

A kind is one module with these in this order: the programs; the schema fragment and the wanted values; the planned
values with their differences from what was found, their adoption, the steps that make and start them, what the
deployed system needs to use them, and their rows and JSON; the found values with the steps that stop them; the one
:class:`Kind` that :mod:`.kinds` lists, with the readers and the defects within an input; the search on the machine.

A kind takes one of three shapes:

* a *leaf* is a :class:`Content` and its :class:`PlannedContent`;
* a *container* is a :class:`Content` whose planned value is a :class:`PlannedContent` and a :class:`Structure` in one
  (a class with both bases): compared as the content of its device, made and started as what offers the opened one;
* an *aggregate* is an :class:`Aggregate` and its :class:`PlannedAggregate`, with a :class:`Content` for its members.

What a structure says of itself in JSON, planned and found, is drawn by ``bareon/report/picture.py``, which reads
``members``, ``size``, ``decision``, its ``volumes`` or itself as the only one, the first there is of ``alias``,
``device`` and ``name`` for each, what they take of it (``taken``, else ``size``), the name of another one that they
take it of instead (``pool``), what is in them (``content`` found; ``mount``, ``file_system`` and ``volume_group``
planned), and nothing else.

Sizes are bytes. ``path`` is the JSON path of the input a value came from; it takes no part in comparisons.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeVar

from bareon.errors import Defect
from bareon.sizes import Size
from bareon.step import Step
from bareon.storage.identifier import Identifiers
from bareon.storage.schema import Schema

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment

Firmware = Literal["bios", "uefi"]
Policy = Literal["verify", "clean"]
Decision = Literal["create", "keep", "format"]
Key = tuple[str, str]
"""Key of a wanted aggregate: the name of its kind, and its own."""

LINUX_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
"""The partition type GUID of a Linux file system; Discoverable Partitions Specification."""

F = TypeVar("F", bound="Found")
D = TypeVar("D", bound="Device")


# Wanted.


@dataclass(frozen=True)
class Content(ABC):
    """Wanted content of a device.

    ``role`` is what the plan says of a partition that holds it.
    """

    role: ClassVar[str] = "volume"
    path: str = field(default="$", compare=False, kw_only=True)

    @property
    def type_guid(self) -> str:
        """The type GUID of a partition that holds it."""
        return LINUX_DATA

    @property
    def joins(self) -> Key | None:
        """The aggregate that it is a member of."""
        return None

    @property
    def inner(self) -> Content | None:
        """Content of the device that it opens into; ``None`` for one that opens into nothing."""
        return None

    def nested(self) -> Iterator[Content]:
        """The content itself, then what is contained in it, outermost first."""
        yield self
        if self.inner:
            yield from self.inner.nested()

    def mapped(self, change: Callable[[Content], Content]) -> Content:
        """The same with each leaf replaced by what ``change`` makes of it."""
        return change(self)

    @abstractmethod
    def plan(self, place: Place) -> PlannedContent:
        """The content on the device that it gets, to be created.

        :raises DoesNotFit: when the device is too small.
        """


@dataclass(frozen=True)
class Volume:
    """A device that shall be: a partition, a logical volume, an array."""

    size: Size
    content: Content | None = None
    path: str = field(default="$", compare=False, kw_only=True)


@dataclass(frozen=True)
class Aggregate(ABC):
    """Wanted aggregate: made up by its members, it offers devices again, as an array or a volume group does."""

    name: str
    path: str = field(default="$", compare=False, kw_only=True)

    @property
    @abstractmethod
    def key(self) -> Key:
        """Key that the contents of its members have as ``joins``."""

    @property
    @abstractmethod
    def contents(self) -> tuple[Content, ...]:
        """Contents of the devices that it offers."""

    def given(self, content: Content) -> int | None:
        """The bytes that the input gives the device of this content; ``None`` where it gives a share or nothing."""
        return None

    @abstractmethod
    def mapped(self, change: Callable[[Content], Content]) -> Aggregate:
        """The same with each leaf replaced by what ``change`` makes of it."""

    @abstractmethod
    def plan(self, members: Sequence[Device], identifiers: Identifiers) -> PlannedAggregate:
        """The aggregate over its members, to be created.

        :raises DoesNotFit: when they have no room for it.
        """


@dataclass(frozen=True)
class Reservation:
    """Room on a disk that is claimed before the layout is made, beside the volumes of the input.

    :param role: what it is for, in the field's word; also the partition's name unless ``name`` is given.
    :param sizes: bytes, on a disk with sectors of up to 512 bytes and on one with larger ones.
    :param at_end: whether it lies at the end of the disk, behind the volumes, or before them.
    :param rewritten: whether this run writes its content, whatever is in it.
    """

    role: str
    sizes: tuple[int, int]
    type_guid: str = LINUX_DATA
    content: Content | None = None
    name: str | None = None
    at_end: bool = False
    rewritten: bool = False

    def size(self, sector: int) -> int:
        """The bytes it takes on a disk with logical sectors of ``sector`` bytes."""
        return self.sizes[0] if sector <= 512 else self.sizes[1]


@dataclass(frozen=True)
class Place:
    """The device that a content is planned for. ``path`` is that of the size that was asked for.

    ``sector`` are the bytes of a logical sector, where that is known.
    """

    device: str
    size: int
    path: str
    identifiers: Identifiers
    sector: int = 512


# Planned.


@dataclass(frozen=True)
class CryptDevice:
    """An encrypted device that a deployed system opens as ``name`` when it starts; crypttab(5).

    ``device`` is what it lies on, ``uuid`` that of its header, ``None`` where it has none. ``key_file`` is a path in
    that system, ``None`` where it asks for a passphrase; ``key`` gives the bytes that are to lie there, ``None``
    where the path is the system's own. No key is in any plan, so that whoever writes the file asks for it then.
    ``pins`` are those of clevis(1) by which the system gets the passphrase without anybody.
    """

    name: str
    device: str
    uuid: str | None
    options: tuple[str, ...] = ()
    key_file: str | None = None
    key: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)
    pins: tuple[str, ...] = ()


@dataclass(frozen=True)
class System:
    """Needs of a deployed system to use something.

    ``grub_modules`` read it while the machine starts, ``crypttab`` is what it opens, ``mdadm_conf`` are lines of that
    file; mdadm.conf(5). By ``kernel_arguments`` an initramfs of dracut starts it; dracut.cmdline(7).

    An initramfs starts it with ``modules`` of the kernel, as that names them, and with ``programs``, each by the
    names that it may have.
    """

    grub_modules: tuple[str, ...] = ()
    crypttab: tuple[CryptDevice, ...] = ()
    mdadm_conf: tuple[str, ...] = ()
    kernel_arguments: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    programs: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class PlannedContent(ABC):
    """Planned content of ``device``, which has ``size`` bytes."""

    device: str
    size: int
    decision: Decision = field(default="create", kw_only=True)

    @property
    def member_of(self) -> str | None:
        """The name of the aggregate that it is a member of."""
        return self.joins[1] if self.joins else None

    @property
    def joins(self) -> Key | None:
        """The aggregate that it is a member of."""
        return None

    @property
    def system(self) -> System:
        """Needs of the deployed system to use it."""
        return System()

    @property
    def signature(self) -> Signature | None:
        """Signature that libblkid will see once it is made; ``None`` for none."""
        return None

    @property
    def cells(self) -> tuple[str, str]:
        """Type and mount point for a table; ``-`` for the type of a member, whose aggregate the table names."""
        return "-" if self.joins or not self.signature else self.signature.type, "-"

    @abstractmethod
    def differences(self, found: Signature | None, comparison: Comparison) -> Iterator[str]:
        """Differences from the signature that was found on the device, a line each."""

    @abstractmethod
    def adopted(self, found: Signature | None, comparison: Comparison) -> PlannedContent:
        """The content with the identifiers that are there, kept unless it is to be made anew."""


@dataclass(frozen=True)
class PlannedMembership(PlannedContent):
    """Content that makes its device a member of an aggregate, which is compared as a whole."""

    def differences(self, found: Signature | None, comparison: Comparison) -> Iterator[str]:
        yield from ()

    def adopted(self, found: Signature | None, comparison: Comparison) -> Self:
        return replace(self, decision="keep")


@dataclass(frozen=True)
class Device:
    """A block device that will be: a partition, an array, a logical volume, an opened container."""

    device: str
    size: int
    decision: Decision = field(default="create", kw_only=True)
    content: PlannedContent | None = field(default=None, kw_only=True)

    @property
    def system(self) -> System:
        """Needs of the deployed system to use this one, besides those for what offers it."""
        return System()


@dataclass(frozen=True)
class View:
    """Something planned, for people: a title, a map if it has parts, and a table."""

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    parts: tuple[tuple[str, int], ...] | None = None
    size: int = 0


class Structure(ABC):
    """Planned thing that offers devices and can be started: an aggregate, or an opened container."""

    decision: Decision

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """Its kind."""

    @property
    @abstractmethod
    def members(self) -> tuple[str, ...]:
        """The devices that it lies on."""

    @property
    @abstractmethod
    def devices(self) -> tuple[Device, ...]:
        """The devices that it offers."""

    @property
    def lasting(self) -> Mapping[str, str]:
        """Names by which a deployed system has those of its devices that may be called otherwise there, by device."""
        return {}

    @property
    @abstractmethod
    def system(self) -> System:
        """Needs of the deployed system to use it."""

    @property
    @abstractmethod
    def programs(self) -> tuple[str, ...]:
        """The programs that make and start it."""

    @property
    def cautions(self) -> Iterator[str]:
        """What is no mistake in it, but somebody should know of before it is made or written anew."""
        yield from ()

    @abstractmethod
    def means(self, found: Found) -> bool:
        """True for a found thing of the same kind and name."""

    @abstractmethod
    def clash(self, found: Found) -> str:
        """Reason to refuse: a found thing of its name stays on other disks."""

    @abstractmethod
    def make(self, action: str) -> Iterator[Step]:
        """The steps that make it and its devices; ``action`` is the name of the action that plans them."""

    def extend(self, action: str) -> Iterator[Step]:
        """The steps that add to a kept one those of its devices that are not there."""
        yield from ()

    @abstractmethod
    def start(self, action: str) -> Iterator[Step]:
        """The steps that make the devices of a kept one usable."""

    @abstractmethod
    def view(self) -> View:
        """View of it for the text of the plan."""

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """Item of its kind's section in the JSON of the plan."""

    @abstractmethod
    def found(self) -> Found:
        """Facts that a probe will find once it is made and stopped; what verify must then take as the same."""


@dataclass(frozen=True)
class PlannedAggregate(Structure, ABC):
    """An aggregate that was decided."""

    name: str
    decision: Decision = field(default="create", kw_only=True)

    @abstractmethod
    def differences(self, comparison: Comparison) -> Iterator[str]:
        """Differences from what was found on the node, a line each."""

    @abstractmethod
    def adopted(self, comparison: Comparison) -> PlannedAggregate:
        """The aggregate with the identifiers that are there, kept. There are no differences."""


class Comparison(Protocol):
    """Comparison of a layout with a node, as planned things see it; see :mod:`bareon.layout.compare`."""

    @property
    def make(self) -> bool:
        """True where this run makes file systems anew that are not to be kept."""

    @property
    def copy(self) -> bool:
        """True where this run copies images."""

    @property
    def policy(self) -> Policy:
        """Policy of the deployment."""

    def found(self, form: type[F], *, everywhere: bool = False) -> list[F]:
        """Found things of a kind on the disks of the layout, or on the whole node."""

    def differences(self, device: Device, found: Signature | None) -> Iterator[str]:
        """Differences of the content of a device, a line each."""

    def adopted(self, device: D, found: Signature | None) -> D:
        """A device with what is on it."""

    def warn(self, words: str) -> None:
        """Say something that is no difference, but somebody should know of."""


# Found.


_NAMED = 10  # subvolumes


@dataclass(frozen=True)
class Signature:
    """A signature as libblkid sees it: ``type`` is ``ext4``, ``swap``, ``LVM2_member``, ``linux_raid_member`` …

    ``subvolumes`` are the names of those in the top folder of a btrfs, sorted; ``None`` where they are not known.
    """

    type: str
    uuid: str | None = None
    label: str | None = None
    subvolumes: tuple[str, ...] | None = None

    @property
    def words(self) -> str:
        """Its type and, if it has them, its label and subvolumes."""
        words = f"{self.type} {self.label!r}" if self.label else self.type
        return f"{words} (subvolumes {self.parts})" if self.subvolumes else words

    @property
    def parts(self) -> str:
        """Some of its subvolumes: there may be hundreds of snapshots."""
        names = self.subvolumes or ()
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return (", ".join(map(repr, names[:_NAMED])) or "none") + more


UNREADABLE = Signature("unreadable")
"""Stands for what is on a device that the kernel could not read."""

UNKNOWN = Signature("unknown")
"""Stands for what is on a device that cannot be looked at, as that of a container of which nobody has the key."""


def cells(content: PlannedContent | None) -> tuple[str, str]:
    """Type and mount point of a planned content for a table, also of none."""
    return content.cells if content else ("-", "-")


def words(signature: Signature | None) -> str:
    """A signature for people, or that there is none."""
    return signature.words if signature else "no file system"


@dataclass(frozen=True)
class Found(ABC):
    """Something on the node that lies on devices and may offer others.

    Its fields are its form in the section of its kind in the node facts.
    """

    @property
    @abstractmethod
    def title(self) -> str:
        """Noun and name for people, such as ``volume group os``."""

    @property
    @abstractmethod
    def words(self) -> str:
        """Title and contents for people who are about to lose them, such as ``array boot (ext4)``."""

    @property
    @abstractmethod
    def stands_on(self) -> tuple[str, ...]:
        """The devices that it lies on."""

    @property
    @abstractmethod
    def offers(self) -> tuple[tuple[str, Signature | None], ...]:
        """The devices that it offers, running or not, each with what is on it; :data:`UNKNOWN` if nobody can tell."""

    @property
    def present(self) -> tuple[str, ...]:
        """Those of the devices that are there now."""
        return tuple(device for device, _ in self.offers) if self.running else ()

    @property
    @abstractmethod
    def running(self) -> bool:
        """True while it holds the devices that it lies on."""

    @property
    def usable(self) -> bool:
        """True where all its devices can be used now."""
        return self.running

    @property
    @abstractmethod
    def plausible(self) -> Iterator[tuple[str, str, bool]]:
        """(JSON path behind its own, device or nothing, whether the figures can be those of one)."""

    @abstractmethod
    def stop(self, action: str) -> Iterator[Step]:
        """The steps that free what it lies on."""


class Joined(Found):
    """Something made of ``members`` that offers one device, known to others as ``alias``, with ``content`` on it."""

    members: tuple[str, ...]
    alias: str
    content: Signature | None

    @property
    def stands_on(self) -> tuple[str, ...]:
        return self.members

    @property
    def offers(self) -> tuple[tuple[str, Signature | None], ...]:
        return ((self.alias, self.content),)


class Started(Protocol):
    """Something that was started read-only to look inside."""

    @property
    def title(self) -> str:
        """Noun and name for people."""

    @property
    def devices(self) -> Sequence[str]:
        """The kernel's names of the devices that it offers, such as ``/dev/md127``."""

    def runs(self) -> bool:
        """True while it runs."""

    def stop(self) -> None:
        """Stop it.

        :raises CommandError: when it is in use, for instance.
        """


class Look(Protocol):
    """The machine as a search sees it; see :mod:`bareon.look`."""

    def devices(self, signature: str) -> list[str]:
        """The devices with a signature, also those that what was found so far offers."""

    @property
    def nested(self) -> int:
        """Number of devices so far that may hold a partition table of their own, such as arrays; it is not read."""

    def content(self, device: str) -> Signature | None:
        """The signature on a device.

        :raises UnsuitableNode: naming the device, when it cannot be read.
        """

    def offer(self, device: str, signature: Signature | None, *, partitioned: bool = False) -> None:
        """A device that has come to light, and what is on it; ``partitioned`` where that may be a table."""

    def name(self, device: str, name: str) -> None:
        """The name that the facts have for a device."""

    def name_of(self, device: str) -> str:
        """The name that the facts have for a device, or for the array that it is a partition of."""

    def begun(self, started: Started) -> None:
        """Something was started, to be stopped once everything was looked at."""


class Search(ABC):
    """The search for all of one kind on this machine, from the disks upwards."""

    @abstractmethod
    def go_on(self, *, sure: bool) -> bool:
        """Look at what has come to light since; whether anything was found to go on from.

        :param sure: leave what may be in part, or may be nothing, until all else was looked at.
        :raises UnsuitableNode: when there is something, but not the programs to read it; or when it cannot be read.
        """

    @abstractmethod
    def found(self) -> Sequence[Found]:
        """All that was found."""

    @abstractmethod
    def as_left(self, found: Sequence[Found]) -> Sequence[Found]:
        """The same facts with their present state, once all that was started has been stopped."""


# The kind itself.


class Reader(Protocol):
    """Reader of a document, as the kinds see it that read their volumes; see :mod:`bareon.drivers.data.volume`."""

    defects: list[Defect]
    warnings: list[str]
    aggregates: list[Aggregate]

    def volume(self, value: dict[str, Any], path: str) -> Volume | None:
        """Volume that an item of a list of volumes describes; ``None`` for one without effect."""

    def content(self, value: dict[str, Any], path: str) -> Content | None:
        """The file system that a volume describes, in the containers that it describes."""

    def contained(self, value: dict[str, Any], path: str, content: Content | None) -> Content | None:
        """A content in the containers that a volume describes."""


Read = Callable[[dict[str, Any], str], Volume | Aggregate | None]


@dataclass(frozen=True)
class Fragment:
    """A part of the schema of an input that describes disks by volumes: items of the types ``types`` in a list.

    ``list_of`` is ``entry`` for the list of disks and the like, ``volume`` for that of an entry, ``lv_entry`` for
    that of a volume group. The keys of :meth:`Kind.keys` are added to it by its ``name``.
    """

    list_of: Literal["entry", "volume", "lv_entry"]
    name: str
    types: tuple[str, ...]
    schema: Mapping[str, Any]


class Kind:
    """A kind of storage. Most define only some of these."""

    name: ClassVar[str]
    section: ClassVar[str] = ""
    """The key of its structures in the JSON of plans and node facts; empty where it has none."""
    noun: ClassVar[str] = ""
    """Noun for one of its structures."""
    about_section: ClassVar[str] = ""
    """Noun for the items of the section, in the plural, for the schemas."""
    roles: ClassVar[tuple[str, ...]] = ()
    """Roles that a partition may have in the plan because of its content."""
    always: ClassVar[bool] = False
    """True for a section that is there even where it is empty."""
    lsblk_types: ClassVar[tuple[str, ...]] = ()
    """lsblk(8) types of the devices that it offers."""
    found: ClassVar[type[Found] | None] = None

    @property
    def fragments(self) -> tuple[Fragment, ...]:
        """The volumes that it adds to an input that describes disks by volumes."""
        return ()

    def keys(self, fragment: str) -> Mapping[str, Any]:
        """The schemas of keys that it adds to the volumes of a fragment."""
        return {}

    @property
    def plan_schema(self) -> Mapping[str, Schema]:
        """Schemas of its section of a plan: ``$defs`` of which the first is an item."""
        return {}

    @property
    def facts_schema(self) -> Mapping[str, Schema]:
        """Schemas of its section of the node facts: ``$defs`` of which the first is an item."""
        return {}

    def readers(self, reader: Reader) -> Mapping[str, Read]:
        """Functions that read volumes, by ``type``; made once for each document."""
        return {}

    def contain(self, value: dict[str, Any], path: str, content: Content | None, reader: Reader) -> Content | None:
        """``content`` in a container of this kind, where a volume describes one."""
        return content

    def defects(self, deployment: Deployment) -> Iterable[Defect]:
        """The contradictions inside a deployment that no node is needed to know."""
        return ()

    def seen(self, device: str, signature: Signature) -> Signature:
        """A signature that was found on a device, with what this kind can tell of it besides. It changes nothing."""
        return signature

    def search(self, look: Look) -> Search | None:
        """The search for what there is of it on this machine."""
        return None

    def stop_device(self, device: str) -> bool:
        """Stop what offers a device, by its kernel name, if that is of this kind; whether it was.

        :raises CommandError: when it cannot be stopped.
        """
        return False

    def about(self, item: Mapping[str, Any]) -> str:
        """Caption of an item of its section, for the picture in a report."""
        return self.noun
