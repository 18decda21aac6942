# SPDX-License-Identifier: Apache-2.0
"""Places for what is needed whole before it can be brought: memory, or else a volume that is to be filled."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from bareon.drivers.deploy.listing import Share
from bareon.errors import UnsuitableNode
from bareon.sizes import mib
from bareon.system.tree import Tree
from bareon.tools import mount
from bareon.tools.sandbox import available_memory

#: Of the memory that is there, what is staged may take one part of so many.
_OF_MEMORY = 2


@contextlib.contextmanager
def places(
    name: str, count: int, size: int | None, free: Sequence[Share], tree: Tree | None
) -> Iterator[tuple[list[int], int | None]]:
    """Files without names, and the bytes that they may have together; ``None`` where their volume is the limit.

    :param name: that of the image, for errors.
    :param size: the bytes that they will have at most, where that is known.
    :param free: volumes that are nobody's; without ``tree`` they are not mounted, and there is memory alone.
    :raises UnsuitableNode: when there is no place that is large enough.
    """
    most = available_memory() // _OF_MEMORY
    with contextlib.ExitStack() as stack:
        files = []
        in_memory = size is not None and size <= most
        for _ in range(count):
            if in_memory:
                files.append(os.memfd_create("bareon-image", os.MFD_CLOEXEC))
            else:
                files.append(_on_a_volume(name, size, most, free, tree))
            stack.callback(os.close, files[-1])
        yield files, most if in_memory else None


def _on_a_volume(name: str, size: int | None, most: int, free: Sequence[Share], tree: Tree | None) -> int:
    usable = [x.mount for x in free if x.lost is None]
    if tree is None or not usable:
        has = f"has {mib(size)}" if size is not None else "comes without a length"
        raise UnsuitableNode(
            f"image {name!r} {has}, and is to be read whole before it changes what is kept; the memory"
            f" that is there for it is {mib(most)}"
        )
    return tree.scratch(max(usable, key=lambda x: mount.free(tree.folder(x.point))).point)
