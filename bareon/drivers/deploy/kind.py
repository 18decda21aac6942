# SPDX-License-Identifier: Apache-2.0
"""The grammar of kinds of images: a kind is one module, and its line in ``kinds.py``.

The members are in the order in which they are asked: what tells an image of the kind, what must hold for it, and the
steps that bring it.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from bareon.actions.base import Job
from bareon.drivers.deploy.base import DeployDriver
from bareon.errors import ActionFailed, Defect, ImageFailed, InvalidInput, UnsuitableNode
from bareon.model.deployment import Deployment
from bareon.model.image import Early, Image, Origin
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.step import Step
from bareon.storage.filesystem import Filesystem
from bareon.storage.reader import Reader

LOG = logging.getLogger(__name__)

_NO_PLACE = "image {!r} brings a file system of its own to {}, which {}: bring it as files, or give it {}"
_NO_PARTS = "only an image of a whole disk has parts, as one file, and with --deploy_driver auto; remove it"


class Kind(ABC):
    """A kind of image. ``name`` is a word for it, ``title`` what people call one; ``forms`` are its URLs, in words.

    ``endings`` are what names of its files end with; they count only where nobody could look at the content.
    ``has_parts`` says that images of the kind are the ones that have ``parts`` in the input.
    Nothing here changes anything or reads the machine; the steps do.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    forms: ClassVar[str]
    endings: ClassVar[tuple[str, ...]] = ()
    has_parts: ClassVar[bool] = False

    @abstractmethod
    def takes(self, location: Location) -> bool:
        """True if images of the kind come from such a URL, as far as the URL alone tells."""

    def recognises(self, beginning: bytes) -> bool:
        """True if a file is of the kind by its first bytes, which are decoded where it was compressed."""
        return False

    def fills(self, image: Image) -> Iterable[str]:
        """The mount points of volumes whose file system arrives with the image, so that none is made there."""
        return ()

    def settled(self, image: Image, deployment: Deployment, settings: TransferSettings) -> Image:
        """The image with what the input leaves open, as its content and the layout tell; it reaches the server.

        :raises BareonError: when it cannot be asked.
        """
        return image

    def readers(self, image: Image, deployment: Deployment, settings: TransferSettings) -> tuple[Reader, ...]:
        """The programs of an image that read file systems, as far as its server tells; nothing where it does not.

        :raises BareonError: when it cannot be asked.
        """
        return ()

    def held(self, image: Image, settings: TransferSettings) -> Iterator[str]:
        """What the bytes of an image are held to, in words that go on "held to ..."; this is for files."""
        signed = f", signed by a key of {settings.keyring}" if settings.keyring else ""
        if image.digest:
            yield f"its {image.digest.algorithm}"
        if image.checksums_url:
            yield f"the checksums at {image.checksums_url}{signed}"
        elif image.signature_url:
            yield f"its signature at {image.signature_url} by a key of {settings.keyring}"
        if image.metadata_url:
            yield f"what is published at {image.metadata_url}, if anything is"

    @abstractmethod
    def requires(self, images: Sequence[Image], job: Job) -> Iterable[str]:
        """The programs that steps for these images, which are all of the kind, start."""

    @abstractmethod
    def unfit(self, images: Sequence[Image], deployment: Deployment) -> Iterator[Defect]:
        """What must be mended before these images, which are all of the kind, can be brought, by the input alone."""

    def defects(self, images: Sequence[Image], job: Job) -> Iterator[Defect]:
        """The same by the layout and the options."""
        return iter(())

    @abstractmethod
    def fetch(self, image: Image, alike: Sequence[Image], job: Job) -> Sequence[Step]:
        """The steps that bring one image onto its volumes. ``alike`` are all images of the kind."""

    def early(self, image: Image, job: Job) -> Early | None:
        """What brings single files of an image before the first write; ``None`` where nothing can."""
        return None


