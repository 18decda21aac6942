# SPDX-License-Identifier: Apache-2.0
"""Volume groups and logical volumes as they were found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bareon.sizes import human
from bareon.step import Step
from bareon.storage.kind import Found, Signature, words
from bareon.storage.lvm.segment import SEGMENT_TYPES
from bareon.storage.lvm.step import DeactivateGroup

SIGNATURE = "LVM2_member"
PROGRAMS = ("lvm",)


@dataclass(frozen=True)
class LogicalVolumeFacts:
    """A logical volume. What is in it is only known where it could be activated.

    ``layout`` is LVM's list of what it is, ``health`` what LVM finds wrong with it; lvs(8). ``legs`` is the number of
    its stripes, copies and parities together, ``copies`` that of its data where it has mirrors. ``pool`` is the name
    of the pool that it is in.
    """

    name: str
    device: str
    size: int
    active: bool
    content: Signature | None = None
    layout: str = "linear"
    health: str = ""
    legs: int = 1
    copies: int = 1
    tags: tuple[str, ...] = ()
    pool: str = ""

    @property
    def shape(self) -> str:
        """How it lies on physical volumes, in words that are alike where it is."""
        if self.layout == SEGMENT_TYPES["thin-pool"].layout:
            return "a thin pool"
        if self.layout == SEGMENT_TYPES["thin"].layout:
            return f"thin in pool {self.pool}"
        kinds = self.layout.split(",")
        known = next((name for name, form in SEGMENT_TYPES.items() if form.layout in kinds), self.layout)
        mirrored = known in SEGMENT_TYPES and SEGMENT_TYPES[known].mirrored
        copies = f", {self.copies} copies" if mirrored else ""
        return f"{known} on {self.legs} physical volumes{copies}"


@dataclass(frozen=True)
class VolumeGroupFacts(Found):
    """A volume group. ``missing`` physical volumes are counted; ``members`` are those that are there."""

    name: str
    uuid: str
    size: int
    extent: int
    members: tuple[str, ...]
    missing: int = 0
    volumes: tuple[LogicalVolumeFacts, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"volume group {self.name}"

    @property
    def words(self) -> str:
        volumes = ", ".join(f"{x.name}: {words(x.content)} of {human(x.size)}" for x in self.volumes)
        return f"{self.title} ({volumes or 'empty'})"

    @property
    def stands_on(self) -> tuple[str, ...]:
        return self.members

    @property
    def offers(self) -> tuple[tuple[str, Signature | None], ...]:
        return tuple((volume.device, volume.content) for volume in self.volumes)

    @property
    def present(self) -> tuple[str, ...]:
        return tuple(volume.device for volume in self.volumes if volume.active)

    @property
    def running(self) -> bool:
        return any(volume.active for volume in self.volumes)

    @property
    def usable(self) -> bool:
        return bool(self.volumes) and all(volume.active for volume in self.volumes)

    @property
    def plausible(self) -> Iterator[tuple[str, str, bool]]:
        yield "", "/dev/", self.size >= 0 and self.extent > 0 and self.missing >= 0
        for place, volume in enumerate(self.volumes):
            yield f".volumes[{place}]", volume.device, volume.size >= 0

    def stop(self, action: str) -> Iterator[Step]:
        yield DeactivateGroup(action, self.name, self.uuid)
