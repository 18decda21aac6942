# SPDX-License-Identifier: Apache-2.0
"""Images as OCI image layouts in one file: staged, then their layers are spread as those of a registry are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bareon.drivers.deploy.archive import OneFile
from bareon.drivers.deploy.listing import Survey
from bareon.drivers.deploy.oci import UnpackLayers
from bareon.drivers.deploy.placing import Placing
from bareon.step import Progress
from bareon.system.tree import Tree

if TYPE_CHECKING:
    from bareon.transfer.archive import Brought
    from bareon.transfer.oci import Found


@dataclass(frozen=True)
class UnpackOciLayout(UnpackLayers):
    """Bring a layout to memory, or else to a volume that is to be filled, and unpack its layers onto the volumes."""

    def preflight(self) -> None:
        self.recognise()
        _ = self.published
        super().preflight()

    def find(self) -> Found:
        from bareon.transfer.layoutstore import find

        return find(self.image.url, self.settings, self.limit(Survey(self.image.target, self.mounts)))

    def look(self) -> None:
        """Nothing: ``find`` has looked at what it could reach."""

    def brought(
        self, placing: Placing, tree: Tree | None, unpack: Callable[[int], object] | None, progress: Progress
    ) -> Brought:
        from bareon.transfer.layoutstore import within

        with self.staged(placing, tree, progress) as (place, served):
            layout = within(self.image.url, place)
            layers = self.layered(placing, tree, unpack, lambda whole: layout.opened, 0, lambda done, total: None)
        return replace(served, size=layers.size, digest=served.digest or layers.digest)


class OciLayout(OneFile):
    """Files with an OCI image layout, as ``docker save`` and ``skopeo`` write them."""

    name = "oci-layout"
    title = "layout of an OCI image"
    endings = tuple(f".oci.tar{x}" for x in ("", ".gz", ".xz", ".zst", ".bz2"))
    step = UnpackOciLayout

    def recognises(self, beginning: bytes) -> bool:
        from bareon.transfer.ocilayout import begins

        return begins(beginning)


UnpackOciLayout.kind = OciLayout()
