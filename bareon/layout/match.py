# SPDX-License-Identifier: Apache-2.0
"""Matching of wanted disks with real ones: exactly one each, or an error that says why each candidate is none."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bareon.errors import UnsuitableNode
from bareon.layout.paths import all_paths, common_identity, known_as, unmapped
from bareon.layout.rule import chosen
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.storage.disk import ChosenDisk, Disk, DiskFacts, DiskId, DiskIds, DiskRule


def match_disks(deployment: Deployment, node: NodeFacts) -> tuple[DiskFacts, ...]:
    """The real disk of each disk of the deployment, in its order.

    :raises UnsuitableNode: when a disk is not found, is ambiguous, or two entries mean the same one.
    """
    found: list[DiskFacts] = []
    taken: dict[str, Disk] = {}
    reasons: list[str] = []
    known = _known(node)
    claimed = _claimed(deployment, node, known)
    for disk in deployment.disks:
        try:
            real = _match(disk, node, known, claimed)
        except UnsuitableNode as error:
            reasons += error.reasons
            continue
        if first := taken.get(real.device):
            reasons.append(
                f"{disk.path}: {_says(disk)} and {_says(first)} ({first.path}) are the same disk {real.device}"
            )
        else:
            taken[real.device] = disk
            found.append(real)
    for left, right in _with_something_in_common(found):
        one, other = found[left], found[right]
        first, second = taken[one.device], taken[other.device]
        if same := common_identity(one, other):
            paths = f"{one.device} ({first.path}) and {other.device} are two paths of one disk (multipath)"
            reasons.append(f"{second.path}: {paths}, both with {same}; name it once")
    if reasons:
        raise UnsuitableNode(*reasons)
    return tuple(found)


def settled(deployment: Deployment, node: NodeFacts) -> Deployment:
    """The deployment with the disk that each rule chooses in place of the rule.

    :raises UnsuitableNode: as :func:`match_disks` does.
    """
    if not any(isinstance(disk.id, DiskRule) for disk in deployment.disks):
        return deployment

    def settle(disk: Disk, real: DiskFacts) -> Disk:
        return (
            replace(disk, id=ChosenDisk("name", real.device, rule=disk.id)) if isinstance(disk.id, DiskRule) else disk
        )

    disks = zip(deployment.disks, match_disks(deployment, node), strict=True)
    return replace(deployment, disks=tuple(settle(disk, real) for disk, real in disks))


def _claimed(deployment: Deployment, node: NodeFacts, known: _Known) -> dict[str, str]:
    """The disks that entries of the deployment name, with all their paths, and the JSON path of each entry."""
    found: dict[str, str] = {}
    for disk in deployment.disks:
        if not isinstance(disk.id, DiskRule):
            named = {node.disks[place].device for place in _places(disk.id.all, known)}
            found |= dict.fromkeys(all_paths(node, named), disk.path)
    return found


def _match(disk: Disk, node: NodeFacts, known: _Known, claimed: Mapping[str, str]) -> DiskFacts:
    """The real disk of one entry.

    :raises UnsuitableNode: when that is none, or several.
    """
    if isinstance(disk.id, DiskRule):
        return chosen(disk.id, disk.path, node, claimed)
    rank = _deciding(disk.id, known)
    hits = [node.disks[place] for place in _places(rank, known) if _rejection(rank, node.disks[place]) is None]
    # All hits are one disk then, or one of them is one.
    if hits and (reason := unmapped(hits[0], node)) and len({x.wwn for x in hits}) == 1:
        raise UnsuitableNode(f"{disk.path}.id: {disk.id}: {reason}")
    if len(hits) != 1:
        raise UnsuitableNode(_no_single(disk, disk.id, rank, hits, node))
    return hits[0]


def _says(disk: Disk) -> str:
    return f"the rule ({disk.id})" if isinstance(disk.id, DiskRule) else str(disk.id)


def _with_something_in_common(disks: Sequence[DiskFacts]) -> list[tuple[int, int]]:
    """The pairs of disks with one WWN or serial number, by their places; comparing each with each takes longer."""
    alike: dict[str, list[int]] = defaultdict(list)
    for place, disk in enumerate(disks):
        for key in {disk.wwn, disk.serial} - {None}:
            alike[key or ""].append(place)
    return sorted({pair for places in alike.values() for pair in itertools.combinations(places, 2)})


def _rejection(rank: tuple[DiskId, ...], disk: DiskFacts) -> str | None:
    """The reason that ``disk`` matches none of the deciding identities; ``None`` if it matches one."""
    named = [identity for identity in rank if _key(identity) in _keys(disk)]
    if not named:
        return _difference(rank[0], disk)
    if disk.kind == "loop" and all(identity.type != "path" for identity in named):
        return "a loop device: name it by its path"
    if disk.kind not in ("disk", "loop"):
        return f"not a disk but a {disk.kind}"
    return disk.unwritable


_Key = tuple[str, str]
_Known = Mapping[_Key, Sequence[int]]


def _known(node: NodeFacts) -> _Known:
    """The disks that each identity names, by their places: to ask each disk about each identity takes longer."""
    known: dict[_Key, list[int]] = defaultdict(list)
    for place, disk in enumerate(node.disks):
        for key in _keys(disk):
            known[key].append(place)
    return known


def _places(identities: Iterable[DiskId], known: _Known) -> list[int]:
    """The places of the disks that any of the identities names."""
    return sorted({place for identity in identities for place in known.get(_key(identity), ())})


def _deciding(wanted: DiskId | DiskIds, known: _Known) -> tuple[DiskId, ...]:
    """The first rank of which the node knows any; the last one if it knows none.

    If a preferred identity matches a disk that cannot be taken, such as a read-only one, that is an error: no weaker
    identity may then bring in another disk.
    """
    ranks = wanted.ranks()
    return next((rank for rank in ranks if any(_key(identity) in known for identity in rank)), ranks[-1])


def _key(wanted: DiskId) -> _Key:
    value = wanted.value
    if wanted.type in ("name", "path"):
        return wanted.type, f"/dev/{value.removeprefix('/dev/')}"
    return wanted.type, value.strip()  # disks fill up their serial numbers with blanks, which facts do not have


def _keys(disk: DiskFacts) -> set[_Key]:
    """The identities that name a disk."""
    facts = (*(("scsi", x) for x in disk.addresses), ("serial", disk.serial), ("wwn", disk.wwn))
    devices = (disk.device, *(path.device for path in (disk.multipath.paths if disk.multipath else ())))
    named = {*(("path", name) for name in disk.names), *(("name", device) for device in devices)}
    return {*named, *((kind, value) for kind, value in facts if value is not None)}


def _difference(wanted: DiskId, disk: DiskFacts) -> str:
    if wanted.type in ("scsi", "serial", "wwn"):
        return f"its {wanted.type} is {getattr(disk, wanted.type) or 'not known'}"
    if wanted.type == "path":
        links = ", ".join(link.removeprefix("/dev/") for link in disk.names[1:]) or "none"
        return f"its links: {links}"
    return "another name"


def _no_single(
    disk: Disk, wanted: DiskId | DiskIds, rank: tuple[DiskId, ...], hits: list[DiskFacts], node: NodeFacts
) -> str:
    if hits:
        pairs = [(x, y) for x, y in itertools.combinations(hits, 2) if common_identity(x, y)]
        paths = "".join(f"; {x.device} and {y.device} are two paths of one disk (multipath)" for x, y in pairs)
        wwns = {facts.wwn for facts in hits}
        apart = (
            f"; their WWNs: {', '.join(str(facts.wwn) for facts in hits)}" if len(wwns - {None}) == len(hits) else ""
        )
        listed = ", ".join(map(known_as, hits))
        return f"{disk.path}.id: {disk.id} matches {len(hits)} disks: {listed}{apart}{paths}"
    listed = "; ".join(f"{known_as(facts)}: {_rejection(rank, facts)}" for facts in node.disks)
    meant = {f"/dev/{x.value.removeprefix('/dev/')}" for x in wanted.all}
    for facts in node.disks:
        for part in facts.partitions:
            if part.device in meant:
                listed = f"{part.device} is a partition of {facts.device}, and a whole disk is needed"
    return f"{disk.path}.id: no disk with {disk.id}; this node has: {listed or 'no disks'}"
