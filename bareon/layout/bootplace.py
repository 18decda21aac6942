# SPDX-License-Identifier: Apache-2.0
"""The choice of one place for a volume that several disks offer, such as ``/boot``."""

from __future__ import annotations

from dataclasses import replace

from bareon.errors import UnsuitableNode
from bareon.layout.match import match_disks
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.storage import filesystem
from bareon.storage.disk import Disk, DiskFacts, Partition

_Place = tuple[int, int]  # of the disk in the deployment, and of the volume on it


def placed(deployment: Deployment, node: NodeFacts | None = None) -> Deployment:
    """The deployment with each volume of several places in the first that the node can boot from.

    Disks that hold other volumes come first. A disk left without volumes is dropped from
    the deployment.

    :param node: ``None`` where it is not known; then each place counts as one to boot from.
    :raises UnsuitableNode: when the node can boot from none of them.
    """
    places: dict[object, list[_Place]] = {}
    for number, disk in enumerate(deployment.disks):
        for position, volume in enumerate(disk.volumes):
            if volume.one_of:
                fs = filesystem.leaf(volume.content)
                places.setdefault(fs and fs.point, []).append((number, position))
    if not places:
        return deployment
    reals = match_disks(deployment, node) if node else ()
    chosen = {_chosen(found, deployment, reals, node) for found in places.values()}
    disks = (_with(disk, {x for i, x in chosen if i == number}) for number, disk in enumerate(deployment.disks))
    return replace(deployment, disks=tuple(disk for disk in disks if disk.volumes))


def _with(disk: Disk, chosen: set[int]) -> Disk:
    stays = (x for position, x in enumerate(disk.volumes) if position in chosen or not _is_one_of(x))
    return replace(disk, volumes=tuple(replace(x, one_of=False) for x in stays))


def _is_one_of(volume: Partition) -> bool:
    return volume.one_of


def _chosen(
    places: list[_Place], deployment: Deployment, reals: tuple[DiskFacts, ...], node: NodeFacts | None
) -> _Place:
    found = [x for x in places if not node or _can_boot(reals[x[0]], node)]
    if not found:
        listed = (f"{deployment.disks[disk].volumes[x].path} on {reals[disk].device}" for disk, x in places)
        reason = "a BIOS does not boot from NVMe disks, and there is no other place for it"
        raise UnsuitableNode(f"{', '.join(listed)}: {reason}")
    return min(found, key=lambda place: all(map(_is_one_of, deployment.disks[place[0]].volumes)))


def _can_boot(disk: DiskFacts, node: NodeFacts) -> bool:
    """True if the firmware can read a boot loader's files there: a BIOS seldom knows NVMe."""
    nvme = disk.transport == "nvme" or disk.device.startswith("/dev/nvme")
    return node.firmware == "uefi" or not nvme
