# SPDX-License-Identifier: Apache-2.0
"""Encrypted containers: LUKS2 of cryptsetup(8), and what a system encrypts with another random key at each start."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from bareon import tools
from bareon.errors import ActionFailed, CommandError, Defect, UnsuitableNode
from bareon.sizes import MIB, human, mib
from bareon.step import Outcome, Progress, Step, confide, has_confidant
from bareon.storage import cryptkey, filesystem, schema
from bareon.storage.allocate import DoesNotFit
from bareon.storage.cryptkey import KeyFile, KeyUrl, Sealed, Source
from bareon.storage.filesystem import SWAP, Filesystem, PlannedFilesystem
from bareon.storage.kind import (
    LINUX_DATA,
    UNKNOWN,
    Comparison,
    Content,
    CryptDevice,
    Device,
    Found,
    Kind,
    Look,
    Place,
    PlannedContent,
    Reader,
    Search,
    Signature,
    Structure,
    System,
    View,
    cells,
    words,
)
from bareon.storage.schema import Schema

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment

LOG = logging.getLogger(__name__)

SIGNATURE = "crypto_LUKS"
LUKS = "CA7D7CCB-63ED-4C53-861C-1742536059CC"
"""The partition type GUID of a container; Discoverable Partitions Specification."""

SYS = Path("/sys/class/block")
MAPPER = Path("/dev/mapper")
PROGRAMS = ("cryptsetup",)
HEADER = 16 * MIB  # bytes in front of the data, cryptsetup's own choice; given, so that the size is decided
KEY_FILES = "/etc/cryptsetup-keys.d"
"""The folder in which systemd looks for ``NAME.key`` by itself; systemd-cryptsetup(8)."""

_OF_THE_START = {4, 5, 8, 9}  # PCRs of boot loader, its configuration, the kernel's command line, and files
_FORMAT = "luks2"
_RANDOM = "/dev/urandom"
# What cryptsetup takes for LUKS2; for what has no header it must be said, as another version may take another.
_CIPHER = ("cipher=aes-xts-plain64", "size=512")
_NAME = "(?!control$)[A-Za-z0-9_][A-Za-z0-9_.-]*"
_SOURCES = {"file", "url", "tpm2", "clevis", "random"}
_AT_EACH_START = (SWAP, "/tmp", "/var/tmp")
# bareon decides them, or they would have a program of the image, or a file that is not there, open the device.
_OURS = ("header", "keyscript", "luks", "none", "plain", "swap", "tcrypt", "tmp")


# Wanted.

_KEY: Schema = {
    "description": "The key: one of file, url, tpm2, clevis and random.",
    "x-secret": True,
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "file": {
            "description": "A file of the ramdisk. All its bytes are the key, a newline at its end among them.",
            "type": "string",
            "pattern": "/[^\\u0000]+",
            "x-pattern": "an absolute path",
        },
        "url": {
            "description": "An https URL that gives the key. It is a secret, too.",
            "x-secret": True,
            "type": "string",
            "pattern": "https://[^\\s/?#@]+(/\\S*)?",
            "x-pattern": "an https URL without a user in it",
        },
        "tpm2": {
            "description": "A key that the node's TPM 2.0 seals, and gives to the deployed system when it starts.",
            "type": "object",
            "required": ["pcrs"],
            "additionalProperties": False,
            "properties": {
                "pcrs": {
                    "description": "The PCRs, of SHA-256, that must be then as they are in the ramdisk; [] for none.",
                    "type": "array",
                    "uniqueItems": True,
                    "items": {"type": "integer", "minimum": 0, "maximum": 23},
                },
            },
        },
        "clevis": {
            "description": "A key that can be had where tang servers answer.",
            "type": "object",
            "required": ["tang"],
            "additionalProperties": False,
            "properties": {
                "tang": {
                    "description": "The servers.",
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["url", "thumbprint"],
                        "additionalProperties": False,
                        "properties": {
                            "url": {
                                "description": "The URL of the server. It is no secret: the header of the container"
                                " has it.",
                                "type": "string",
                                "pattern": "^https?://[^\\s/?#@]+(/\\S*)?$",
                                "x-pattern": "a URL of a server without a user in it",
                            },
                            "thumbprint": {
                                "description": "The thumbprint of its key, as tang-show-keys tells it.",
                                "type": "string",
                                "pattern": "^[A-Za-z0-9_-]{27,86}$",
                                "x-pattern": "a thumbprint in base64url",
                            },
                        },
                    },
                },
                "threshold": {
                    "description": "How many of them must answer. Default: 1.",
                    "type": "integer",
                    "minimum": 1,
                },
            },
        },
        "random": {
            "description": "true: another random key each time the system starts, for swap, /tmp and /var/tmp, which"
            " are empty then.",
            "enum": [True],
        },
        "in_system": {
            "description": "true: the key comes into the deployed system, which opens the container by itself; where"
            " that is needed for the root file system, also into its initramfs. false: the system asks for it"
            " on the console. Default: false.",
            "type": "boolean",
        },
    },
}
_ENCRYPTION: Schema = {
    "description": "What lies in it is encrypted. Of a raid: the array.",
    "type": "object",
    "required": ["type", "name", "key"],
    "additionalProperties": False,
    "properties": {
        "type": {"description": "The format of the container.", "enum": [_FORMAT]},
        "name": {
            "description": "The name: of the opened device below /dev/mapper, and the label of the container.",
            "type": "string",
            "maxLength": 47,
            "pattern": f"^{_NAME}$",
            "x-pattern": "a name for an opened container: letters, digits and _ . - only",
        },
        "key": _KEY,
        "recovery_key": {
            "description": "true: a second key is made, and shown once on the terminal. Default: false.",
            "type": "boolean",
        },
        "options": {
            "description": "Options of crypttab(5) in the deployed system, such as discard.",
            "type": "array",
            "uniqueItems": True,
            "items": {
                "type": "string",
                "pattern": "^_?[a-z][a-z0-9_.-]*(=[A-Za-z0-9_.:/+-]+)?$",
                "x-pattern": "an option of crypttab(5)",
            },
        },
    },
}


@dataclass(frozen=True)
class Container(Content):
    """A LUKS2 container.

    ``in_system`` says that its key comes into the deployed system, ``recovery`` that another one is made.
    """

    role: ClassVar[str] = "luks"
    name: str
    key: Source | Sealed
    content: Content
    in_system: bool = False
    recovery: bool = False
    options: tuple[str, ...] = ()

    @property
    def type_guid(self) -> str:
        return LUKS

    @property
    def inner(self) -> Content:
        return self.content

    def mapped(self, change: Callable[[Content], Content]) -> Container:
        return replace(self, content=self.content.mapped(change))

    def plan(self, place: Place) -> PlannedContainer:
        size = place.size - HEADER
        if size <= 0:
            raise DoesNotFit(place.path, f"{mib(place.size)} has no room beside {mib(HEADER)} of a header")
        within = replace(place, device=str(MAPPER / self.name), size=size)
        inner = Device(within.device, size, content=self.content.plan(within))
        # By the device that it is on: of containers of one name the second would be refused.
        uuid = place.identifiers.filesystem(_FORMAT, place.device)
        return PlannedContainer(place.device, place.size, uuid, inner, self)


@dataclass(frozen=True)
class Ephemeral(Filesystem):
    """A file system or swap area that the deployed system makes at each start, with another random key."""

    crypt_name: str = ""
    crypt_options: tuple[str, ...] = ()

    @property
    def type_guid(self) -> str:
        return LINUX_DATA  # as one of a swap area it would be used as it is

    def plan(self, place: Place) -> PlannedEphemeral:
        found = super().plan(place)
        return PlannedEphemeral(found.device, found.size, found.type, found.uuid, self)


def _read(value: Mapping[str, Any], path: str, content: Content | None, found: list[Defect]) -> Content | None:
    """``content`` encrypted as ``value`` describes it; ``found`` takes the defects."""
    key, name, options = value["key"], value["name"], tuple(value.get("options", ()))
    found += [
        Defect(f"{path}.options[{i}]", f"{x} is not yours to set") for i, x in enumerate(options) if _is_ours(x)
    ]
    if len(_SOURCES & set(key)) != 1:
        found.append(Defect(f"{path}.key", "give one of file, url, tpm2, clevis and random"))
        return content
    if content is None:
        found.append(Defect(path, "there is nothing to encrypt: give it a file_system"))
        return None
    if "random" not in key:
        source = _source(key, f"{path}.key", found)
        if source is None:
            return content
        more = (key.get("in_system", False), value.get("recovery_key", False), options)
        return Container(name, source, content, *more, path=path)
    if type(content) is not Filesystem or content.point not in _AT_EACH_START:
        message = f"what has another key each time is empty each time: only for {', '.join(_AT_EACH_START)}"
        found.append(Defect(f"{path}.key.random", message))
        return content
    for place, given in ((".key.in_system", "in_system" in key), (".recovery_key", value.get("recovery_key", False))):
        found += [Defect(f"{path}{place}", "nobody ever has a random key")] if given else []
    return Ephemeral(**vars(content), crypt_name=name, crypt_options=options)


def _source(key: Mapping[str, Any], path: str, found: list[Defect]) -> Source | Sealed | None:
    """Where a key comes from that is not random; ``found`` takes the defects."""
    urls = [(f"{path}.url", key["url"])] if "url" in key else []
    servers = key.get("clevis", {}).get("tang", ())
    urls += [(f"{path}.clevis.tang[{i}].url", server["url"]) for i, server in enumerate(servers)]
    wrong = [Defect(place, "it is no URL of a server: see its host and port") for place, x in urls if not _is_url(x)]
    threshold = key.get("clevis", {}).get("threshold", 1)
    if servers and threshold > len(servers):
        wrong.append(Defect(f"{path}.clevis.threshold", f"there are only {len(servers)} servers that can answer"))
    if {"tpm2", "clevis"} & set(key) and "in_system" in key:
        wrong.append(Defect(f"{path}.in_system", "nobody has a sealed key: the system gets it when it starts"))
    if never := sorted(_OF_THE_START & set(key.get("tpm2", {}).get("pcrs", ()))):
        listed = ", ".join(map(str, never))
        message = (
            f"PCR {listed}: what started this ramdisk does not start the system, so that it would never open; 7 fits"
        )
        wrong.append(Defect(f"{path}.tpm2.pcrs", message))
    found += wrong
    if wrong:
        return None
    if "tpm2" in key:
        return cryptkey.of_tpm(key["tpm2"]["pcrs"])
    if servers:
        return cryptkey.of_tang([(x["url"], x["thumbprint"]) for x in servers], threshold)
    return KeyFile(key["file"]) if "file" in key else KeyUrl(key["url"])


def _is_url(text: str) -> bool:
    try:
        return bool(urlsplit(text).hostname) and urlsplit(text).port != 0
    except ValueError:
        return False


def _is_ours(option: str) -> bool:
    return option.partition("=")[0] in _OURS


# Planned.


@dataclass(frozen=True)
class PlannedContainer(PlannedContent, Structure):
    """A LUKS2 container on its device, and ``opened``, the device that it opens into."""

    uuid: str
    opened: Device
    wanted: Container

    @property
    def kind(self) -> Kind:
        return KIND

    @property
    def name(self) -> str:
        """The name of what it opens into, and its label."""
        return self.wanted.name

    @property
    def members(self) -> tuple[str, ...]:
        return (self.device,)

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self.opened,)

    @property
    def system(self) -> System:
        wanted = self.wanted
        path = f"{KEY_FILES}/{self.name}.key" if wanted.in_system else None
        crypt = CryptDevice(
            *(self.name, self.device, self.uuid, ("luks", *wanted.options), path),
            key=self._key if wanted.in_system else None,
            pins=self._pins,
        )
        arguments = [f"rd.luks.name={self.uuid}={self.name}"]
        arguments += [f"rd.luks.options={self.uuid}={','.join(wanted.options)}"] if wanted.options else []
        arguments += ["rd.neednet=1"] if "tang" in self._pins else []
        opening = (("cryptsetup", "systemd-cryptsetup"), *((f"clevis-decrypt-{pin}",) for pin in self._pins))
        return System(
            (), (crypt,), kernel_arguments=tuple(arguments), modules=("dm_mod", "dm_crypt"), programs=opening
        )

    def _key(self) -> bytes:
        """The key that the deployed system is given.

        :raises UnsuitableNode: when it cannot be had, or does not open a container that is kept, open already or not.
        """
        key = _key(self)
        kept = self.decision != "create" and Path(self.device).exists()
        if kept and not tools.cryptsetup.fits(self.device, key):
            raise UnsuitableNode(f"{self.device}: {self.wanted.key} does not open it")
        return key

    @property
    def _pins(self) -> tuple[str, ...]:
        return self.wanted.key.pins if isinstance(self.wanted.key, Sealed) else ()

    @property
    def programs(self) -> tuple[str, ...]:
        return (*PROGRAMS, *(tools.clevis.programs(self._pins) if self._pins else ()))

    @property
    def signature(self) -> Signature:
        return Signature(SIGNATURE, self.uuid, self.name)

    def means(self, found: Found) -> bool:
        return isinstance(found, ContainerFacts) and self.name in (found.name, found.label)

    def clash(self, found: Found) -> str:
        return f"a container {self.name} is already on {', '.join(found.stands_on)}"

    def differences(self, found: Signature | None, comparison: Comparison) -> Iterator[str]:
        there = self._there(comparison)
        if found is None or found.type != SIGNATURE or there is None:
            yield f"{self.device}: expected {_FORMAT}, found {words(found)}"
            return
        if there.format != _FORMAT:
            yield f"{self.device}: expected {_FORMAT}, found {there.format}"
        if there.label != self.name:
            yield f"{self.device}: expected the label {self.name!r}, found {there.label or 'none'!r}"
        if len(names := sorted(x.name for x in self._all_there(comparison))) > 1:
            yield f"{self.device}: expected to be open once, if at all, and is as {', '.join(names)}"
        if there.running and there.name != self.name:
            yield f"{self.device}: expected to be open as {self.name}, if at all, and is as {there.name}"
        yield from comparison.differences(self.opened, there.content)

    def adopted(self, found: Signature | None, comparison: Comparison) -> PlannedContainer:
        there = self._there(comparison)
        opened = comparison.adopted(self.opened, there.content if there else UNKNOWN)
        uuid = there.uuid if there and there.uuid else self.uuid
        return replace(self, uuid=uuid, opened=opened, decision=opened.decision)

    def _there(self, comparison: Comparison) -> ContainerFacts | None:
        return next(iter(self._all_there(comparison)), None)

    def _all_there(self, comparison: Comparison) -> list[ContainerFacts]:
        return [x for x in comparison.found(ContainerFacts) if self.device in x.members]

    def make(self, action: str) -> Iterator[Step]:
        yield MakeContainer(action, self)

    def start(self, action: str) -> Iterator[Step]:
        yield OpenContainer(action, self)

    def view(self) -> View:
        content = self.opened.content
        purpose = f"volume group {content.member_of}" if content and content.member_of else "-"
        kind, point = cells(content)
        row = (human(self.opened.size), purpose if kind == "-" else kind, point, self.decision)
        title = f"{self.opened.device}  ({_FORMAT}, {human(self.opened.size)}, on {self.device})"
        return View(title, ("size", "file system", "mount", "decision"), (row,))

    def document(self) -> dict[str, Any]:
        content = self.opened.content
        return {
            "name": self.opened.device,
            "format": _FORMAT,
            "members": list(self.members),
            "size": self.opened.size,
            "luks_uuid": self.uuid,
            "key": self.wanted.key.source,
            "in_system": self.wanted.in_system,
            "recovery_key": self.wanted.recovery,
            "volume_group": content.member_of if content else None,
            **filesystem.document(content),
            "decision": self.decision,
        }

    def found(self) -> ContainerFacts:
        return ContainerFacts(
            name=self.name,
            format=_FORMAT,
            members=self.members,
            alias=self.opened.device,
            uuid=self.uuid,
            label=self.name,
            size=self.opened.size,
            content=UNKNOWN,
        )


@dataclass(frozen=True)
class PlannedEphemeral(PlannedFilesystem):
    """A file system or swap area that the deployed system makes at each start: on the device there is nothing."""

    wanted: Ephemeral

    @property
    def mapped_at_start(self) -> str:
        return str(MAPPER / self.wanted.crypt_name)

    @property
    def is_made(self) -> bool:
        return False

    @property
    def signature(self) -> None:
        return None

    @property
    def cells(self) -> tuple[str, str]:
        return f"{self.type}, new key at each start", self.wanted.point or "-"

    @property
    def system(self) -> System:
        made = "swap" if self.type == SWAP else f"tmp={self.type}"
        options = ("plain", made, *_CIPHER, *self.wanted.crypt_options)
        return System((), (CryptDevice(self.wanted.crypt_name, self.device, None, options, _RANDOM),))

    def make(self, action: str) -> Iterator[Step]:
        if self.decision == "create":
            yield LeaveBlank(action, self)

    def differences(self, found: Signature | None, comparison: Comparison) -> Iterator[str]:
        if found is not None:
            yield f"{self.device}: expected nothing that has a form, found {found.words}"

    def adopted(self, found: Signature | None, comparison: Comparison) -> PlannedEphemeral:
        return replace(self, decision="keep")


@dataclass(frozen=True)
class LeaveBlank(Step):
    """See that nothing can be made out on a device: Debian's scripts encrypt none on which something can."""

    filesystem: PlannedEphemeral

    @property
    def description(self) -> str:
        fs = self.filesystem
        return f"Leave {fs.device} ({human(fs.size)}) blank for {fs.wanted.point}, encrypted with a random key"

    def run(self, progress: Progress) -> Outcome:
        tools.device.wipe([self.filesystem.device])
        tools.udev.look_again(self.filesystem.device)
        return {}


