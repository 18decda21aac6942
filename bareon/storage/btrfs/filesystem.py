# SPDX-License-Identifier: Apache-2.0
"""A btrfs with subvolumes, or over several devices.

Subvolumes are parts of one file system that share its room, each mounted by itself; btrfs-subvolume(8).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bareon import tools
from bareon.errors import ActionFailed, Defect
from bareon.sizes import human
from bareon.step import Outcome, Progress, Step
from bareon.storage import mkfsoptions
from bareon.storage.filesystem import Filesystem, Mount, PlannedFilesystem
from bareon.storage.kind import Comparison, Content, Place, Signature

TYPE = "btrfs"
_TOP = "/run/bareon/btrfs"
"""Where the top of a file system is mounted while its subvolumes are made."""
_OF_TOP = "subvolid=5"
"""The option that mounts the top, whatever is the default."""
_NAMING = ("subvol=", "subvolid=")
_NOT_BESIDE = ("mount", "fstab_options", "fstab_enabled")


# Wanted.

SUBVOLUMES: Mapping[str, Any] = {
    "description": "The subvolumes of a btrfs, made in its top folder. They share its room, and the volume itself has"
    " no mount. What else is in a btrfs that is kept stays.",
    "type": "array",
    "minItems": 1,
    "maxItems": 256,
    "items": {
        "description": "A subvolume.",
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {
                "description": "The name, such as @home. It becomes a part of fstab, of the kernel's command line and"
                " of the paths of the boot loader.",
                "type": "string",
                "maxLength": 255,
                "pattern": r"^(?!\.{1,2}$)(?!-)[A-Za-z0-9@_.+-]+$",
                "x-pattern": "a name for a subvolume: letters, digits and @ _ . + - only",
            },
            "mount": {"$ref": "#/$defs/mount"},
            "options": {
                "description": "The options in /etc/fstab; subvol= is added to them. Left out: defaults. Most options"
                " of btrfs, such as compress, are those of whichever subvolume is mounted first.",
                "type": "string",
                "pattern": "^[!-~]+$",
                "x-pattern": "mount options without blanks",
            },
            "images": {"$ref": "#/$defs/images"},
            "default": {
                "description": "true: it is what is mounted where no subvolume is named. Of at most one.",
                "type": "boolean",
            },
        },
    },
}


@dataclass(frozen=True)
class Subvolume:
    """A subvolume as wanted, by its name in the top folder, and the images that it belongs to."""

    name: str
    images: tuple[str, ...] = ()
    default: bool = False


@dataclass(frozen=True)
class Btrfs(Filesystem):
    """A btrfs with subvolumes, of which its mounts are then, or over several devices by a ``level``.

    ``asked`` are the names of images that the input gives, each with the JSON path that names it.
    """

    subvolumes: tuple[Subvolume, ...] = ()
    asked: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    level: str | None = None

    @property
    def asked_images(self) -> Iterable[tuple[str, str]]:
        return self.asked if self.subvolumes else super().asked_images

    def no_place_for_blocks(self, mount: Mount) -> tuple[str, str] | None:
        if self.level:
            return "lies on several devices", "a volume of one device"
        return super().no_place_for_blocks(mount)

    def plan(self, place: Place) -> PlannedBtrfs:
        return PlannedBtrfs(**vars(super().plan(place)))


def divided(
    value: Mapping[str, Any], path: str, content: Content | None, found: list[Defect]
) -> Btrfs | Content | None:
    """``content`` with the subvolumes that a volume describes; ``found`` takes the defects."""
    if type(content) is not Filesystem or content.type != TYPE:
        found.append(Defect(f"{path}.subvolumes", f'only btrfs has subvolumes: give "file_system": "{TYPE}"'))
        return content
    for key in _NOT_BESIDE:
        if key in value:
            message = "the volume has subvolumes, each with its own mount and options: give it to one of them"
            found.append(Defect(f"{path}.{key}", message))
    subvolumes, mounts = [], []
    asked = [(name, f"{path}.images") for name in value.get("images", ())]
    for number, item in enumerate(value["subvolumes"]):
        place = f"{path}.subvolumes[{number}]"
        images, options = tuple(item.get("images", content.images)), item.get("options", Mount.options)
        asked += [(name, f"{place}.images") for name in item.get("images", ())]
        subvolumes.append(Subvolume(item["name"], images, item.get("default", False)))
        if any(x.startswith(_NAMING) for x in options.split(",")):
            found.append(Defect(f"{place}.options", "subvol= is bareon's to add, for the name that is given here"))
        if item.get("mount", "none") == "none":
            if "options" in item:
                found.append(Defect(f"{place}.options", "without a mount there is no line in fstab to have them"))
        else:
            mounts.append(Mount(item["mount"], options, images=images, subvolume=item["name"], path=place))
    found += _ambiguous(subvolumes, path)
    images = tuple(dict.fromkeys(name for x in subvolumes for name in x.images))
    plain = replace(content, mounts=tuple(mounts), images=images)
    return Btrfs(**vars(plain), subvolumes=tuple(subvolumes), asked=tuple(asked))


def _ambiguous(subvolumes: list[Subvolume], path: str) -> Iterator[Defect]:
    counted = Counter(x.name for x in subvolumes)
    for number, subvolume in enumerate(subvolumes):
        first = next(i for i, x in enumerate(subvolumes) if x.name == subvolume.name)
        if counted[subvolume.name] > 1 and first != number:
            message = f"{subvolume.name!r} is already the name of {path}.subvolumes[{first}]"
            yield Defect(f"{path}.subvolumes[{number}].name", message)
    for number in [i for i, x in enumerate(subvolumes) if x.default][1:]:
        yield Defect(f"{path}.subvolumes[{number}].default", "only one subvolume can be the default")


# Planned.


@dataclass(frozen=True)
class PlannedBtrfs(PlannedFilesystem):
    """A btrfs with its subvolumes, which are made with it and kept with it.

    ``profiles`` are those of data and metadata of one ``over`` several devices, where ``device`` is a name for all.
    """

    wanted: Btrfs
    over: tuple[str, ...] = ()
    profiles: tuple[str, str] | None = None

    @property
    def lies_on(self) -> tuple[str, ...]:
        """The devices that it lies on."""
        return self.over or (self.device,)

    @property
    def on(self) -> str:
        return ", ".join(self.lies_on)

    @property
    def parts(self) -> tuple[Mapping[str, Any], ...]:
        points = {x.subvolume: x for x in self.wanted.mounts}
        return tuple(
            {
                "device": self.device,
                "name": x.name,
                "mount": points[x.name].point if x.name in points else None,
                "options": points[x.name].options if x.name in points else None,
                "images": list(x.images),
                "default": x.default,
                "decision": self.decision,
            }
            for x in self.wanted.subvolumes
        )

    @property
    def signature(self) -> Signature:
        names = tuple(sorted(x.name for x in self.wanted.subvolumes))
        known = self.type == TYPE and (names or not self.over)
        return Signature(self.type, self.uuid, self.label, names if known else None)

    @property
    def cells(self) -> tuple[str, str]:
        return self.type, " ".join(x.point for x in self.wanted.mounts) or "-"

    @property
    def programs(self) -> tuple[str, ...]:
        made = (*tools.btrfs.PROGRAMS, *tools.mount.PROGRAMS) if self.is_made else ()
        return (*super().programs, *made)

    def make(self, action: str) -> Iterator[Step]:
        if self.is_made and self.profiles:
            yield MakeSpread(action, self)
        else:
            yield from super().make(action)
        if self.is_made and self.wanted.subvolumes:
            yield MakeSubvolumes(action, self)

    def spoil(self, mount: Mount) -> None:
        if not mount.subvolume:
            tools.device.wipe(self.lies_on)
            return
        with _top(self.device) as top:
            if any(x.default and x.name == mount.subvolume for x in self.wanted.subvolumes):
                tools.btrfs.set_default_to_top(top)
            tools.btrfs.delete(f"{top}/{mount.subvolume}")

    def differences(self, found: Signature | None, comparison: Comparison) -> Iterator[str]:
        yield from super().differences(found, comparison)
        if not found or found.type != TYPE or (comparison.make and not self.wanted.keep_data):
            return
        names = [x.name for x in self.wanted.subvolumes]
        if names and found.subvolumes is None:
            yield f"{self.device}: expected the subvolumes {', '.join(names)}, and those that it has cannot be read"
            return
        for name in names:
            if name not in (found.subvolumes or ()):
                yield f"{self.device}: expected a subvolume {name}, found {found.parts}"


def _top(device: str) -> AbstractContextManager[str]:
    """Mount the top of a btrfs for the length of a ``with`` block."""
    Path(_TOP).mkdir(parents=True, exist_ok=True)
    return tools.mount.mounted(device, _TOP, kind=TYPE, options=_OF_TOP)


@dataclass(frozen=True)
class MakeSpread(Step):
    """Make a btrfs over several devices, and have another command read back that each is one of its."""

    filesystem: PlannedBtrfs

    @property
    def description(self) -> str:
        fs = self.filesystem
        points = ", ".join(dict.fromkeys(x.point for x in fs.wanted.mounts))
        made = f"Make btrfs ({fs.wanted.level}, {human(fs.size)}) over {', '.join(fs.over)}"
        return f"{made} for {points}" if points else made

    @property
    def destroys(self) -> tuple[str, ...]:
        return self.filesystem.over if self.filesystem.decision == "format" else ()

    def preflight(self) -> None:
        if self.filesystem.decision == "format":
            for member in self.filesystem.over:
                tools.device.refuse_if_busy(member)

    def run(self, progress: Progress) -> Outcome:
        fs, (first, *beside) = self.filesystem, self.filesystem.over
        assert fs.profiles
        if fs.decision == "format":
            tools.device.wipe(fs.over)
        version = tools.filesystem.version(TYPE) if fs.without else None
        data, metadata = fs.profiles
        more = ["-d", data, "-m", metadata, *mkfsoptions.arguments(TYPE, fs.without, fs.wanted.mkfs_options, version)]
        tools.btrfs.forget(fs.over)
        tools.filesystem.make(TYPE, first, fs.uuid, fs.label, more=more, beside=beside)
        tools.btrfs.scan(fs.over)
        for member in fs.over:
            tools.udev.look_again(member)
            found = tools.btrfs.superblock(member)
            if (found.uuid, found.count) != (fs.uuid, len(fs.over)):
                raise ActionFailed(f"{member}: btrfs reads back {found}, not {fs.uuid} over {len(fs.over)} devices")
        tools.udev.wait_for({fs.device: None})
        return {"bytes": fs.size}


@dataclass(frozen=True)
class MakeSubvolumes(Step):
    """Make the subvolumes of a new btrfs, and have another command read them back."""

    filesystem: PlannedBtrfs

    @property
    def description(self) -> str:
        names = [x.name for x in self.filesystem.wanted.subvolumes]
        default = [f", {x.name} as the default" for x in self.filesystem.wanted.subvolumes if x.default]
        return f"Make the subvolumes {', '.join(names)} on {self.filesystem.on}{''.join(default)}"

    def run(self, progress: Progress) -> Outcome:
        device, wanted = self.filesystem.device, self.filesystem.wanted.subvolumes
        with _top(device) as top:
            for subvolume in wanted:
                tools.btrfs.create(f"{top}/{subvolume.name}")
                if subvolume.default:
                    tools.btrfs.set_default(f"{top}/{subvolume.name}")
        first, *beside = self.filesystem.lies_on
        found = tools.btrfs.at_top(first, beside=beside)
        if found != tuple(sorted(x.name for x in wanted)):
            raise ActionFailed(f"{device}: the subvolumes read back are {', '.join(found) or 'none'}")
        return {"subvolumes": len(found)}
