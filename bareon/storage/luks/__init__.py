# SPDX-License-Identifier: Apache-2.0
"""Encrypted containers: LUKS2 of cryptsetup(8), and what a system encrypts with another random key at each start.

The parts of the grammar of kinds are modules, in its order: :mod:`.wanted`, :mod:`.planned` with the steps of
:mod:`.step`, :mod:`.found`, :mod:`.kind` and :mod:`.search`. What is open is told by :mod:`.mapper`.
"""

from bareon.storage.luks.found import ContainerFacts
from bareon.storage.luks.kind import KIND
from bareon.storage.luks.planned import PlannedContainer
from bareon.storage.luks.step import HEADER, CloseContainer, MakeContainer, OpenContainer
from bareon.storage.luks.wanted import Container, Ephemeral

__all__ = [
    "HEADER",
    "KIND",
    "CloseContainer",
    "Container",
    "ContainerFacts",
    "Ephemeral",
    "MakeContainer",
    "OpenContainer",
    "PlannedContainer",
]
