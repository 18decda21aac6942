# SPDX-License-Identifier: Apache-2.0
"""The search for volume groups on this machine."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bareon import tools
from bareon.errors import CommandError, UnsuitableNode
from bareon.storage.kind import UNKNOWN, Found, Look, Search
from bareon.storage.lvm.found import PROGRAMS, SIGNATURE, LogicalVolumeFacts, VolumeGroupFacts
from bareon.storage.lvm.show import Pieces, is_there, show_mirrored, show_pools

LOG = logging.getLogger(__name__)

SYS = Path("/sys/class/block")


class GroupSearch(Search):
    """Volume groups by LVM's own report, asked again when devices have come to light on which there may be more."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._asked: int | None = None
        self._tried: set[str] = set()
        self._groups: dict[str, VolumeGroupFacts] = {}
        self._shown: dict[tuple[str, str], str] = {}

    def go_on(self, *, sure: bool) -> bool:
        members, nested = self._look.devices(SIGNATURE), self._look.nested
        # What is in partitions of an array is not known, so LVM is asked wherever there is an array.
        ask = members or (nested and not sure and not tools.device.missing(PROGRAMS))
        if not ask or self._asked == nested:
            return False
        if absent := tools.device.missing(PROGRAMS):
            raise UnsuitableNode(f"there is LVM on the disks, and {', '.join(absent)} is not installed to read it")
        self._asked = nested
        report = tools.lvm.report()
        for group in report.groups:
            self._take(group, report)
        return True

    def _take(self, group: tools.lvm.Group, report: tools.lvm.Report) -> None:
        """A group with what can be seen in its volumes, activated where nothing is yet."""
        members = [volume.device for volume in report.physical if volume.group_uuid == group.uuid]
        present = [x for x in members if x.startswith("/")]
        volumes = [volume for volume in report.volumes if volume.group_uuid == group.uuid]
        unique = sum(other.name == group.name for other in report.groups) == 1
        looked_at = any(volume.active for volume in volumes)
        if volumes and not looked_at and unique and len(present) == len(members) and group.uuid not in self._tried:
            looked_at = self._activated(group, volumes)
            self._show(group, volumes, report)
        # At a second look it may be active because of the first.
        before = {x.name: x.active for x in self._groups[group.uuid].volumes} if group.uuid in self._groups else {}
        found = (self._volume(group, x, looked_at, before.get(x.name, x.active)) for x in volumes)
        self._groups[group.uuid] = VolumeGroupFacts(
            name=group.name,
            uuid=group.uuid,
            size=group.size,
            extent=group.extent,
            members=tuple(present),
            missing=len(members) - len(present),
            volumes=tuple(found),
            tags=group.tags,
        )

    def _activated(self, group: tools.lvm.Group, volumes: Sequence[tools.lvm.Volume]) -> bool:
        self._tried.add(group.uuid)
        names = [volume.name for volume in volumes if not (_is_mirrored(volume) or _is_thin(volume))]
        if not all(map(_is_plain, volumes)) and any(_is_image(x, group) for x in tools.lvm.pieces()):
            names = [volume.name for volume in volumes if _is_plain(volume)]  # pools may lie on them
        try:
            if len(names) == len(volumes):
                tools.lvm.activate(group.name, read_only=True)
            elif names:
                tools.lvm.activate_volumes(group.name, names)
        except CommandError as error:
            LOG.warning("volume group %s cannot be activated: %s", group.name, error)
        devices = [tools.device.kernel_name(f"/dev/{group.name}/{name}") for name in names]
        self._look.begun(_Started(group.name, group.uuid, tuple(devices)))
        with contextlib.suppress(CommandError):  # udev may be about to start an array on a volume
            tools.udev.settle()
        return group.uuid in _active()

    def _show(self, group: tools.lvm.Group, volumes: Sequence[tools.lvm.Volume], report: tools.lvm.Report) -> None:
        """Show what is not activated, since that would write to it: mirrored volumes, and those of thin pools."""
        mirrored = [volume.name for volume in volumes if _is_mirrored(volume)]
        thin = any(map(_is_thin, volumes))
        if not mirrored and not thin:
            return
        pieces = Pieces.of(group, report)
        shown = [*show_mirrored(self._look, pieces, mirrored), *(show_pools(self._look, pieces) if thin else ())]
        for volume, device in shown:
            self._look.name(device, f"/dev/{group.name}/{volume}")
            self._shown[group.uuid, volume] = device

    def _volume(
        self, group: tools.lvm.Group, volume: tools.lvm.Volume, there: bool, active: bool
    ) -> LogicalVolumeFacts:
        device = f"/dev/{group.name}/{volume.name}"
        at = self._shown.get((group.uuid, volume.name), device)
        # A pool offers nothing by itself.
        visible = (there or at != device) and "pool" not in volume.layout.split(",") and is_there(at)
        content = self._look.content(at) if visible else UNKNOWN if _is_in_pool(volume) else None
        if visible and content:
            self._look.offer(at, content)
        return LogicalVolumeFacts(
            *(volume.name, device, volume.size, active, content),
            layout=volume.layout,
            health=volume.health,
            legs=volume.legs,
            copies=volume.copies,
            tags=volume.tags,
            pool=volume.pool,
        )

    def found(self) -> Sequence[VolumeGroupFacts]:
        # An array goes by its name: the kernel's number for it is another one at the next start.
        return [
            replace(group, members=tuple(sorted(map(self._look.name_of, group.members))))
            for group in self._groups.values()
        ]

    def as_left(self, found: Sequence[Found]) -> Sequence[Found]:
        active = {(x.group_uuid, x.name) for x in tools.lvm.report().volumes if x.active} if found else set()
        return [
            replace(x, volumes=tuple(replace(v, active=(x.uuid, v.name) in active) for v in x.volumes))
            for x in found
            if isinstance(x, VolumeGroupFacts)
        ]


