# SPDX-License-Identifier: Apache-2.0
"""Steps that make arrays, start and name them, and stop them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bareon import tools
from bareon.errors import ActionFailed
from bareon.sizes import human
from bareon.step import Outcome, Progress, Step
from bareon.storage.md.level import CHUNK, DATA_OFFSET

if TYPE_CHECKING:
    from bareon.storage.md.planned import PlannedArray

METADATA = "1.2"
HOMEHOST = "any"  # mdadm's word for every host


@dataclass(frozen=True)
class MakeArray(Step):
    """Make an array with the UUID that was decided for it."""

    array: PlannedArray

    @property
    def description(self) -> str:
        array = self.array
        size = human(array.device.size)
        return f"Make {array.level} {array.device.device} ({size}) of {array.lies_on}"

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