@dataclass(frozen=True)
class MakeContainer(Step):
    """Make a container with the UUID that was decided for it, and open it."""

    container: PlannedContainer

    @property
    def description(self) -> str:
        container = self.container
        recovery = " and a recovery key" if container.wanted.recovery else ""
        return (
            f"Encrypt {container.device} ({human(container.size)}) with {container.wanted.key}{recovery}, and open it"
            f" as {container.opened.device}"
        )

    def preflight(self) -> None:
        wanted = self.container.wanted
        if wanted.recovery and not has_confidant():
            raise UnsuitableNode(
                f"{wanted.path}.recovery_key: there is no terminal to show it on, which is the only place for it"
            )
        place = MAPPER / wanted.name
        if place.exists() and _format_of(place.resolve().name) is None:
            raise UnsuitableNode(f"a container cannot be called {wanted.name}: {place} is something else")
        if isinstance(wanted.key, Sealed):
            cryptkey.try_out(wanted.key)
            return
        reason = cryptkey.untypable(cryptkey.content(wanted.key))
        if reason and not (wanted.in_system or wanted.recovery):
            raise UnsuitableNode(f"{wanted.path}.key: {wanted.key} cannot be typed when the system asks: {reason}")

    def run(self, progress: Progress) -> Outcome:
        container, wanted = self.container, self.container.wanted
        sealed = None
        if isinstance(wanted.key, Sealed):
            key = cryptkey.machine_key()
            sealed = tools.clevis.seal(wanted.key.pin, wanted.key.config, key)
        else:
            key = cryptkey.content(wanted.key)
        # What nobody has seen opens nothing: where it cannot be shown, there is no such key, and no new container.
        another = _shown_key(wanted.name) if wanted.recovery else None
        tools.cryptsetup.make(container.device, container.uuid, wanted.name, HEADER, key)
        found = tools.blkid.probe([container.device]).get(container.device, {})
        if (found.get("TYPE"), found.get("UUID")) != (SIGNATURE, container.uuid):
            raise ActionFailed(f"{container.device}: blkid reads back {found}, not {SIGNATURE} {container.uuid}")
        if another:
            tools.cryptsetup.add_key(container.device, key, another)
        if sealed:
            tools.cryptsetup.add_token(container.device, tools.clevis.token(sealed, slot=0))
            key = _key_now(container)  # as the deployed system will have it
        _open(container, key)
        return {"bytes": container.opened.size}


