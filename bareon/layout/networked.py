# SPDX-License-Identifier: Apache-2.0
"""Disks of the network, to which a deployed system has no way by itself."""

from __future__ import annotations

from collections.abc import Iterator

from bareon.layout.paths import known_as
from bareon.model.deployment import Deployment
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts


def unreachable_roots(layout: Layout, deployment: Deployment, node: NodeFacts) -> Iterator[str]:
    """The disks of the network that hold a root file system, or its ``/usr``, without that being asked for, in words.

    The ramdisk has logged in to their targets; nobody knows whether the initramfs of an image will.
    """
    found, early = {disk.device: disk for disk in node.disks}, layout.early_disks()
    for wanted, planned in zip(deployment.disks, layout.disks, strict=True):
        disk = found[planned.device]
        if planned.device in early and disk.of_network and not wanted.network:
            yield (
                f"{wanted.path}: {known_as(disk)} is a disk of the network ({disk.transport}), and / or /usr would"
                " lie on it: a system that does not log in to its target, as this ramdisk did, does not start; where"
                ' its initramfs does so, write "network": true into the entry of the disk'
            )
