# SPDX-License-Identifier: Apache-2.0
"""Where images of one run come to lie over each other: on a volume of several, or one in the tree of another.

On a volume of several systems, a path that two trees have is the first image's: another one would break its system.
An image that goes into the tree of another replaces files there on purpose.
"""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from bareon.model.image import Image
from bareon.model.layout import Layout
from bareon.system.tree import holder, holds
from bareon.tools import rsync


def overlaps(layout: Layout, images: Sequence[Image]) -> Iterator[tuple[Image, Image, str]]:
    """Two images each, in their order, and the folder of the second in which both bring files."""
    areas = {image.name: list(_areas(layout, image)) for image in images}
    for first, second in combinations(images, 2):
        for place, folder, point in areas[second.name]:
            same = [other for where, other, _ in areas[first.name] if where == place]
            if any(holds(other, folder) or holds(folder, other) for other in same):
                yield first, second, point
                break


@dataclass(frozen=True)
class Neighbour:
    """An image that is brought earlier, and the mount point of a volume of which it has a share too."""

    image: Image
    point: str


def neighbours(layout: Layout, images: Sequence[Image], image: Image) -> Iterator[Neighbour]:
    """Those that come before an image of another system, for each volume that both have at one mount point.

    An image without a root file system is no system, but a part of those that it shares a volume with.
    """
    if not layout.has_root(image.system):
        return
    own = {(x.place, x.point) for x in layout.tree(image.system) if holds(image.target, x.point)}
    for other in images[: images.index(image)]:
        if other.system != image.system and layout.has_root(other.system):
            shared = own & {(x.place, x.point) for x in layout.tree(other.system) if holds(other.target, x.point)}
            yield from (Neighbour(other, point) for _, point in sorted(shared))


def paths(url: str, target: str, point: str, asked: Sequence[str]) -> dict[str, bool]:
    """Everything that a tree brings to a mount point, by paths of the deployed system, and whether it is a folder.

    :raises CommandError: when the server cannot be reached or refuses.
    """
    found: dict[str, bool] = {}

    def take(entry: rsync.Entry) -> None:
        path = posixpath.join(target, entry.path)
        if holds(point, path):
            found[path] = entry.kind == "d"

    folder = rsync.literal(posixpath.relpath(point, target))
    with tempfile.TemporaryDirectory(prefix="bareon-") as empty:
        flags = (*asked, "--relative", "--no-implied-dirs", "--ignore-missing-args")
        rsync.listing(f"{url}./{folder}/", flags, empty, take)
    return found


def common(first: Mapping[str, bool], second: Mapping[str, bool]) -> list[str]:
    """The paths of both that are not folders of both."""
    return sorted(path for path, folder in second.items() if path in first and not (folder and first[path]))


def _areas(layout: Layout, image: Image) -> Iterator[tuple[tuple[str, str], str, str]]:
    """Each place that the image brings something to, the folder in its file system, and in the deployed system."""
    mounts = layout.tree(image.system)
    if not any(holds(x.point, image.target) for x in mounts):
        return
    top = holder(image.target, mounts)
    yield top.place, posixpath.join("/", posixpath.relpath(image.target, top.point)).rstrip("."), image.target
    for mount in mounts:
        if mount.point != top.point and holds(image.target, mount.point):
            yield mount.place, "/", mount.point