def _key(container: PlannedContainer) -> bytes:
    """The key of a container; a sealed one as its header has it.

    :raises UnsuitableNode: when it cannot be had.
    """
    wanted = container.wanted.key
    if not isinstance(wanted, Sealed):
        return cryptkey.content(wanted)
    found = filter(None, map(tools.clevis.sealed, tools.cryptsetup.tokens(container.device)))
    reasons = []
    for sealed in found:
        try:
            return tools.clevis.unseal(sealed)
        except CommandError as error:
            reasons.append(tools.clevis.reason(error))
    said = "; ".join(reasons) or "its header has none"
    raise UnsuitableNode(f"{container.device}: {wanted} cannot be had: {said}")


def _key_now(container: PlannedContainer) -> bytes:
    """The same once something was written.

    :raises ActionFailed: when it cannot be had.
    """
    try:
        return _key(container)
    except UnsuitableNode as error:
        raise ActionFailed(str(error)) from None


def _shown_key(name: str) -> bytes:
    """A new recovery key, once the operator was shown it.

    :raises ActionFailed: when nobody was.
    """
    key = cryptkey.recovery_key()
    try:
        confide(f"The recovery key of {name}, which is shown only now, and good once this run has succeeded:\n{key}")
    except ActionFailed as error:
        raise ActionFailed(
            f"container {name} is not made, since nobody would see its recovery key: {error}"
        ) from None
    return key.encode()


