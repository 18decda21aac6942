# SPDX-License-Identifier: Apache-2.0
"""The layout that a deployment asks for on a node, as if nothing were there yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError

from bareon.errors import Defect, UnsuitableNode
from bareon.layout.claim import boot_claims
from bareon.layout.match import match_disks
from bareon.layout.stack import in_order
from bareon.model.deployment import Deployment
from bareon.model.layout import Layout, opened
from bareon.model.node import NodeFacts
from bareon.sizes import MIB
from bareon.storage import gpt
from bareon.storage.allocate import DoesNotFit
from bareon.storage.disk import DiskFacts, PlannedDisk
from bareon.storage.identifier import Identifiers, NoIdentifiers
from bareon.storage.kind import Aggregate, Device, Firmware, Key, PlannedAggregate

_UNKNOWN = 1 << 70  # bytes; stands for a disk whose size only the node knows


@dataclass(frozen=True)
class _Problem:
    """A size that does not fit: its path in the input, its disk if it is on one, and the reason."""

    path: str
    device: str | None
    message: str
    have: int | None = None  # bytes there are, where that is what is too little
    uneven: bool = False  # it might fit on disks of other sizes


def build(deployment: Deployment, node: NodeFacts, identifiers: Identifiers) -> Layout:
    """Decide the whole layout; everything in it is to be created.

    :param deployment: without :func:`declared_defects`.
    :raises UnsuitableNode: when this node has no such disk, or it is too small.
    """
    layout, problems = _lay_out(deployment, match_disks(deployment, node), node.firmware, identifiers)
    if problems:
        raise UnsuitableNode(*(f"{p.path}{f' on {p.device}' if p.device else ''}: {p.message}" for p in problems))
    return layout


def declared_defects(deployment: Deployment) -> list[Defect]:
    """Defects in sizes on any node: disks and volume groups that cannot hold their volumes.

    A BIOS node is assumed, whose implicit partitions are the smaller ones.
    """
    disks = [
        DiskFacts(f"/dev/disk{i}", (_UNKNOWN if disk.size is None else disk.size) + 2 * MIB)
        for i, disk in enumerate(deployment.disks)
    ]
    try:
        _, problems = _lay_out(deployment, disks, "bios", NoIdentifiers())
    except CycleError as error:
        first, *others = (deployment.aggregates[number] for number in error.args[1][:-1])
        through = ", ".join(other.path for other in others) or "its own"
        return [Defect(first.path, f"{first.name!r} lies on itself, by way of {through}")]
    open_ended = {f"{disk.path}.volumes" for disk in deployment.disks if disk.size is None}
    if open_ended:
        problems = [x for x in problems if not x.uneven]  # only the node can tell
    whole = (
        "the volumes need more than the whole disk, however large it is: bareon adds a partition in front of them;"
        " write 'remaining' for what is left"
    )
    return [Defect(x.path, whole if x.path in open_ended and _is_unknown(x.have) else x.message) for x in problems]


def _is_unknown(have: int | None) -> bool:
    """True if so many bytes remain of :data:`_UNKNOWN`, the size of a disk that is not known."""
    return have is not None and have >= _UNKNOWN // 2


def _lay_out(
    deployment: Deployment, reals: Sequence[DiskFacts], firmware: Firmware, identifiers: Identifiers
) -> tuple[Layout, list[_Problem]]:
    """The layout, and what does not fit in it. What lies on something with a problem is left out."""
    problems: list[_Problem] = []
    disks: list[PlannedDisk] = []
    for wanted, real in zip(boot_claims(deployment, firmware).disks, reals, strict=True):
        try:
            disks.append(gpt.disk_layout(wanted, real, identifiers))
        except DoesNotFit as error:
            problems.append(_Problem(error.path or f"{wanted.path}.volumes", real.device, error.message, error.have))
    layout = Layout(deployment.policy, firmware, tuple(disks))
    if problems:
        return layout, problems
    failed: set[Key] = set()
    joined: dict[Key | None, list[Device]] = defaultdict(list)
    _join(layout.devices(), joined)
    aggregates: list[PlannedAggregate] = []
    needs = _needs(deployment.aggregates)
    for number in in_order(needs):
        aggregate = deployment.aggregates[number]
        if {deployment.aggregates[other].key for other in needs[number]} & failed:
            failed.add(aggregate.key)
            continue
        try:
            aggregates.append(aggregate.plan(joined[aggregate.key], identifiers))
            _join(opened(aggregates[-1].devices), joined)
        except DoesNotFit as error:
            failed.add(aggregate.key)
            path = error.path or f"{aggregate.path}.volumes"
            problems.append(_Problem(path, None, error.message, uneven=error.uneven))
    return replace(layout, aggregates=tuple(aggregates)), problems


def _join(devices: Iterable[Device], joined: dict[Key | None, list[Device]]) -> None:
    """Note devices by the aggregate that each is a member of."""
    for device in devices:
        joined[device.content.joins if device.content else None].append(device)


def _needs(aggregates: Sequence[Aggregate]) -> dict[int, set[int]]:
    """By its index, the indices of those aggregates that the members of each lie on."""
    below: dict[Key | None, set[int]] = defaultdict(set)
    for number, aggregate in enumerate(aggregates):
        for content in aggregate.contents:
            for x in content.nested():
                below[x.joins].add(number)
    return {number: below[aggregate.key] for number, aggregate in enumerate(aggregates)}
