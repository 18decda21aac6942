# SPDX-License-Identifier: Apache-2.0
"""The kinds of images that bareon knows, and the driver that tells them from each other.

The last kind takes what no other one is told by.
"""

from __future__ import annotations

from functools import cached_property

from bareon.drivers.deploy.kind import Kind, OfKinds


class Auto(OfKinds):
    """``--deploy_driver auto``: each image by its URL and its content."""

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:  # type: ignore[override]
        """All kinds; they are loaded with the first image, of which disks alone have none."""
        from bareon.drivers.deploy.archive import Archive
        from bareon.drivers.deploy.disk import Disk
        from bareon.drivers.deploy.oci import Oci
        from bareon.drivers.deploy.ocilayout import OciLayout
        from bareon.drivers.deploy.rsync import Daemon
        from bareon.drivers.deploy.squashfs import Squashfs
        from bareon.drivers.deploy.swift import Block

        return Daemon(), Oci(), OciLayout(), Archive(), Squashfs(), Disk(), Block()
