# SPDX-License-Identifier: Apache-2.0
"""The partition of the configdrive: on which disk it lies, and whether it is there already."""

from __future__ import annotations

from dataclasses import replace

from bareon.errors import Defect, InvalidInput
from bareon.facts.node import NodeFacts
from bareon.layout.match import match_disks
from bareon.model.configdrive import LABEL, SIZE
from bareon.model.deployment import Deployment
from bareon.model.disk import Partition, PhysicalVolume, RaidMember, Volume


def reserved(deployment: Deployment) -> Deployment:
    """The deployment with the partition at the end of the disk that holds ``/``.

    That is the first one in the input that has a part of it. Unchanged where there is no configdrive to write.

    :raises InvalidInput: when nothing is mounted at ``/``.
    """
    if deployment.configdrive is None:
        return deployment
    number = root_disk(deployment)
    if number is None:
        message = "nothing is mounted at /, and the configdrive goes to the disk that holds it"
        raise InvalidInput([Defect(deployment.configdrive.path, message)])
    return _with_partition(deployment, number)


def as_found(deployment: Deployment, node: NodeFacts) -> Deployment:
    """The deployment with that partition if it is there: for stages that neither make it nor write to it."""
    number = root_disk(deployment)
    if number is None:
        return deployment
    partitions = match_disks(deployment, node)[number].partitions
    if not partitions or partitions[-1].name != LABEL:
        return deployment
    return _with_partition(deployment, number)


def _with_partition(deployment: Deployment, number: int) -> Deployment:
    disks = (replace(disk, configdrive=SIZE if i == number else 0) for i, disk in enumerate(deployment.disks))
    return replace(deployment, disks=tuple(disks))


def root_disk(deployment: Deployment) -> int | None:
    """The index of the first disk of the deployment that holds a part of a ``/``."""
    groups = {x.name for x in deployment.volume_groups if any(_is_root(volume) for volume in x.volumes)}
    arrays = {array.name for array in deployment.arrays if _is_root(array) or array.vg in groups}

    def holds(volume: Volume) -> bool:
        match volume:
            case Partition():
                return _is_root(volume)
            case PhysicalVolume():
                return volume.vg in groups
            case RaidMember():
                return volume.array in arrays

    found = (number for number, disk in enumerate(deployment.disks) if any(map(holds, disk.volumes)))
    return next(found, None)


def _is_root(holder: object) -> bool:
    return getattr(getattr(holder, "filesystem", None), "mount", None) == "/"