@dataclass(frozen=True)
class OpenContainer(Step):
    """Open a container that is kept."""

    container: PlannedContainer

    @property
    def description(self) -> str:
        container = self.container
        return f"Open {container.opened.device} on {container.device} with {container.wanted.key}"

    def preflight(self) -> Iterator[str]:
        device, wanted = self.container.device, self.container.wanted
        if not isinstance(wanted.key, Sealed):
            cryptkey.content(wanted.key)
        if not Path(device).exists():
            yield f"{device} does not run yet: whether {wanted.key} opens what is kept there is seen after that alone"
        elif not tools.cryptsetup.fits(device, _key(self.container)):
            raise UnsuitableNode(f"{device}: {wanted.key} does not open it")

    def run(self, progress: Progress) -> Outcome:
        _open(self.container, _key_now(self.container), anew=False)
        return {}


def _open(container: PlannedContainer, key: bytes, *, anew: bool = True) -> None:
    wanted, device = container.wanted, container.opened.device
    tools.cryptsetup.open_container(container.device, wanted.name, key, discard="discard" in wanted.options)
    tools.udev.wait_for({device: container.opened.size if anew else None})


# Found.


@dataclass(frozen=True)
class ContainerFacts(Found):
    """A container, open as ``device`` or closed; then what is in it is unknown, and ``size`` with it.

    ``format`` is ``luks1``, ``luks2``, ``plain`` (which is only seen while it is open), the device mapper's word for
    others, ``damaged``, or ``luks`` where nobody could read more. ``name`` is what it is open as; of a closed one its
    label, or else ``luks-`` and its UUID.
    ``alias`` stands for the opened device among the members of others: :data:`MAPPER` and that name, or the UUID
    where another container has the same one.
    """

    name: str
    format: str
    members: tuple[str, ...]
    alias: str
    uuid: str | None = None
    label: str | None = None
    cipher: str | None = None
    device: str | None = None
    size: int | None = None
    content: Signature | None = None

    @property
    def title(self) -> str:
        return f"container {self.name}"

    @property
    def words(self) -> str:
        return f"{self.title} ({words(self.content) if self.running else 'closed'})"

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
    def plausible(self) -> Iterator[tuple[str, str, bool]]:
        yield "", self.device or "/dev/", (self.size or 0) >= 0

    def stop(self, action: str) -> Iterator[Step]:
        yield CloseContainer(action, self.name, self.members)


