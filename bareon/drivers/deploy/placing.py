# SPDX-License-Identifier: Apache-2.0
"""Judgement on the members of an archive: where each goes, and which tell what cannot be believed."""

from __future__ import annotations

from collections.abc import Callable, Collection

from bareon.drivers.deploy.listing import Share, Survey, described
from bareon.errors import ImageFailed
from bareon.sizes import MIB, human
from bareon.system.tree import Tree, holds
from bareon.tools import rsync
from bareon.transfer.tarstream import Member

_MEMORY = 512 * MIB  # for the names of folders and links, of which an honest archive has some hundred thousand
_OF_A_NAME = 200  # bytes that one takes besides its letters


class Placing:
    """Judges each member that an archive brings to the volumes of a survey, and counts it there.

    ``kept`` are the mount points of volumes that have files of somebody; ``own`` are paths of the deployed system
    that no image brings. ``exists`` tells of a path whether an image before this one brought it; it is asked about
    the mount points ``shared``.

    Afterwards ``torn`` has the hard links across volumes, which were left out: path and what it is another name of,
    both in the deployed system. ``copies`` counts the files that were made of them. ``left`` are the paths that stay
    another image's.
    """

    def __init__(self, survey: Survey, kept: Collection[str] = (), own: Collection[str] = ()) -> None:
        self.survey = survey
        self.shared: Collection[str] = ()
        self.exists: Callable[[str], bool] = lambda path: False
        self.torn: list[tuple[str, str]] = []
        self.copies = 0
        self.left: list[str] = []
        self._kept = kept
        self._own = own
        self._folders = {""}  # on the way to members, none of them a link
        self._declared: set[str] = set()  # those that are members themselves
        self._links: set[str] = set()
        self._memory = _MEMORY

    def into(self, tree: Tree, shared: Collection[str]) -> None:
        """Say into which tree the members go, and where other images have brought files to it."""
        self.shared, self.exists = shared, tree.has

    def __call__(self, member: Member) -> bool:
        """True if the member is to be brought.

        :raises ImageFailed: for one that no honest archive has.
        """
        path = inside(member.path, member.path)
        self._check_way(path, path)
        self._check_kind(path, member)
        deployed = self.survey.deployed(path)
        share = self.survey.holding(deployed)
        if share.mount.point in self._kept and not share.mount.left:
            self._check_kept(path, deployed, share)
        first = self._first_name(path, member) if member.kind == "h" else None
        self._count(path, member, first)
        if share.mount.left:
            return False
        if first is not None and self.survey.holding(self.survey.deployed(first)).mount.left:
            raise ImageFailed(
                f"has {path!r} as another name of {first!r}, which would lie on a volume that is in use"
            )
        if first is not None and self.survey.holding(self.survey.deployed(first)) is not share:
            self._remember(deployed, first)
            self.torn.append((deployed, self.survey.deployed(first)))
            return False
        return self._is_wanted(deployed, member, share)

    def _is_wanted(self, path: str, member: Member, share: Share) -> bool:
        if share.lost is not None:
            if path != share.mount.point:
                place = f"{share.mount.point} is vfat, which keeps no owners, modes and links: choose ext4"
                raise ImageFailed(f"has {path}, and {place}")
            return False
        if share.mount.point in self._kept and any(holds(x, path) for x in self._own):
            return False
        if share.mount.point in self.shared and member.kind != "d" and self.exists(path):
            self.left.append(path)
            return False
        return True

    def _check_way(self, path: str, named: str) -> None:
        """See that no link of the archive lies on the way to a path."""
        folder = _folder(path)
        way = []
        while folder not in self._folders:
            way.append(folder)
            folder = _folder(folder)
        if not way:
            return
        if link := next((x for x in reversed(way) if x in self._links), None):
            raise ImageFailed(f"has a member {named!r}, on whose way {link!r} is a link: no link is followed")
        self._remember(*way)
        self._folders.update(way)

    def _remember(self, *names: str) -> None:
        """Make sure that there is memory for names that are kept."""
        self._memory -= sum(map(len, names)) + _OF_A_NAME * len(names)
        if self._memory < 0:
            raise ImageFailed(f"has more folders and links than {human(_MEMORY)} of memory hold the names of")

    def _check_kind(self, path: str, member: Member) -> None:
        if path in self._links:
            # What tar puts in the place of a link until its end is not told from another file that comes there.
            raise ImageFailed(f"has {path!r} twice, the first time as a link")
        if member.kind in "dL":
            self._remember(path)
        if member.kind == "d":
            self._folders.add(path)
            self._declared.add(path)
        elif path in self._folders:
            raise ImageFailed(f"has {path or '.'!r} twice, as a folder and as something else")
        elif member.kind == "L":
            self._links.add(path)

    def _check_kept(self, path: str, deployed: str, share: Share) -> None:
        """See that a member is not brought through a link of what is kept: a folder replaces one, where it comes."""
        folder = _folder(path)
        if deployed != share.mount.point and folder not in self._declared and folder != share.folder:
            where = f"{share.mount.device} for {share.mount.point}, which is kept, may have a link there"
            raise ImageFailed(f"has a member {path!r}, and its folder is none: {where}")

    def _first_name(self, path: str, member: Member) -> str:
        first = inside(member.link, path)
        self._check_way(first, path)
        if first in self._links:  # another name of a link is one
            self._remember(path)
            self._links.add(path)
        return first

    def _count(self, path: str, member: Member, first: str | None) -> None:
        kind = "f" if member.kind == "h" else member.kind
        link = member.link if member.kind == "L" else None
        self.survey.take(rsync.Entry(path, kind, member.size, member.owner, link, first))
        for place, found in self.survey.instead.items():
            where = f"{place}, where a volume is to be mounted, or on the way there"
            raise ImageFailed(f"has {described(*found)} at {where}")


def of_the_node(target: str) -> tuple[str, ...]:
    """The files of the deployed system that an image with such a target may not bring to a root that is kept."""
    # All that binds a system to its node takes longer to load than each kind of image, and a plan needs neither.
    from bareon.system.bindings.table import of_node

    return of_node() if target == "/" else ()


def inside(name: str, member: str) -> str:
    """A path below the top folder, without the parts that mean nothing; empty for that folder.

    :raises ImageFailed: for one that leads elsewhere.
    """
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts:
        raise ImageFailed(f"has a member {member!r} that leads out of the archive ({name!r})")
    return "/".join([part for part in parts if part not in ("", ".")])


def _folder(path: str) -> str:
    """The folder that a path from :func:`inside` lies in."""
    return path.rpartition("/")[0]
