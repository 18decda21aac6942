# SPDX-License-Identifier: Apache-2.0
"""Planned members and arrays, and their differences from what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bareon.sizes import MIB, human, mib
from bareon.step import Step
from bareon.storage import filesystem
from bareon.storage.kind import (
    Comparison,
    Device,
    Found,
    Key,
    Kind,
    PlannedAggregate,
    PlannedMembership,
    Signature,
    System,
    View,
    cells,
)
from bareon.storage.md.found import PROGRAMS, SIGNATURE, ArrayFacts, listed
from bareon.storage.md.level import LEVELS
from bareon.storage.md.step import HOMEHOST, METADATA, MakeArray, NameArray, StartArray

TOLERANCE = MIB  # bytes that the size of an array may be off


@dataclass(frozen=True)
class PlannedMember(PlannedMembership):
    """A member of the array of that name, or a spare of it."""

    array: str
    spare: bool = False

    @property
    def joins(self) -> Key:
        return "md", self.array

    @property
    def signature(self) -> Signature:
        return Signature(SIGNATURE)


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
        # It reads and looks for what is planned here.
        from bareon.storage.md.kind import KIND

        return KIND

    @property
    def members(self) -> tuple[str, ...]:
        return (*self.over, *self.spares)

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self.device,)

    @property
    def lies_on(self) -> str:
        """Its members for people, with what stands by."""
        spares = f", spare {', '.join(self.spares)}" if self.spares else ""
        return f"{', '.join(self.over)}{spares}"

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
            yield f"{name}: expected an array over {listed(self.members)}, found {len(found) or 'none'}"
            return
        array = found[0]
        for other in comparison.found(ArrayFacts, everywhere=True):
            if self.means(other) and other is not array:  # one of the two has the name; nobody can say which, later
                yield f"{name}: expected no other array of this name, found one over {listed(other.members)}"
        if array.level != self.level:
            yield f"{name}: expected {self.level}, found {array.level}"
        gone = set(self.members) - set(array.members)
        if set(array.members) - set(self.members) or (gone and not array.missing):
            yield f"{name}: expected the members {listed(self.members)}, found {listed(array.members)}"
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
            yield f"{listed(found.out_of_step)} is out of use, and no spare any more"

    def make(self, action: str) -> Iterator[Step]:
        yield MakeArray(action, self)

    def start(self, action: str) -> Iterator[Step]:
        yield NameArray(action, self, self.runs_as) if self.runs_as else StartArray(action, self)

    def view(self) -> View:
        content = self.device.content
        purpose = f"volume group {content.member_of}" if content and content.member_of else "-"
        kind, point = cells(content)
        row = (human(self.device.size), purpose if kind == "-" else kind, point, self.decision)
        title = f"{self.device.device}  ({self.level}, {human(self.device.size)}, on {self.lies_on})"
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
