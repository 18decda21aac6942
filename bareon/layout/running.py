# SPDX-License-Identifier: Apache-2.0
"""Beside a system that runs from the same disks: what it uses, and what a run therefore leaves as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bareon.errors import UnsuitableNode
from bareon.layout.paths import all_paths
from bareon.layout.stack import busy
from bareon.model.deployment import Deployment
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts, Use
from bareon.storage.filesystem import SWAP, PlannedFilesystem

_NEEDED = ("/", "/boot", "/usr", "/var")
"""Mount points that an image must have its own files on: by these it starts, and knows its packages."""
_OF_THE_LOADER = "esp"
"""The role of a partition that a run does not write to where the images have one loader apart from them."""


def beside(layout: Layout, deployment: Deployment, node: NodeFacts) -> Layout:
    """The layout for a run on disks of which some are in use, with what is to be left as it is.

    Only a run that brings some images alone may have such disks: what is none of these images' is not written then,
    but for the menu of all.

    :raises UnsuitableNode: naming each use that stands in the way, or that nobody can tell what it is of.
    """
    paths = all_paths(node, {disk.device for disk in layout.disks})
    in_use = busy(node, paths)
    if not in_use:
        return layout
    uses = [use for use in node.uses if paths & set(use.disks)]
    told = {disk for use in uses for disk in use.disks}
    if deployment.brought is None or any(
        x.in_use() and x.device not in told for x in node.disks if x.device in paths
    ):
        raise UnsuitableNode(*in_use)
    systems = {image.system for image in deployment.images if deployment.brings(image)}
    if reasons := [reason for use in uses for reason in _reasons(use, layout, systems)]:
        raise UnsuitableNode(*(f"in use: {reason}" for reason in reasons))
    return replace(layout, left=frozenset(use.device for use in uses if _brought_to(use.device, layout, systems)))


def left(layout: Layout, deployment: Deployment, node: NodeFacts) -> Iterator[str]:
    """What is left as it is, in words: each volume of an image that is brought, and how it is used."""
    for image in (x for x in deployment.images if deployment.brings(x)):
        for mounted in (x for x in layout.tree(image.system) if x.left):
            words = ", ".join(dict.fromkeys(x.words for x in node.uses if x.device == mounted.device))
            yield f"{mounted.device} is {words}: what image {image.name!r} has for {mounted.point} is left out"


def _brought_to(device: str, layout: Layout, systems: set[str]) -> PlannedFilesystem | None:
    """The file system on a device to which files of these systems would come."""
    found = next((fs for fs in layout.filesystems() if fs.device == device), None)
    return found if found and found.type != SWAP and systems & set(found.wanted.images) else None


def _inside(found: PlannedFilesystem, layout: Layout) -> Iterator[str]:
    """The mount points of other volumes that lie below those of a file system, in any of its images."""
    for name in found.wanted.images:
        for outer in (x for x in layout.tree(name) if x.device == found.device):
            above = f"{outer.point.rstrip('/')}/"
            yield from (x.point for x in layout.tree(name) if x.device != found.device and x.point.startswith(above))


def _reasons(use: Use, layout: Layout, systems: set[str]) -> Iterator[str]:
    """Why the run cannot be made while a device is used so; none where it does not touch it."""
    words = f"{use.device} is {use.words}"
    found = next((fs for fs in layout.filesystems() if fs.device == use.device), None)
    if not found:
        yield f"{words}, and is no volume of the input that can be told apart"
        return
    role = next(
        (part.role for disk in layout.disks for part in disk.partitions if part.device == use.device), "volume"
    )
    if role != "volume" and not (role == _OF_THE_LOADER and layout.multiboot):
        yield f"{words}, and is to be written to as {role}"
    elif found.decision != "keep":
        yield f"{words}, and is to be made anew"
    elif _brought_to(use.device, layout, systems) and use.way == "mounted":
        points = [mount.point for mount in found.wanted.mounts if systems & set(mount.images)]
        if systems.issuperset(found.wanted.images):
            yield f"{words}, and is to be {', '.join(points)} of an image that is brought"
        elif needed := [point for point in points if point in _NEEDED]:
            yield f"{words}, and is shared: an image cannot be brought without its {', '.join(needed)}"
        else:
            yield from (
                f"{words}, and is shared: {x} of an image that is brought lies in it" for x in _inside(found, layout)
            )
    elif _brought_to(use.device, layout, systems):
        yield f"{words}, and an image is to be brought to it"
