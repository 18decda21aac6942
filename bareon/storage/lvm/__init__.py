# SPDX-License-Identifier: Apache-2.0
"""LVM: physical volumes, volume groups, logical volumes; lvm(8).

The parts of the grammar of kinds are modules, in its order: :mod:`.wanted`, :mod:`.planned` with the steps of
:mod:`.step`, :mod:`.found`, :mod:`.kind` and :mod:`.search` with :mod:`.show`. Sizes follow from :mod:`.segment`,
:mod:`.room` and :mod:`.pool`.
"""

from bareon.storage.lvm.found import LogicalVolumeFacts, VolumeGroupFacts
from bareon.storage.lvm.kind import KIND
from bareon.storage.lvm.planned import PlannedGroup, PlannedPhysicalVolume, PlannedVolume
from bareon.storage.lvm.segment import EXTENT
from bareon.storage.lvm.step import ActivateGroup, DeactivateGroup, MakeGroup
from bareon.storage.lvm.wanted import LEAST_METADATA, LogicalVolume, PhysicalVolume, VolumeGroup

__all__ = [
    "EXTENT",
    "KIND",
    "LEAST_METADATA",
    "ActivateGroup",
    "DeactivateGroup",
    "LogicalVolume",
    "LogicalVolumeFacts",
    "MakeGroup",
    "PhysicalVolume",
    "PlannedGroup",
    "PlannedPhysicalVolume",
    "PlannedVolume",
    "VolumeGroup",
    "VolumeGroupFacts",
]
