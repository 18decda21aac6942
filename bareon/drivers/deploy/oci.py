# SPDX-License-Identifier: Apache-2.0
"""Images from registries of containers: layers, which are archives, spread over all volumes one after the other."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from bareon.actions.base import Job
from bareon.drivers.deploy import fitness
from bareon.drivers.deploy.archive import OneFile, UnpackArchive, join
from bareon.drivers.deploy.fitness import unfit_for_trees
from bareon.drivers.deploy.layers import Layering
from bareon.drivers.deploy.listing import Survey
from bareon.drivers.deploy.placing import Placing, of_the_node
from bareon.errors import Defect, ImageFailed
from bareon.model.deployment import Deployment
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.model.reference import FORM, SCHEMES, reference
from bareon.model.settings import TransferSettings
from bareon.sizes import mib
from bareon.step import Outcome, Progress
from bareon.system.tree import Tree
from bareon.tools import copy, device, openssl, tar
from bareon.tools.sandbox import available_memory

if TYPE_CHECKING:
    from bareon.transfer.ahead import Opened
    from bareon.transfer.archive import Brought
    from bareon.transfer.deadline import Deadline
    from bareon.transfer.oci import Found, Opening
    from bareon.transfer.tarstream import Walk

LOG = logging.getLogger(__name__)

#: Of the memory that is there, layers that are fetched ahead may take one part of so many.
_OF_MEMORY = 4


@dataclass(frozen=True)
class UnpackLayers(UnpackArchive):
    """Unpack the layers of an image of a registry onto its mounted volumes."""

    def preflight(self) -> None:
        """See that all of it is there and can be understood; where it changes what is kept, that all is right."""
        most = self.limit(Survey(self.image.target, self.mounts))
        if self.found.size > most:
            raise ImageFailed(
                f"image {self.image.name!r}: its layers have {mib(self.found.size)}, and all volumes of it together"
                f" would take {mib(most)} at most"
            )
        self.look()
        _ = self.spared

    def look(self) -> None:
        """See that each layer is there and begins as one."""
        from bareon.transfer.oci import look

        look(self.image.url, self.found, self._opening, self.settings)

    @functools.cached_property
    def found(self) -> Found:
        """The image as its documents tell it; kept, so that the run is held to what ``preflight`` has seen."""
        found = self.find()
        digest = f"{found.digest.algorithm}:{found.digest.value}"
        LOG.info("image %s: %s, layers: %d, %s", self.image.name, digest, len(found.layers), mib(found.size))
        return found

    def find(self) -> Found:
        """Read its documents."""
        from bareon.transfer.registries import find

        return find(self.image.url, self.settings)

    def _opening(self, deadline: Deadline) -> Opened:
        from bareon.transfer.registries import opening

        return opening(self.image.url, self.settings, deadline)

    @functools.cached_property
    def spared(self) -> Mapping[str, int]:
        """What of the image is not brought to what is kept since a higher layer, whose number it has, hides it."""
        if not self.kept:
            return {}
        LOG.info("image %s: reading it through, since it changes what is kept", self.image.name)
        placing = self._judge({})
        self.brought(placing, None, None, lambda done, total: None)
        fitness.judge(self.image.name, placing.survey, sparse=True)
        return placing.hidden

    def _judge(self, spared: Mapping[str, int]) -> Layering:
        own = of_the_node(self.image.target)
        return Layering(Survey(self.image.target, self.mounts), self.kept, own, spared)

    def _placing(self) -> Placing:
        return self._judge(self.spared)

    def _unpacked(self, placing: Placing, tree: Tree, progress: Progress) -> Outcome:
        return {**super()._unpacked(placing, tree, progress), "layers": len(self.found.layers)}

    def brought(
        self, placing: Placing, tree: Tree | None, unpack: Callable[[int], object] | None, progress: Progress
    ) -> Brought:
        return self.layered(placing, tree, unpack, self._opening, available_memory() // _OF_MEMORY, progress)

    def layered(
        self,
        placing: Placing,
        tree: Tree | None,
        unpack: Callable[[int], object] | None,
        opening: Opening,
        room: int,
        progress: Progress,
    ) -> Brought:
        """Bring the layers, which come by ``opening``; ``room`` is the memory for those that are fetched ahead."""
        from bareon.transfer.oci import bring
        from bareon.transfer.tarstream import Walk

        layering = cast(Layering, placing)

        def walk(number: int) -> Walk:
            layering.begin(number + 1)
            return Walk(layering)

        def whole(archive: int) -> None:
            assert tree and unpack
            unpack(archive)
            join(layering, tree)  # before a higher layer has other files there

        return bring(
            self.image.url,
            self.found,
            opening,
            walk,
            whole if unpack else None,
            settings=self.settings,
            limit=self.limit(placing.survey),
            room=room,
            progress=progress,
        )


class Oci(OneFile):
    """Images of registries."""

    name = "oci"
    title = "image of a registry"
    forms = FORM
    step = UnpackLayers

    def takes(self, location: Location) -> bool:
        return location.scheme in SCHEMES

    def held(self, image: Image, settings: TransferSettings) -> Iterator[str]:
        found = reference(image.url)
        if found and found.digest:
            yield f"the {found.digest.algorithm} in its URL"
        if settings.cosign_key:
            yield f"its signature by the key {settings.cosign_key}"

    def requires(self, images: Sequence[Image], job: Job) -> Iterable[str]:
        signed = openssl.PROGRAMS if job.settings.cosign_key else ()
        return {*tar.PROGRAMS, *copy.PROGRAMS, *device.PROGRAMS, *signed}

    def unfit(self, images: Sequence[Image], deployment: Deployment) -> Iterator[Defect]:
        yield from unfit_for_trees(images, deployment, archives=True)
        for image in images:
            for url in (image.url, *image.url.mirrors):
                if reference(url) is None:
                    message = f"{str(url)!r} is no image in a registry: write {FORM}"
                    yield Defect(f"{image.path}.image_pull_url", message)
            yield from _of_files(image)

    def defects(self, images: Sequence[Image], job: Job) -> Iterator[Defect]:
        if job.settings.keyring and not job.settings.cosign_key:
            message = "an image of a registry has no OpenPGP signature, and --image_keyring wants one of every image"
            yield from (Defect(image.path, f"{message}: give --image_cosign_key too") for image in images)


def _of_files(image: Image) -> Iterator[Defect]:
    """What only a file has."""
    remedy = "what it is held to is the digest in its URL, @sha256:…; remove this"
    for key, value in (
        ("image_os_hash_value", image.digest),
        ("image_disk_format", image.disk_format),
        ("image_checksums_url", image.checksums_url),
        ("image_signature_url", image.signature_url),
    ):
        if value:
            yield Defect(f"{image.path}.{key}", f"an image of a registry has none: {remedy}")


UnpackLayers.kind = Oci()
