# SPDX-License-Identifier: Apache-2.0
"""An OCI image layout in one file, a tar archive: by what it is told, and where in it documents and blobs lie.

``image-layout.md`` of the OCI image specification. Nothing is unpacked: members are found by their headers. The order
of members is not fixed; ``docker save``, ``skopeo`` and ``buildah`` begin with the blobs, tar with any.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import NamedTuple

from bareon.errors import ImageFailed
from bareon.model.reference import as_digest
from bareon.transfer.tarheader import BLOCK
from bareon.transfer.tarstream import Member, Walk

MARK, INDEX = "oci-layout", "index.json"
_MOST = 8192  # members: more than the layers of several images
#: What archives of docker save began with before they were layouts.
_OF_DOCKER = re.compile(r"[0-9a-f]{64}(\.json|\.tar|/json|/VERSION|/layer\.tar)")
_TOPS = {f"{before}{x}": x for x in (MARK, INDEX) for before in ("", "./")}

Read = Callable[[int, int], bytes]
"""Gives the bytes at an offset, so many; fewer where the file ends."""


class Place(NamedTuple):
    """Where the content of a member lies, in bytes of the decoded file."""

    offset: int
    size: int


def begins(head: bytes) -> bool:
    """True if these first bytes, decoded, are those of a layout: they have its mark, or a blob of it."""
    return any(x == MARK or _is_blob(x) for x in _names(head))


def is_of_docker(head: bytes) -> bool:
    """True if these first bytes, decoded, are those of what ``docker save`` wrote before it wrote layouts."""
    return bool((found := _names(head)) and _OF_DOCKER.fullmatch(found[0]))


def refusing(judge: Callable[[Member], bool]) -> Callable[[Member], bool]:
    """A judge of an archive's members that is as another one, and refuses a layout, which is no tree."""
    seen: set[str] = set()

    def judged(member: Member) -> bool:
        if member.kind == "f" and member.path in _TOPS:
            seen.add(_TOPS[member.path])
            if len(seen) == len({MARK, INDEX}):
                raise ImageFailed(
                    f"is a layout of an OCI image, which did not show at its beginning: pack it with {MARK} first"
                )
        return judge(member)

    return judged


def places(read: Read, seen: Callable[[str, Place], None] = lambda name, place: None) -> dict[str, Place]:
    """Where the documents and blobs of a layout lie, by their names.

    :param seen: called with each before anything behind its content is read.
    :raises ImageFailed: for what is no layout, or one that cannot be believed.
    """
    found: dict[str, Place] = {}
    judged: list[Member] = []

    def judge(member: Member) -> bool:
        judged.append(member)
        return False

    walk = Walk(judge)
    offset = 0
    while not walk.ended and (block := read(offset, BLOCK)):
        for _ in walk.feed(block):
            pass
        offset += len(block)
        if judged and (name := _plain((member := judged.pop()).path)) and _is_known(name):
            if member.kind != "f" or name in found:
                raise ImageFailed(f"has {name!r} twice, or as something else than a file")
            found[name] = Place(offset, member.size)
            seen(name, found[name])
        if walk.members > _MOST:
            raise ImageFailed(f"has more than {_MOST} members, which no layout of an OCI image has")
        offset += walk.skip()
    walk.finish()
    if absent := [x for x in (MARK, INDEX) if x not in found]:
        raise ImageFailed(f"is no layout of an OCI image: it has no {absent[0]!r} at its top")
    return found


def _names(head: bytes) -> list[str]:
    """The names of what an archive begins with, folders left out; none where it is no archive."""
    found: list[str] = []

    def judge(member: Member) -> bool:
        if member.kind != "d":
            found.append(_plain(member.path))
        return False

    with contextlib.suppress(ImageFailed):
        for _ in Walk(judge).feed(head):
            pass
    return found


def _plain(path: str) -> str:
    return "/".join(x for x in path.split("/") if x not in ("", "."))


def _is_known(name: str) -> bool:
    return name in (MARK, INDEX) or _is_blob(name)


def _is_blob(name: str) -> bool:
    top, _, rest = name.partition("/")
    return top == "blobs" and as_digest(rest.replace("/", ":", 1)) is not None
