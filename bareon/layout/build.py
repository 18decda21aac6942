# SPDX-License-Identifier: Apache-2.0
"""The layout that a deployment asks for on a node, as if nothing were there yet."""

from __future__ import annotations

from dataclasses import dataclass

from bareon.errors import Defect, UnsuitableNode
from bareon.facts.node import DiskFacts, NodeFacts
from bareon.layout.allocate import FIRST, MAX_PARTITIONS, DoesNotFit, Request, allocate, usable_end
from bareon.layout.identifier import Identifiers
from bareon.layout.match import match_disks
from bareon.model.deployment import Deployment
from bareon.model.disk import Disk, Partition
from bareon.model.filesystem import SMALLEST
from bareon.model.layout import (
    BIOS_BOOT,
    LINUX_DATA,
    LINUX_SWAP,
    DiskLayout,
    FilesystemLayout,
    Layout,
    PartitionLayout,
    Role,
)
from bareon.sizes import MIB, Absolute, mib, round_down

BIOS_GRUB_SIZE = 24 * MIB
_UNKNOWN = 1 << 70  # bytes; stands for a disk whose size only the node knows


@dataclass(frozen=True)
class _Wish:
    """One partition to be: wanted by the input, or implicit (``volume`` is ``None``)."""

    role: Role
    request: Request
    volume: Partition | None = None


def build(deployment: Deployment, node: NodeFacts, identifiers: Identifiers) -> Layout:
    """Decide the whole layout; everything in it is to be created.

    :param deployment: without :func:`declared_defects`.
    :raises UnsuitableNode: when this node has no such disk, or it is too small.
    """
    if node.firmware == "uefi":
        raise UnsuitableNode("this node boots by UEFI: only BIOS nodes can be deployed yet")
    reals = match_disks(deployment, node)
    disks: list[DiskLayout] = []
    reasons: list[str] = []
    for wanted, real in zip(deployment.disks, reals, strict=True):
        try:
            disks.append(_disk(wanted, real, identifiers))
        except DoesNotFit as error:
            reasons.append(f"{error.path or wanted.path} on {real.device}: {error.message}")
    if reasons:
        raise UnsuitableNode(*reasons)
    return Layout(deployment.policy, node.firmware, tuple(disks))


def declared_defects(deployment: Deployment) -> list[Defect]:
    """What is wrong with the sizes whatever the node: every disk whose declared size cannot hold its volumes."""
    defects = []
    for disk in deployment.disks:
        requests = [wish.request for wish in _wishes(disk)]
        if len(requests) > MAX_PARTITIONS:
            defects.append(Defect(f"{disk.path}.volumes", f"a GPT holds {MAX_PARTITIONS} partitions"))
            continue
        budget = disk.size if disk.size is not None else _UNKNOWN
        try:
            allocate(budget, budget, requests)
        except DoesNotFit as error:
            defects.append(Defect(error.path or f"{disk.path}.volumes", error.message))
    return defects


def _wishes(disk: Disk) -> list[_Wish]:
    """The partitions of a disk on a BIOS node, implicit ones first."""
    return [
        _Wish("bios_grub", Request(Absolute(BIOS_GRUB_SIZE), f"{disk.path} (implicit bios_grub)")),
        *(_Wish("volume", Request(volume.size, f"{volume.path}.size"), volume) for volume in disk.volumes),
    ]


def _disk(wanted: Disk, real: DiskFacts, identifiers: Identifiers) -> DiskLayout:
    if wanted.size is not None and wanted.size > real.size:
        over = mib(wanted.size - real.size)
        raise DoesNotFit(
            f"{wanted.path}.size",
            f"{mib(wanted.size)} is {over} more than the disk's {mib(real.size)}",
        )
    budget = wanted.size if wanted.size is not None else round_down(real.size)
    available = usable_end(real.size, real.logical_sector) - FIRST
    wishes = _wishes(wanted)
    sizes = allocate(budget, max(available, 0), [wish.request for wish in wishes])
    start, partitions = FIRST, []
    for number, (wish, size) in enumerate(zip(wishes, sizes, strict=True), 1):
        partitions.append(_partition(wish, real.device, number, start, size, identifiers))
        start += size
    return DiskLayout(
        real.device,
        real.size,
        real.logical_sector,
        identifiers.guid(f"table {real.device}"),
        tuple(partitions),
    )


def partition_device(disk: str, number: int) -> str:
    """The kernel's name of a partition: with a ``p`` where the disk's name ends in a digit."""
    return f"{disk}p{number}" if disk[-1].isdigit() else f"{disk}{number}"


def _partition(
    wish: _Wish, disk: str, number: int, start: int, size: int, identifiers: Identifiers
) -> PartitionLayout:
    device = partition_device(disk, number)
    volume = wish.volume
    wanted = volume.filesystem if volume else None
    filesystem = None
    if wanted:
        if size < SMALLEST[wanted.type]:
            least = mib(SMALLEST[wanted.type])
            raise DoesNotFit(
                wish.request.path,
                f"{mib(size)} is too small for {wanted.type}, which needs {least}",
            )
        uuid = identifiers.filesystem(wanted.type, device)
        filesystem = FilesystemLayout(wanted, device, size, uuid, "create")
    return PartitionLayout(
        number=number,
        device=device,
        start=start,
        size=size,
        role=wish.role,
        type_guid=_type_guid(wish),
        guid=(volume.guid if volume else None) or identifiers.guid(f"partition {device}"),
        decision="create",
        name=volume.name if volume else "bios_grub",
        boot=volume.boot if volume else False,
        filesystem=filesystem,
    )


def _type_guid(wish: _Wish) -> str:
    if wish.role == "bios_grub":
        return BIOS_BOOT
    filesystem = wish.volume.filesystem if wish.volume else None
    return LINUX_SWAP if filesystem and filesystem.type == "swap" else LINUX_DATA
