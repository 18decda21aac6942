# SPDX-License-Identifier: Apache-2.0
"""Where images of one run come to lie over each other: on a volume of several, or one in the tree of another."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from itertools import combinations

from bareon.model.image import Image
from bareon.model.layout import Layout
from bareon.system.tree import holder, holds


def overlaps(layout: Layout, images: Sequence[Image]) -> Iterator[tuple[Image, Image, str]]:
    """Two images each, in their order, and the folder of the second in which both bring files."""
    areas = {image.name: list(_areas(layout, image)) for image in images}
    for first, second in combinations(images, 2):
        for device, folder, point in areas[second.name]:
            same = [other for where, other, _ in areas[first.name] if where == device]
            if any(holds(other, folder) or holds(folder, other) for other in same):
                yield first, second, point
                break


def _areas(layout: Layout, image: Image) -> Iterator[tuple[str, str, str]]:
    """Each device that the image brings something to, the folder in its file system, and in the deployed system."""
    mounts = layout.tree(image.system)
    if not any(holds(x.point, image.target) for x in mounts):
        return
    top = holder(image.target, mounts)
    yield top.device, posixpath.join("/", posixpath.relpath(image.target, top.point)).rstrip("."), image.target
    for mount in mounts:
        if mount.point != top.point and holds(image.target, mount.point):
            yield mount.device, "/", mount.point
