# SPDX-License-Identifier: Apache-2.0
"""The node that a deployed system has come to, as the files know it that name devices."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bareon.model.deployment import InterfaceName
from bareon.model.layout import Layout
from bareon.storage.disk import Driver
from bareon.storage.filesystem import SWAP, Mounted
from bareon.storage.kind import Signature
from bareon.system.carried import Needs
from bareon.tools.lvm import mapper_device

_TAGS = {tag: f"/dev/disk/by-{tag.lower()}/" for tag in ("UUID", "LABEL", "PARTUUID", "PARTLABEL", "ID")}
_IGNORING_CASE = ("UUID", "PARTUUID")
#: What the running kernel makes by itself, or is no disk of the node.
_NO_DISK = re.compile(
    r"/dev/(?:zram|loop|ram|fd|sr|cdrom|dvd|shm|nfs|null|zero|full|random|urandom|tty)[^/]*(?:/.*)?"
)
_PLAIN_IN_LINKS = "#+-.:=@_"


def normal(name: str) -> str | None:
    """A device as fstab(5) names it, in one form for all that mean the same; ``None`` for what is no device."""
    name = name.replace('"', "").replace("'", "")
    for tag, folder in _TAGS.items():
        for start in (f"{tag}=", folder):
            if name.startswith(start) and len(name) > len(start):
                value = name.removeprefix(start)
                return f"{tag}={value.lower() if tag in _IGNORING_CASE else value}"
    return name if name.startswith("/dev/") and not _NO_DISK.fullmatch(name) else None


def array(uuid: str) -> str:
    """The UUID of an md array in one form, whether mdadm or libblkid wrote it."""
    return f"MD={re.sub('[^0-9a-f]', '', uuid.lower())}"


def identifiers(device: str, content: Signature | None) -> Iterator[str]:
    """The normal forms of all names that a device has by itself, and by what is on it."""
    yield device
    yield mapper_device(device)
    if content and content.uuid:
        yield f"UUID={content.uuid.lower()}"
        if content.type == "linux_raid_member":
            yield array(content.uuid)
    if content and content.label:
        yield f"LABEL={content.label}"


def _passing(mounted: Mounted) -> bool:
    return mounted.filesystem.mapped_at_start is not None


def _there(name: str) -> bool:
    """True if udev has a link for a device of that name in the ramdisk."""
    tag, _, value = name.partition("=")
    encoded = "".join(x if x.isalnum() or x in _PLAIN_IN_LINKS else f"\\x{ord(x):02x}" for x in value)
    places = (
        [name] if name.startswith("/") else [f"{_TAGS.get(tag, '/dev/no/')}{x}" for x in (encoded, value.upper())]
    )
    # Unlike Path.exists, this does not raise for names that no file system takes; an image may hold any.
    return any(os.path.exists(place) for place in places)  # noqa: PTH110


@dataclass(frozen=True)
class Home:
    """The node as one image's system meets it.

    ``elsewhere`` are the identifiers of what lies outside of the layout, ``former`` those of what lay where the
    layout is now; all in the form of :func:`normal`. ``volumes`` are what fstab is written of: file systems, parents
    first, and swap areas. ``there`` tells whether the ramdisk sees a device. ``drivers`` are those of the disks of
    its root file system.
    """

    layout: Layout
    image: str
    elsewhere: frozenset[str] = frozenset()
    former: frozenset[str] = frozenset()
    interfaces: tuple[InterfaceName, ...] = ()
    volumes: tuple[Mounted, ...] = ()
    there: Callable[[str], bool] = _there
    drivers: tuple[Driver, ...] = ()

    @property
    def needs(self) -> Needs:
        """What its initramfs must carry."""
        return Needs.of(self.layout.early(self.image), self.drivers)

    @property
    def fresh(self) -> bool:
        """True where nothing but images made the root: under clean nothing is kept, whichever stage this is."""
        root = next((x for x in self.layout.tree(self.image) if x.point == "/"), None)
        return self.layout.policy == "clean" or not (root and root.kept)

    @property
    def may_have_subvolumes(self) -> bool:
        """True where the root file system was not made by bareon, and so may be a part of a btrfs."""
        root = next((x for x in self.volumes if x.point == "/"), None)
        made = root and (self.subvolume or not (root.kept or root.filesystem.wanted.from_image))
        return bool(root and root.type == "btrfs" and not made)

    @property
    def subvolume(self) -> str | None:
        """The name of the subvolume that the layout has for the root; ``None`` where it has none."""
        return next((x.mount.subvolume for x in self.volumes if x.point == "/"), None)

    @property
    def swap(self) -> Mounted | None:
        """The swap area that the system resumes from: the first that it uses, unless it is made at each start."""
        return next((x for x in self.volumes if x.point == SWAP and x.mount.enabled and not _passing(x)), None)

    @property
    def physical_volumes(self) -> tuple[str, ...]:
        """The devices of all volume groups of the layout."""
        groups = (structure for structure in self.layout.structures() if structure.kind.name == "lvm")
        return tuple(member for group in groups for member in group.members)

    @property
    def new_group(self) -> str | None:
        """A volume group of the layout that is made in this run."""
        new = (x for x in self.layout.aggregates if x.kind.name == "lvm" and x.decision != "keep")
        return next((f"volume group {group.name}" for group in new), None)

    @property
    def wwids(self) -> tuple[str, ...]:
        """The WWIDs of the disks of the layout that are maps of multipath."""
        return tuple(disk.multipath.wwid for disk in self.layout.disks if disk.multipath)

    @functools.cached_property
    def root(self) -> tuple[str, ...]:
        """The identifiers of the root file system."""
        root = next((x for x in self.volumes if x.point == "/"), None)
        return tuple(identifiers(root.device, Signature(root.type, root.uuid, root.filesystem.label))) if root else ()

    @functools.cached_property
    def ours(self) -> frozenset[str]:
        """The identifiers of everything in the layout."""
        return frozenset(self._ours())

    @functools.cached_property
    def gone(self) -> frozenset[str]:
        """The identifiers of what this layout took the place of."""
        return self.former - self.ours

    def _ours(self) -> Iterator[str]:
        for disk in self.layout.disks:
            yield disk.device
            for part in disk.partitions:
                yield f"PARTUUID={part.guid.lower()}"
                if part.name:
                    yield f"PARTLABEL={part.name}"
        for device in self.layout.devices():
            content = device.content
            yield from identifiers(device.device, content.signature if content else None)
        for volume in self.volumes:
            yield normal(volume.source) or volume.source
        for structure in self.layout.structures():
            if uuid := getattr(structure, "uuid", None):
                yield array(uuid)

    def lacks(self, name: str) -> bool:
        """True if ``name`` is a device that is not here: as fstab(5) has it, or ``MD=UUID``, or ``VG=NAME``."""
        if name.startswith("VG="):
            folder = f"/dev/{name[3:]}/"
            return not any(x.startswith(folder) for x in (*self.ours, *self.elsewhere))
        known = array(name[3:]) if name.startswith("MD=") else normal(name)
        if known is None or known in self.ours or known in self.elsewhere:
            return False
        return known in self.former or not self.there(known)

    def knows_beginning(self, name: str) -> bool:
        """True if what is here has an identifier that begins with ``name``."""
        start = normal(name)
        return start is not None and any(x.startswith(start) for x in (*self.ours, *self.elsewhere))

    def lacking(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that the node lacks, each once."""
        return [name for name in dict.fromkeys(names) if self.lacks(name)]