@dataclass(frozen=True)
class _Started:
    """A volume group that was activated."""

    name: str
    uuid: str
    devices: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"volume group {self.name}"

    def runs(self) -> bool:
        return self.uuid in _active()

    def stop(self) -> None:
        tools.lvm.deactivate(self.uuid)


def _is_mirrored(volume: tools.lvm.Volume) -> bool:
    """True for a volume whose copies the kernel brings into step once it is active, though for reading only."""
    return not {"raid", "mirror"}.isdisjoint(volume.layout.split(","))


def _is_thin(volume: tools.lvm.Volume) -> bool:
    """True for a thin pool, which the kernel does not start for reading only by itself, and for a volume of one."""
    return "thin" in volume.layout.split(",")


def _is_in_pool(volume: tools.lvm.Volume) -> bool:
    return _is_thin(volume) and "pool" not in volume.layout.split(",")


def _is_plain(volume: tools.lvm.Volume) -> bool:
    """True for a volume with no other one below it."""
    return {"linear", "striped"}.issuperset(volume.layout.split(","))


def _is_image(part: tools.lvm.Piece, group: tools.lvm.Group) -> bool:
    """True for a leg of something mirrored in the group, which may be a part of a pool that no report tells of."""
    return part.group_uuid == group.uuid and re.search("_[rm]image_[0-9]+$", part.name) is not None


def _active() -> set[str]:
    """The UUIDs of the groups of which a volume is active."""
    return {uuid for path in SYS.glob("dm-*") if (uuid := group_of(path.name))}


def group_of(name: str) -> str | None:
    """The UUID of the group that a device of the device mapper belongs to, as LVM prints it."""
    try:
        text = (SYS / name / "dm/uuid").read_text().strip()
    except OSError:
        return None  # it is no such device, or went meanwhile
    if not text.startswith("LVM-"):
        return None
    plain, parts = text.removeprefix("LVM-")[:32], []
    for length in (6, 4, 4, 4, 4, 4, 6):
        parts.append(plain[:length])
        plain = plain[length:]
    return "-".join(parts)
