# SPDX-License-Identifier: Apache-2.0
"""The choice of a disk by a rule: the one that fits, or an error that says of each disk why it does not.

A rule asks what a disk is, not how it is today: one that has become read-only or is in use still fits, so that no
other disk is taken in its place. Whatever is picked is then held to all that any disk is held to.
"""

from __future__ import annotations

import fnmatch
import glob
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from bareon.errors import UnsuitableNode
from bareon.layout.paths import common_identity, known_as, unmapped
from bareon.model.node import NodeFacts
from bareon.sizes import mib
from bareon.storage.disk import DiskFacts, DiskRule, Exclusion

_BY_PATH = "/dev/disk/by-path/"
_NUMBER = re.compile(r"([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])|([0-9]+)")  # an address of PCI, or any number
_OF_THE_NETWORK = re.compile(r"/dev/[nr]bd[0-9]+")
_MEMORY = re.compile(r"/dev/pmem[0-9]+")
_MADE_UP = ("virtual", "file-stor gadget")
"""What BMCs call the disks that they make up, in small letters."""

_EXCLUDED: dict[Exclusion, tuple[str, Callable[[DiskFacts], bool]]] = {
    "removable": ("it is removable", lambda disk: disk.removable),
    "usb": ("it is a USB disk", lambda disk: disk.transport == "usb"),
    "virtual-media": ("it is virtual media of a BMC", lambda disk: _is_made_up(disk)),
    "boot-medium": ("the ramdisk came from it", lambda disk: disk.boot_medium),
}


def chosen(rule: DiskRule, path: str, node: NodeFacts, claimed: Mapping[str, str]) -> DiskFacts:
    """The disk that a rule chooses.

    :param path: that of the disk's entry in the input.
    :param claimed: disks that other entries name themselves, with the paths of those.
    :raises UnsuitableNode: when none fits, or several do and ``pick`` does not decide; with every disk of the node.
    """
    reasons = {disk.device: list(_reasons(rule, disk, claimed)) for disk in node.disks}
    fitting = [disk for disk in node.disks if not reasons[disk.device]]
    found = _picked(rule, fitting) if len(fitting) > 1 else fitting
    if len(found) == 1:
        _see_that_it_is_meant(rule, path, found[0], node)
        return found[0]
    listed = "; ".join(f"{known_as(disk)}: {', '.join(reasons[disk.device]) or 'fits'}" for disk in node.disks)
    why = _why_not_one(rule, fitting, found)
    raise UnsuitableNode(
        f"{path}.id: {why} the rule ({rule}){_paths(fitting)}; this node has: {listed or 'no disks'}"
    )


def _why_not_one(rule: DiskRule, fitting: Sequence[DiskFacts], found: Sequence[DiskFacts]) -> str:
    if not fitting:
        return "no disk fits"
    if rule.pick is None:
        return f"{len(fitting)} disks fit, so that none is taken by"
    names = ", ".join(disk.device for disk in found)
    if rule.pick == "first":
        return f"{names} cannot be put in an order by {_BY_PATH}, so that none is the first by"
    return f"{names} are of one size, so that none is the {rule.pick} by"


def _see_that_it_is_meant(rule: DiskRule, path: str, disk: DiskFacts, node: NodeFacts) -> None:
    """Refuse a disk that was picked and may not be the one that is meant.

    :raises UnsuitableNode: saying why.
    """
    what = f"{path}.id: the rule ({rule}) means {known_as(disk)}"
    if reason := unmapped(disk, node):
        raise UnsuitableNode(f"{what}: {reason}")
    if others := [x.device for x in node.disks if x.device != disk.device and common_identity(x, disk)]:
        paths = ", ".join(others)
        raise UnsuitableNode(f"{what}, which is also {paths} (multipath); name one of these paths as the disk")
    if disk.unwritable:
        raise UnsuitableNode(f"{what}, which is {disk.unwritable}; no other disk is taken in its place")
    if disk.boot_medium and rule.exclude is None:
        raise UnsuitableNode(
            f"{what}, which the ramdisk came from; write exclude into the rule, with boot-medium to leave"
            " that disk out, or without it to take it"
        )


