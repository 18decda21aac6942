# SPDX-License-Identifier: Apache-2.0
"""md RAID arrays; md(4). A new level is a row of :data:`.level.LEVELS`.

The parts of the grammar of kinds are modules, in its order: :mod:`.wanted`, :mod:`.planned` with the steps of
:mod:`.step`, :mod:`.found`, :mod:`.kind` and :mod:`.search`. Sizes follow from :mod:`.level`.
"""

from bareon.storage.md.found import ArrayFacts
from bareon.storage.md.kind import KIND
from bareon.storage.md.planned import PlannedArray
from bareon.storage.md.step import MakeArray, StartArray, StopArray
from bareon.storage.md.wanted import Array, Arrays, RaidMember

__all__ = [
    "KIND",
    "Array",
    "ArrayFacts",
    "Arrays",
    "MakeArray",
    "PlannedArray",
    "RaidMember",
    "StartArray",
    "StopArray",
]
