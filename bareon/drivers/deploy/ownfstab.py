# SPDX-License-Identifier: Apache-2.0
"""The fstab(5) that an image of a whole disk brings: which of its partitions it mounts, and where."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bareon.errors import ImageFailed
from bareon.text import visible
from bareon.tools.mount import unescaped
from bareon.transfer.partitions import Entry

_OF_THE_KERNEL = ("dev", "proc", "run", "sys")
_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f]")
_DEVICE = re.compile(r"/dev/(?:disk/by-(uuid|label|partuuid|partlabel)/(.+)|(?:(?:[shv]d|xvd)[a-z]+|\w+p)(\d+))")


@dataclass(frozen=True)
class Own:
    """A mount of the image's own: a partition, or a ``subvolume`` of a btrfs on one, and its mount point.

    ``kind`` is the type of file system that its line says.
    """

    entry: Entry
    point: str
    subvolume: str | None = None
    kind: str = field(default="", compare=False)


def mounts(text: str, tags: Mapping[Entry, Mapping[str, str]], beside: Sequence[str] = ()) -> list[Own]:
    """What an fstab mounts of the partitions, parents before children. Lines of other things are left out.

    :param tags: of each partition as ``blkid`` tells them.
    :param beside: types of file systems whose partitions need not be there.
    :raises ImageFailed: for a line of a partition that is not there, or that is mounted where none can be.
    """
    found = {own.point: own for own in _mounts(text, tags, beside)}
    return sorted(found.values(), key=lambda x: x.point.rstrip("/").split("/"))


def _mounts(text: str, tags: Mapping[Entry, Mapping[str, str]], beside: Sequence[str]) -> Iterator[Own]:
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 3 or line.lstrip().startswith("#"):
            continue
        source, point = (unescaped(x) for x in fields[:2])
        options = fields[3].split(",") if len(fields) > 3 else []
        if (wanted := _wanted(source)) is None or fields[2] == "swap" or not point.startswith("/"):
            continue
        entry = next((x for x in tags if wanted in _names(x, tags[x])), None)
        if entry is None:
            if "noauto" in options or "nofail" in options or fields[2] in beside:
                continue
            raise ImageFailed(f"its fstab mounts {source} at {point}, which is none of its partitions: give parts")
        if _CONTROL.search(point + unescaped(",".join(options))):
            raise ImageFailed(
                f"its fstab mounts {visible(source)} at {visible(point)} with control characters: give parts"
            )
        if point.startswith("//"):  # which normpath leaves as it is
            point = "/" + point.strip("/")
        point = point.rstrip("/") or "/"
        if point != posixpath.normpath(point) or point.split("/")[1] in _OF_THE_KERNEL:
            raise ImageFailed(f"its fstab mounts {source} at {point}, where no volume can be: give parts")
        subvolume = next((unescaped(x.partition("=")[2]) for x in options if x.startswith("subvol=")), "")
        if "," in subvolume:  # which would be more options to mount
            raise ImageFailed(f"its fstab mounts a subvolume with a comma in its name at {point}: give parts")
        yield Own(entry, point, subvolume.strip("/") or None, fields[2])


def _wanted(source: str) -> tuple[str, str] | None:
    """Kind and value of a name of a partition; ``None`` for what is none."""
    kind, equals, value = source.partition("=")
    if equals and kind in ("UUID", "LABEL", "PARTUUID", "PARTLABEL"):
        value = value.strip('"')
        return kind, value.lower() if kind.endswith("UUID") else value
    if match := _DEVICE.fullmatch(source):
        if match[3]:
            return "number", match[3]
        return _wanted(f"{match[1].upper()}={match[2]}")
    return None


def _names(entry: Entry, tags: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    found = (
        ("UUID", tags.get("UUID", "").lower()),
        ("LABEL", tags.get("LABEL", "")),
        ("PARTUUID", entry.guid.lower()),
        ("PARTLABEL", entry.name),
        ("number", str(entry.number)),
    )
    return [(kind, value) for kind, value in found if value]
