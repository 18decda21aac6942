# SPDX-License-Identifier: Apache-2.0
"""btrfs with what other file systems do not have: subvolumes, and several devices.

* ``filesystem.py``: the file system with its subvolumes, wanted and planned, and the steps that make it
* ``pool.py``: one over several devices as an aggregate of them, wanted and planned
* ``found.py``: one over several devices as it was found, and the search for it
* ``kind.py``: the one :class:`~bareon.storage.kind.Kind`
"""

from bareon.storage.btrfs.filesystem import Btrfs, PlannedBtrfs, Subvolume
from bareon.storage.btrfs.found import BtrfsFacts
from bareon.storage.btrfs.kind import KIND
from bareon.storage.btrfs.pool import Pool

__all__ = ["KIND", "Btrfs", "BtrfsFacts", "PlannedBtrfs", "Pool", "Subvolume"]
