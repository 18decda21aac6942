# SPDX-License-Identifier: Apache-2.0
"""The document of the deployment, beside the menu of several images: their systems have it at hand for later runs."""

from __future__ import annotations

from bareon.boot.menu import FOLDER
from bareon.system.tree import Tree

PLACE = f"{FOLDER}/bareon-input.json"


def leave(tree: Tree, document: str | None) -> None:
    """Have the document on a multiboot partition be this one, for root alone; without one, an older one goes.

    It was of another deployment, and what it says of the disks may not be true any more.

    :raises ActionFailed: when it cannot be written.
    """
    if document is not None:
        tree.write_private(PLACE, document)
    elif tree.has(PLACE):
        tree.remove(PLACE)