class OfKinds(DeployDriver):
    """A deploy driver that brings images of the kinds in ``kinds``, each by what it is; the last takes the rest."""

    kinds: tuple[Kind, ...]

    def kind_of(self, image: Image) -> Kind:
        """The kind of an image: by its URL and the input, then by its content where that was seen, else its name."""
        fitting = self._taking(image) or [self.kinds[-1]]
        fitting = [x for x in fitting if x.has_parts and image.parts] or fitting
        seen = [x for x in fitting if x.name == image.content]
        named = [x for x in fitting if image.url.name.lower().endswith(x.endings)] if not image.content else []
        return [*seen, *named, fitting[-1]][0]

    def _taking(self, image: Image) -> list[Kind]:
        """The kinds that images from such a URL may be of."""
        return [x for x in self.kinds if x.takes(image.url)]

    def look(self, deployment: Deployment, settings: TransferSettings) -> Deployment:
        """Look at the beginning of each file that may be of several kinds, and for what will read file systems."""
        seen = (replace(image, content=self._seen(image, settings)) for image in deployment.images)
        settled = (self._settled(image, deployment, settings) for image in seen)
        images = (replace(image, readers=self._readers(image, deployment, settings)) for image in settled)
        return replace(deployment, images=tuple(images))

    def _settled(self, image: Image, deployment: Deployment, settings: TransferSettings) -> Image:
        try:
            return self.kind_of(image).settled(image, deployment, replace(settings, attempts=1))
        except (ActionFailed, ImageFailed, UnsuitableNode) as error:
            LOG.info("image %s: nothing is settled by its content: %s", image.name, error)
            return image

    def _readers(self, image: Image, deployment: Deployment, settings: TransferSettings) -> tuple[Reader, ...]:
        try:
            found = self.kind_of(image).readers(image, deployment, replace(settings, attempts=1))
        except (ActionFailed, ImageFailed, UnsuitableNode) as error:
            LOG.info("image %s: not looked at: %s", image.name, error)
            return image.readers
        LOG.info("image %s: brings %s", image.name, ", ".join(map(str, found)) or "no kernel or GRUB that is known")
        return found or image.readers

    def _seen(self, image: Image, settings: TransferSettings) -> str | None:
        fitting = self._taking(image)
        if len(fitting) < 2:
            return image.content
        # requests, which it needs, takes longer to import than all that makes a plan.
        from bareon.transfer.image import first_bytes

        try:
            # Once is enough: what cannot be reached is asked for again, patiently, before the first write.
            beginning = first_bytes(image.url, replace(settings, attempts=1))
        except (ImageFailed, UnsuitableNode) as error:
            LOG.info("image %s: not looked at: %s", image.name, error)
            return image.content
        kind = next((x for x in fitting if x.recognises(beginning)), fitting[-1])
        LOG.info("image %s: %s, by its content", image.name, kind.name)
        return kind.name

    def _sorted(self, images: Iterable[Image]) -> Mapping[Kind, list[Image]]:
        found: dict[Kind, list[Image]] = {}
        for image in images:
            found.setdefault(self.kind_of(image), []).append(image)
        return found

    def origins(self, job: Job) -> Iterable[Origin]:
        for image in job.deployment.outer_first():
            if job.deployment.brings(image):
                kind = self.kind_of(image)
                sure = bool(image.content or image.parts) or len(self._taking(image)) < 2
                yield Origin(image.name, kind.title, tuple(kind.held(image, job.settings)), sure)

    def requires(self, job: Job) -> Iterable[str]:
        kinds = self._sorted(job.deployment.images)
        return {program for kind, images in kinds.items() for program in kind.requires(images, job)}

    def reserve(self, deployment: Deployment) -> Deployment:
        """Mark the volumes whose file system arrives with an image."""
        targets = {(x.system, point) for x in deployment.images for point in self.kind_of(x).fills(x)}

        def filled(fs: Filesystem) -> Filesystem:
            places = {(name, mount.point) for mount in fs.mounts for name in mount.images}
            return replace(fs, from_image=bool(places & targets))

        return deployment.with_filesystems(filled) if targets else deployment

    def check(self, deployment: Deployment) -> Iterable[Defect]:
        yield from self._strange(deployment.images)
        for kind, own in self._fitting(deployment.images):
            yield from kind.unfit(own, deployment)
            yield from _without_place(own, kind, deployment)
            if not kind.has_parts:
                yield from (Defect(f"{x.path}.parts", _NO_PARTS) for x in own if x.parts)

    def validate(self, job: Job) -> None:
        more = (x for kind, own in self._fitting(job.deployment.images) for x in kind.defects(own, job))
        if defects := [*self.check(job.deployment), *more]:
            raise InvalidInput(sorted(defects, key=lambda x: x.path))

    def _strange(self, images: Iterable[Image]) -> Iterator[Defect]:
        """Images whose URLs none of several kinds takes; a single kind says itself what it needs."""
        for image in images:
            if len(self.kinds) > 1 and not self._taking(image):
                forms = ", ".join(dict.fromkeys(x.forms for x in self.kinds))
                yield Defect(
                    f"{image.path}.image_pull_url", f"{str(image.url)!r} is no URL of an image: write {forms}"
                )

    def _fitting(self, images: Sequence[Image]) -> Iterable[tuple[Kind, list[Image]]]:
        """The images by their kinds, without those that several kinds do not take."""
        fitting = [x for x in images if len(self.kinds) < 2 or self._taking(x)]
        return self._sorted(fitting).items()

    def fetch(self, image: Image, job: Job) -> Sequence[Step]:
        kind = self.kind_of(image)
        return kind.fetch(image, self._sorted(job.deployment.images)[kind], job)

    def early(self, image: Image, job: Job) -> Early | None:
        return self.kind_of(image).early(image, job)


def _without_place(images: Iterable[Image], kind: Kind, deployment: Deployment) -> Iterator[Defect]:
    """Defects of images whose file system cannot take the place of what is to be at its mount point."""
    places = {
        (name, mount.point): reason
        for fs in deployment.filesystems()
        for mount in fs.mounts
        if (reason := fs.no_place_for_blocks(mount))
        for name in mount.images
    }
    for image in images:
        for point in kind.fills(image):
            if reason := places.get((image.system, point)):
                yield Defect(f"{image.path}.image_pull_url", _NO_PLACE.format(image.name, point, *reason))