def _paths(disks: Sequence[DiskFacts]) -> str:
    """The pairs of disks that are one, in words for the end of a message."""
    pairs = [(x, y) for x, y in itertools.combinations(disks, 2) if common_identity(x, y)]
    return "".join(f"; {x.device} and {y.device} are two paths of one disk (multipath)" for x, y in pairs)


def _picked(rule: DiskRule, fitting: Sequence[DiskFacts]) -> list[DiskFacts]:
    """Those of several fitting disks that ``pick`` means: one, or more where it cannot tell them apart."""
    if rule.pick is None:
        return list(fitting)
    if rule.pick != "first":
        best = (min if rule.pick == "smallest" else max)(disk.size for disk in fitting)
        return [disk for disk in fitting if disk.size == best]
    places = {disk.device: _place(disk) for disk in fitting}
    if nowhere := [disk for disk in fitting if places[disk.device] is None]:
        return [*nowhere, *(disk for disk in fitting if disk not in nowhere)]
    least = min(place for place in places.values() if place)
    return [disk for disk in fitting if places[disk.device] == least]


def _place(disk: DiskFacts) -> list[tuple[str, int, str]] | None:
    """The key of a disk in the order of places in the machine; ``None`` where udev knows of no place.

    Numbers count as such: the tenth slot is behind the second.
    """
    links = [link.removeprefix(_BY_PATH) for link in disk.names if link.startswith(_BY_PATH)]
    return min(map(_key, links), default=None)


def _key(link: str) -> list[tuple[str, int, str]]:
    key, at = [], 0
    for match in _NUMBER.finditer(link):
        address, number = match.groups()
        key.append((link[at : match.start()], int(number or 0), address or ""))
        at = match.end()
    return [*key, (link[at:], 0, "")]


def _reasons(rule: DiskRule, disk: DiskFacts, claimed: Mapping[str, str]) -> Iterator[str]:
    """Why a disk does not fit a rule, each in words; nothing where it fits."""
    if disk.kind != "disk":
        yield f"not a disk but a {disk.kind}"
    if disk.unusable:
        yield disk.unusable
    if _OF_THE_NETWORK.fullmatch(disk.device):
        yield "a device of the network: name it by its path"
    if disk.boot_medium and _MEMORY.fullmatch(disk.device):
        yield "memory, into which the firmware has fetched the ramdisk"
    if disk.device in claimed:
        yield f"{claimed[disk.device]} names it"
    if rule.min_size is not None and disk.size < rule.min_size:
        yield f"its {mib(disk.size)} are less than {mib(rule.min_size)}"
    if rule.max_size is not None and disk.size > rule.max_size:
        yield f"its {mib(disk.size)} are more than {mib(rule.max_size)}"
    for name in ("model", "vendor", "scsi", "transport"):
        wanted, there = getattr(rule, name), disk.addresses if name == "scsi" else (getattr(disk, name),)
        if wanted is not None and not any(_is_like(wanted, x) for x in there):
            yield f"its {name} is {', '.join(filter(None, there)) or 'not known'}"
    if rule.path is not None and not any(
        _is_like(f"/dev/{rule.path.removeprefix('/dev/')}", x) for x in disk.names[1:]
    ):
        yield f"its links: {', '.join(x.removeprefix('/dev/') for x in disk.names[1:]) or 'none'}"
    if rule.rotational is not None and disk.rotational != rule.rotational:
        said = {True: "it rotates", False: "it does not rotate", None: "whether it rotates is not known"}
        yield said[disk.rotational]
    yield from (_EXCLUDED[x][0] for x in rule.excluded if _EXCLUDED[x][1](disk))


def _is_like(wanted: str, there: str | None) -> bool:
    """True where a text is what a rule wants; blanks at its ends do not count, and ``*`` alone is a wildcard."""
    return there is not None and fnmatch.fnmatchcase(there.strip(), glob.escape(wanted.strip()).replace("[*]", "*"))


def _is_made_up(disk: DiskFacts) -> bool:
    said = f"{disk.vendor} {disk.model}".lower()
    return disk.transport == "usb" and any(word in said for word in _MADE_UP)