@dataclass(frozen=True)
class CloseContainer(Step):
    """Close a container, so that what is below it is free."""

    name: str
    members: tuple[str, ...]

    @property
    def description(self) -> str:
        return f"Close container {self.name} on {', '.join(self.members)}"

    def preflight(self) -> None:
        if absent := tools.device.missing(PROGRAMS):
            raise UnsuitableNode(
                f"container {self.name} is open, and {', '.join(absent)} is not installed to close it"
            )

    def run(self, progress: Progress) -> Outcome:
        tools.cryptsetup.close(self.name)
        return {}


# The kind.


class _Luks(Kind):
    name = "luks"
    noun = "container"
    section = "encrypted"
    about_section = "encrypted containers"
    roles = (Container.role,)
    lsblk_types = ("crypt",)
    found = ContainerFacts

    @property
    def plan_schema(self) -> Mapping[str, Schema]:
        return {
            "container": schema.record(
                "An encrypted container of the plan. No key is in it.",
                {
                    "name": schema.string("The device that it opens into, such as /dev/mapper/root."),
                    "format": schema.string("luks2."),
                    "members": schema.items("The device it lies on."),
                    "size": schema.count("What it offers."),
                    "luks_uuid": schema.string("The UUID of its header."),
                    "key": schema.string("Where its key comes from: file, url, tpm2 or clevis."),
                    "in_system": {"description": "Whether the deployed system has the key.", "type": "boolean"},
                    "recovery_key": {"description": "Whether a recovery key is made.", "type": "boolean"},
                    "volume_group": schema.optional_string("The volume group that it is a physical volume of."),
                    **filesystem.planned_fields(),
                    "decision": schema.DECISION,
                },
            )
        }

    @property
    def facts_schema(self) -> Mapping[str, Schema]:
        return {
            "found_container": schema.record(
                "An encrypted container as it was found.",
                {
                    "alias": schema.string("Its name below /dev/mapper, open or not."),
                    "format": schema.string("luks1, luks2, plain or another."),
                    "members": schema.items("The device that it lies on."),
                    "size": schema.count("What it offers; null while it is closed.", optional=True),
                    "content": schema.CONTENT,
                },
            )
        }

    def keys(self, fragment: str) -> Mapping[str, Any]:
        return {"encryption": _ENCRYPTION} if fragment in ("partition", "raid", "pv", "lv") else {}

    def contain(self, value: dict[str, Any], path: str, content: Content | None, reader: Reader) -> Content | None:
        if "encryption" not in value:
            return content
        found = _read(value["encryption"], f"{path}.encryption", content, reader.defects)
        if isinstance(found, Container) and isinstance(found.key, Sealed) and not found.recovery:
            reader.warnings.append(
                f"{found.path}: nothing else opens {found.name} where {found.key} is lost: see recovery_key"
            )
        return found

    def defects(self, deployment: Deployment) -> Iterator[Defect]:
        first = dict(_logical(deployment))
        for name, path in _named(deployment):
            if name in first:
                yield Defect(f"{path}.encryption.name", f"{name!r} is already the name of what {first[name]} opens")
            first.setdefault(name, path)
        yield from _inside(deployment)
        for fs in (x for x in deployment.filesystems() if isinstance(x, Ephemeral)):
            for image in deployment.images:
                if image.target == fs.point and image.system in fs.images:
                    message = f"{fs.point} is empty whenever the system starts: no image can be brought there"
                    yield Defect(f"{image.path}.target", message)

    def search(self, look: Look) -> Search:
        return _Search(look)

    def stop_device(self, device: str) -> bool:
        name = Path(device).name
        if _format_of(name) is None:
            return False
        tools.cryptsetup.close(_text(name, "name"))
        return True

    def about(self, item: Mapping[str, Any]) -> str:
        return str(item["format"])


