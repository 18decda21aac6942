# SPDX-License-Identifier: Apache-2.0
"""The list of all kinds of storage: a new one is a line here. What stands on others comes behind them.

Containers are read in this order too, the innermost first.
"""

from __future__ import annotations

from bareon.storage import btrfs, filesystem, gpt, luks, lvm, md
from bareon.storage.kind import Kind

KINDS: tuple[Kind, ...] = (gpt.KIND, md.KIND, lvm.KIND, btrfs.KIND, luks.KIND, filesystem.KIND)


def sections() -> tuple[Kind, ...]:
    """The kinds that have a section in the JSON of plans and node facts, in its order."""
    return tuple(kind for kind in KINDS if kind.section)
