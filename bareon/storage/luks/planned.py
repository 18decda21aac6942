# SPDX-License-Identifier: Apache-2.0
"""Planned containers, and their differences from what was found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bareon import tools
from bareon.errors import UnsuitableNode
from bareon.sizes import human
from bareon.step import Step
from bareon.storage import filesystem
from bareon.storage.cryptkey import Sealed
from bareon.storage.filesystem import SWAP, PlannedFilesystem
from bareon.storage.kind import (
    UNKNOWN,
    Comparison,
    CryptDevice,
    Device,
    Found,
    Kind,
    PlannedContent,
    Signature,
    Structure,
    System,
    View,
    cells,
    words,
)
from bareon.storage.luks.found import ContainerFacts
from bareon.storage.luks.mapper import MAPPER
from bareon.storage.luks.step import PROGRAMS, SIGNATURE, LeaveBlank, MakeContainer, OpenContainer, key_of

if TYPE_CHECKING:
    from bareon.storage.luks.wanted import Container, Ephemeral

KEY_FILES = "/etc/cryptsetup-keys.d"
"""The folder in which systemd looks for ``NAME.key`` by itself; systemd-cryptsetup(8)."""

FORMAT = "luks2"
_RANDOM = "/dev/urandom"
# What cryptsetup takes for LUKS2; for what has no header it must be said, as another version may take another.
_CIPHER = ("cipher=aes-xts-plain64", "size=512")


@dataclass(frozen=True)
class PlannedContainer(PlannedContent, Structure):
    """A LUKS2 container on its device, and ``opened``, the device that it opens into."""

    uuid: str
    opened: Device
    wanted: Container

    @property
    def kind(self) -> Kind:
        # It reads and looks for what is planned here.
        from bareon.storage.luks.kind import KIND

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
        key = key_of(self)
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
            yield f"{self.device}: expected {FORMAT}, found {words(found)}"
            return
        if there.format != FORMAT:
            yield f"{self.device}: expected {FORMAT}, found {there.format}"
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
        title = f"{self.opened.device}  ({FORMAT}, {human(self.opened.size)}, on {self.device})"
        return View(title, ("size", "file system", "mount", "decision"), (row,))

    def document(self) -> dict[str, Any]:
        content = self.opened.content
        return {
            "name": self.opened.device,
            "format": FORMAT,
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
            format=FORMAT,
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