def _logical(deployment: Deployment) -> Iterator[tuple[str, str]]:
    """The names that logical volumes have below /dev/mapper, each with the path of the volume."""
    for aggregate in deployment.aggregates:
        for volume in getattr(aggregate, "volumes", ()):
            device = tools.lvm.mapper_device(f"/dev/{aggregate.name}/{volume.name}")
            yield Path(device).name, volume.path


def _named(deployment: Deployment) -> Iterator[tuple[str, str]]:
    """The names of what is opened, each with the path of the volume."""
    for content in deployment.contents():
        if isinstance(content, Container):
            yield content.name, content.path.removesuffix(".encryption")
        elif isinstance(content, Ephemeral):
            yield content.crypt_name, content.path


def _inside(deployment: Deployment) -> Iterator[Defect]:
    """Defects of what lies in containers, by way of whatever is between: other containers, and what GRUB reads."""
    tops = [volume.content for disk in deployment.disks for volume in disk.volumes if volume.content]
    within = [x for top in tops for x in _nested(top)]
    offered = {aggregate.key: aggregate.contents for aggregate in deployment.aggregates}
    tops += [x for contents in offered.values() for x in contents]
    within += [x for contents in offered.values() for content in contents for x in _nested(content)]
    seen: set[int] = set()
    booted = deployment.booted()
    while within:
        content = within.pop(0)
        if id(content) in seen:
            continue
        seen.add(id(content))
        if isinstance(content, Container):
            yield Defect(content.path, "it lies in another encrypted container already")
        if isinstance(content, Filesystem):
            for mount in content.mounts:
                if images := sorted(name for name in mount.images if (name, mount.point) in booted):
                    yield Defect(f"{content.path}.mount", _FOR_GRUB.format(", ".join(map(repr, images))))
        if content.joins in offered:
            within += [x for held in offered[content.joins] for x in held.nested()]


