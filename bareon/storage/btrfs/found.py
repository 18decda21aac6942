# SPDX-License-Identifier: Apache-2.0
"""A btrfs over several devices as it was found, and the search for it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bareon import tools
from bareon.errors import CommandError
from bareon.step import Step
from bareon.storage.btrfs.filesystem import TYPE
from bareon.storage.kind import Found, Joined, Look, Search, Signature, words

LOG = logging.getLogger(__name__)


def alias(uuid: str) -> str:
    """The name for all of a btrfs over several devices: a link that udev has to one of them, whichever it be."""
    return f"/dev/disk/by-uuid/{uuid}"


@dataclass(frozen=True)
class BtrfsFacts(Joined):
    """A btrfs over several devices. ``count`` is the number of those, ``members`` are those that are there.

    ``stale`` are the members that lack what was last written to others. ``level`` and ``metadata`` are the profiles
    of data and metadata, such as ``raid1``; empty where they cannot be read.
    """

    uuid: str
    count: int
    members: tuple[str, ...]
    alias: str
    level: str = ""
    metadata: str = ""
    stale: tuple[str, ...] = ()
    content: Signature | None = None

    @property
    def missing(self) -> int:
        """The number of devices that are not there."""
        return max(0, self.count - len(self.members))

    @property
    def title(self) -> str:
        return f"btrfs {self.uuid}"

    @property
    def words(self) -> str:
        """The file system for people, with how many devices it has and how many of them are not there."""
        gone = f", {self.missing} of them missing" if self.missing else ""
        return f"{words(self.content)} over {self.count} devices{gone}"

    @property
    def running(self) -> bool:
        return False  # nothing but a mount holds its devices

    @property
    def plausible(self) -> Iterator[tuple[str, str, bool]]:
        yield "", self.alias, self.count > 0

    def stop(self, action: str) -> Iterator[Step]:
        yield from ()


class BtrfsSearch(Search):
    """Those of several devices by their superblocks, each of which says how many there are."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._read: set[str] = set()
        self._members: dict[str, dict[str, tools.btrfs.Superblock]] = defaultdict(dict)

    def go_on(self, *, sure: bool) -> bool:
        new = [x for x in self._look.devices(TYPE) if x not in self._read]
        for device in new:
            self._read.add(device)
            try:
                found = tools.btrfs.superblock(device)
            except CommandError as error:
                # That its UUID is one of several devices is still seen, and keeps bareon from all of them.
                LOG.info("%s: its superblock cannot be read: %s", device, error)
                continue
            if found.count > 1:
                self._members[found.uuid][device] = found
        return bool(new)

    def found(self) -> Sequence[BtrfsFacts]:
        return [self._facts(uuid, members) for uuid, members in self._members.items()]

    def _facts(self, uuid: str, members: dict[str, tools.btrfs.Superblock]) -> BtrfsFacts:
        devices = sorted(members, key=lambda x: members[x].number)
        newest = max(x.generation for x in members.values())
        first, *beside = devices
        content = self._look.content(first)
        level = metadata = ""
        try:
            level, metadata = tools.btrfs.profiles(first, beside=beside)
            names = tools.btrfs.at_top(first, beside=beside)
            content = replace(content, subvolumes=names) if content else None
        except CommandError as error:
            LOG.info("btrfs %s: what is in it is not known: %s", uuid, error)
        return BtrfsFacts(
            uuid,
            max(x.count for x in members.values()),
            tuple(sorted(map(self._look.name_of, devices))),
            alias(uuid),
            level,
            metadata,
            tuple(sorted(self._look.name_of(x) for x in devices if members[x].generation < newest)),
            content,
        )

    def as_left(self, found: Sequence[Found]) -> Sequence[Found]:
        return found
