# SPDX-License-Identifier: Apache-2.0
"""LVM as a kind of storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bareon import tools
from bareon.errors import Defect
from bareon.storage import filesystem, schema
from bareon.storage.kind import Content, Fragment, Kind, Look, Read, Reader, Search
from bareon.storage.lvm import wanted
from bareon.storage.lvm.found import VolumeGroupFacts
from bareon.storage.lvm.name import group_defects, volume_defects
from bareon.storage.lvm.search import GroupSearch, group_of
from bareon.storage.lvm.segment import SEGMENT_TYPES
from bareon.storage.lvm.wanted import PhysicalVolume, VolumeGroup
from bareon.storage.schema import Schema

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment


class _Lvm(Kind):
    name = "lvm"
    noun = "volume group"
    section = "volume_groups"
    about_section = "LVM volume groups"
    always = True
    roles = (PhysicalVolume.role,)
    lsblk_types = ("lvm",)
    found = VolumeGroupFacts

    @property
    def fragments(self) -> tuple[Fragment, ...]:
        return wanted.FRAGMENTS

    @property
    def plan_schema(self) -> Mapping[str, Schema]:
        return {
            "volume_group": schema.record(
                "A volume group of the plan.",
                {
                    "name": schema.string("Its name."),
                    "size": schema.count("What it offers in whole extents."),
                    "members": schema.items("The devices of its physical volumes."),
                    "decision": {**schema.DECISION, "description": "create or keep."},
                    "tags": schema.items("Its tags."),
                    "volumes": schema.items("Its logical volumes.", "logical_volume"),
                },
            ),
            "logical_volume": schema.record(
                "A logical volume of the plan.",
                {
                    "name": schema.string("Its name."),
                    "device": schema.string("The kernel's name of it."),
                    "size": schema.count("Its size, without copies and parity."),
                    "taken": schema.count("What it takes of the group, copies, parity and metadata included."),
                    "pool": schema.string("The thin pool that a thin one is in, else empty."),
                    "kind": schema.string(f"How it lies on physical volumes: {', '.join(SEGMENT_TYPES)}."),
                    "stripes": schema.count("The number of stripes with data, 1 for none."),
                    "mirrors": schema.count("The number of copies besides the first one."),
                    "physical_volumes": schema.items("The physical volumes of one that is not linear."),
                    "tags": schema.items("Its tags."),
                    **filesystem.planned_fields(),
                    "decision": schema.DECISION,
                },
            ),
        }

    @property
    def facts_schema(self) -> Mapping[str, Schema]:
        return {
            "found_volume_group": schema.record(
                "A volume group as it was found.",
                {
                    "name": schema.string("Its name."),
                    "size": schema.count("What it offers."),
                    "members": schema.items("The physical volumes that are there."),
                    "tags": schema.items("Its tags."),
                    "volumes": schema.items("Its logical volumes.", "found_logical_volume"),
                },
            ),
            "found_logical_volume": schema.record(
                "A logical volume as it was found.",
                {
                    "name": schema.string("Its name."),
                    "device": schema.string("The kernel's name of it."),
                    "size": schema.count("Its size."),
                    "content": schema.CONTENT,
                    "layout": schema.string(
                        "What it is in LVM's words: linear, striped, raid,raid1, thin,sparse, ..."
                    ),
                    "health": schema.string("What LVM finds wrong with it; empty for nothing."),
                    "legs": schema.count("The number of its stripes, copies and parities together."),
                    "copies": schema.count("The number of copies of its data, where it has mirrors."),
                    "pool": schema.string("The pool that it is in, if any."),
                    "tags": schema.items("Its tags."),
                },
            ),
        }

    def keys(self, fragment: str) -> Mapping[str, Any]:
        if fragment != "raid":
            return {}
        meaning = "The array is a physical volume of this volume group instead of having a file system."
        return {"vg": {"description": meaning, "$ref": "#/$defs/vg_name"}, **wanted.META_SIZE}

    def readers(self, reader: Reader) -> Mapping[str, Read]:
        return wanted.readers(reader)

    def contain(self, value: dict[str, Any], path: str, content: Content | None, reader: Reader) -> Content | None:
        if "vg" not in value or isinstance(content, PhysicalVolume):
            return content
        if content:
            message = "an array is a physical volume or has a file system, not both"
            reader.defects.append(Defect(f"{path}.vg", message))
        return wanted.physical_volume(value, path, reader)

    def defects(self, deployment: Deployment) -> Iterator[Defect]:
        groups = [x for x in deployment.aggregates if isinstance(x, VolumeGroup)]
        members = [x for x in deployment.contents() if isinstance(x, PhysicalVolume)]
        first: dict[str, VolumeGroup] = {}
        for group in groups:
            if group.name in first:
                message = f"{group.name!r} is already the volume group of {first[group.name].path}"
                yield Defect(f"{group.path}.id", message)
            first.setdefault(group.name, group)
        for group in groups:
            yield from group_defects(group)
        for member in members:
            if member.vg not in first:
                listed = ", ".join(map(repr, sorted(first))) or "none"
                yield Defect(f"{member.path}.vg", f"there is no volume group {member.vg!r}; there are: {listed}")
        for group in groups:
            if not any(member.vg == group.name for member in members):
                message = f"volume group {group.name!r} has no physical volume: no pv, and no raid, names it by 'vg'"
                yield Defect(group.path, message)
            yield from volume_defects(group)
            yield from shape_defects(group, deployment)
            yield from pool_defects(group)
            yield from _on_one_disk(group, deployment)

    def search(self, look: Look) -> Search:
        return GroupSearch(look)

    def stop_device(self, device: str) -> bool:
        uuid = group_of(Path(device).name)
        if uuid:
            tools.lvm.deactivate(uuid)
        return uuid is not None


def shape_defects(group: VolumeGroup, deployment: Deployment) -> Iterator[Defect]:
    """The defects of the volumes of a group by their segment types."""
    booted = deployment.booted()
    for volume in group.volumes:
        form = SEGMENT_TYPES[volume.kind]
        if volume.stripes is not None and not form.striped:
            yield Defect(f"{volume.path}.stripes", f"a volume that is {volume.kind} has no stripes")
        if volume.mirrors is not None and not form.mirrored:
            yield Defect(f"{volume.path}.mirrors", f"a volume that is {volume.kind} has no copies")
        yield from _too_many(volume)
        held = () if form.grub or not volume.content else volume.content.nested()
        mounts = [mount for fs in held if isinstance(fs, filesystem.Filesystem) for mount in fs.mounts]
        if images := sorted({name for x in mounts for name in x.images if (name, x.point) in booted}):
            message = f"GRUB reads /boot of image {', '.join(map(repr, images))} from here, and cannot read"
            yield Defect(f"{volume.path}.kind", f"{message} {volume.kind}: give /boot a volume of its own")


def pool_defects(group: VolumeGroup) -> Iterator[Defect]:
    """The defects of thin pools and of thin volumes, which must be in one."""
    pools = [volume.name for volume in group.volumes if volume.kind == "thin-pool"]
    listed = ", ".join(map(repr, pools)) or "none"
    for volume in group.volumes:
        if volume.kind == "thin-pool" and volume.content:
            yield Defect(volume.path, "a thin pool holds thin volumes: it has no file system, and is not mounted")
        if volume.kind != "thin" and volume.pool is not None:
            yield Defect(f"{volume.path}.pool", f"a volume that is {volume.kind} is in no pool")
        elif volume.kind == "thin" and volume.pool is None:
            yield Defect(volume.path, f"a volume that is thin needs 'pool'; the thin pools of its group: {listed}")
        elif volume.kind == "thin" and volume.pool not in pools:
            message = f"group {group.name!r} has no thin pool {volume.pool!r}; there are: {listed}"
            yield Defect(f"{volume.path}.pool", message)


def _too_many(volume: wanted.LogicalVolume) -> Iterator[Defect]:
    """The defects of a volume of more parts than lvcreate takes, which would refuse it when all is cleared."""
    form, mirrors = SEGMENT_TYPES[volume.kind], volume.mirrors or 1
    if form.mirrored and mirrors > form.mirrors:
        copies = f"{form.mirrors} mirror{'s' if form.mirrors > 1 else ''}"
        yield Defect(f"{volume.path}.mirrors", f"LVM makes a volume that is {volume.kind} with {copies} at most")
    elif form.striped and volume.stripes:
        most = form.legs // (mirrors + 1 if form.mirrored else 1) - form.parity
        if volume.stripes > most:
            message = f"LVM makes a volume that is {volume.kind} with {most} stripes at most"
            yield Defect(f"{volume.path}.stripes", message)


def _on_one_disk(group: VolumeGroup, deployment: Deployment) -> Iterator[Defect]:
    """The defects of a second physical volume on a disk, where copies or parity of a volume may come to lie there."""
    forms = [SEGMENT_TYPES[volume.kind] for volume in group.volumes]
    if not any(form.mirrored or form.parity for form in forms):
        return
    for disk in deployment.disks:
        contents = [x for volume in disk.volumes if volume.content for x in volume.content.nested()]
        found = [x for x in contents if isinstance(x, PhysicalVolume) and x.vg == group.name]
        for other in found[1:]:
            message = f"a second physical volume of {group.name!r} on one disk, beside {found[0].path}"
            yield Defect(other.path, f"{message}: with the disk more than one copy of a mirrored volume may be lost")


KIND = _Lvm()