_FOR_GRUB = (
    "GRUB reads /boot of image {} from here, and cannot open LUKS2 as cryptsetup makes it: give /boot a volume of its"
    " own outside of any container"
)


def _nested(content: Content) -> Iterable[Content]:
    """What is contained in a content, if that is a container."""
    return list(content.nested())[1:] if isinstance(content, Container) else ()


class _Search(Search):
    """Containers by their signatures, and what is open by the device mapper. None is opened: nobody has a key."""

    def __init__(self, look: Look) -> None:
        self._look = look
        # By the kernel's name of what each lies on, and the name that it is open as: one may be open more than once.
        self._seen: dict[tuple[str, str], ContainerFacts] = {}

    def go_on(self, *, sure: bool) -> bool:
        running = _running()
        known = {below for below, _ in self._seen}
        closed = {tools.device.kernel_name(x): x for x in self._look.devices(SIGNATURE)}
        new = {below: device for below, device in closed.items() if below not in known}
        new |= {opened.below: _called(opened.below) for opened in running if opened.below not in {*closed, *known}}
        for below, device in new.items():
            of_it = [x for x in running if x.below == below]
            self._seen |= {(below, x.name): self._facts(device, x) for x in of_it}
            if not of_it:
                self._seen[below, ""] = self._facts(device, None)
        return bool(new)

    def _facts(self, device: str, opened: _Open | None) -> ContainerFacts:
        """A container on ``device``, and what is open of it."""
        signature = self._look.content(device)
        luks = signature if signature and signature.type == SIGNATURE else Signature(SIGNATURE)
        header = _header(device) if luks.uuid else None
        if opened is None:
            # A label may be any text, and this becomes a path.
            name = luks.label if luks.label and re.fullmatch(_NAME, luks.label) else f"luks-{luks.uuid}"
            form = header.format if header else "damaged"
            return ContainerFacts(
                *(name, form, (device,), "", luks.uuid, luks.label),
                cipher=header.cipher if header else None,
                content=UNKNOWN,
            )
        content = self._look.content(opened.kernel)
        self._look.offer(str(MAPPER / opened.name), content)
        return ContainerFacts(
            *(opened.name, opened.format, (device,), "", luks.uuid, luks.label, header.cipher if header else None),
            device=opened.kernel,
            size=tools.lsblk.size(opened.kernel),
            content=content,
        )

    def found(self) -> Sequence[ContainerFacts]:
        names = Counter(x.name for x in self._seen.values())
        found = []
        for x in self._seen.values():
            alias = str(MAPPER / (x.name if names[x.name] == 1 or x.running else f"luks-{x.uuid}"))
            if x.device:
                self._look.name(x.device, alias)
            found.append(replace(x, alias=alias, members=tuple(map(self._look.name_of, x.members))))
        return found

    def as_left(self, found: Sequence[Found]) -> Sequence[Found]:
        running = {opened.name for opened in _running()}
        return [x for x in found if isinstance(x, ContainerFacts) and (x.name in running or x.format != "plain")]


def _header(device: str) -> tools.cryptsetup.Header | None:
    if tools.device.missing(PROGRAMS):  # what is closed may go unread: there is nothing to stop
        return tools.cryptsetup.Header("luks")
    return tools.cryptsetup.header(device)


@dataclass(frozen=True)
class _Open:
    """What is open: its name, the kernel's one, its format, and the kernel's name of what it lies on."""

    name: str
    kernel: str
    format: str
    below: str


def _running() -> list[_Open]:
    found = []
    for entry in sorted(SYS.glob("dm-*")):
        form = _format_of(entry.name)
        slaves = sorted(entry.glob("slaves/*")) if form else []
        if form and slaves:
            found.append(_Open(_text(entry.name, "name"), f"/dev/{entry.name}", form, f"/dev/{slaves[0].name}"))
    return found


def _format_of(name: str) -> str | None:
    """The format of an open container, by the kernel's name of its device; ``None`` for what is none."""
    first, _, rest = _text(name, "uuid").partition("-")
    return rest.partition("-")[0].lower() if first == "CRYPT" and rest else None


def _called(kernel: str) -> str:
    """The name that the facts have for a device: of a logical volume that of its group and its own."""
    name = Path(kernel).name
    if not _text(name, "uuid").startswith("LVM-"):
        return kernel
    group, _, volume = _text(name, "name").replace("--", "\0").partition("-")
    return f"/dev/{group}/{volume}".replace("\0", "-")


def _text(name: str, attribute: str) -> str:
    try:
        return (SYS / name / "dm" / attribute).read_text().strip()
    except OSError:
        return ""  # it is no such device, or went meanwhile


KIND = _Luks()
