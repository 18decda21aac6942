# SPDX-License-Identifier: Apache-2.0
"""Images as block images: whole file systems, streamed over HTTP or from an object store onto one volume each."""

from __future__ import annotations

import functools
import logging
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bareon.actions.base import COPY_IMAGE, Job
from bareon.drivers.deploy.kind import Kind, OfKinds
from bareon.drivers.deploy.offer import check_room, check_type, programs_of, sector_of, unfit
from bareon.errors import CommandError, Defect, ImageFailed
from bareon.model.consistency import shared_targets
from bareon.model.deployment import Deployment
from bareon.model.image import Image, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import Mounted, PlannedFilesystem
from bareon.storage.identifier import as_kind
from bareon.system.tree import ROOT, holds, mounted_tree
from bareon.tools import blkid, copy, device, filesystem, gpgv, mount, udev

LOG = logging.getLogger(__name__)

_ASIDE = "/run/bareon/aside"
SCHEMES = ("http", "https", "file", "swift")
#: What lies there are devices and views of the kernel.
_NO_FILES = ("/dev", "/proc", "/sys")


class Block(Kind):
    """Files with a whole file system in them."""

    name = "block"
    title = "block image"
    forms = ", ".join(f"{x}://" for x in SCHEMES)

    def takes(self, location: Location) -> bool:
        return is_fetchable(location)

    def fills(self, image: Image) -> Iterable[str]:
        return (image.target,)

    def requires(self, images: Sequence[Image], job: Job) -> Iterable[str]:
        signed = gpgv.PROGRAMS if job.settings.keyring else ()
        return {*blkid.PROGRAMS, *signed, *copy.PROGRAMS, *udev.PROGRAMS, *device.PROGRAMS, *programs_of(job.layout)}

    def unfit(self, images: Sequence[Image], deployment: Deployment) -> Iterator[Defect]:
        for image in images:
            yield from unfetchable(image, "a block image")
        yield from shared_targets(deployment)

    def defects(self, images: Sequence[Image], job: Job) -> Iterator[Defect]:
        for image in images:
            yield from unsigned(image, job.settings)
            yield from unwritten(image, [image.target], job)

    def fetch(self, image: Image, alike: Sequence[Image], job: Job) -> Sequence[Step]:
        name = COPY_IMAGE
        held = next(mount for mount in job.layout.tree(image.system) if mount.point == image.target)
        if held.kept:
            return [LeaveVolume(name, image, held)]
        sector = sector_of(job.layout, held.device)
        write = WriteImage(name, image, held, job.settings, sector)
        fit = FitFilesystem(name, image, held.filesystem)
        inner = empty_inside(held, job.layout.tree(image.system))
        return [write, fit, *([SpreadTree(name, image, held, inner)] if inner else [])]


class Swift(OfKinds):
    """``--deploy_driver swift``."""

    kinds = (Block(),)


def empty_inside(held: Mounted, tree: Iterable[Mounted]) -> tuple[Mounted, ...]:
    """The empty file systems that will be mounted inside an image's one, parents before children."""
    above = f"{held.point.rstrip('/')}/"
    return tuple(
        x
        for x in tree
        if x != held and x.point.startswith(above) and not x.kept and not x.filesystem.wanted.from_image
    )


def unfetchable(image: Image, what: str) -> Iterator[Defect]:
    """The defects of an image's URLs, as far as it shows by themselves that no file comes from them."""
    for key, url, called in (
        *(("image_pull_url", url, what) for url in (image.url, *image.url.mirrors)),
        ("image_checksums_url", image.checksums_url, "a list of checksums"),
        ("image_signature_url", image.signature_url, "a signature"),
    ):
        if url and (reason := _no_source(url, called)):
            yield Defect(f"{image.path}.{key}", f"{str(url)!r} {reason}")


def _no_source(url: Location, what: str) -> str | None:
    """The reason that nothing can be fetched from a URL, as far as it shows by itself."""
    if not is_fetchable(url):
        return f"is not the URL of {what}: write one of {Block.forms}"
    return _no_file(url.path) if url.scheme == "file" else None


def unwritten(image: Image, points: Iterable[str], job: Job) -> Iterator[Defect]:
    """Volumes whose data is kept, for an image that was asked for by its name and comes to them as blocks."""
    if job.deployment.brought is None or not job.deployment.brings(image):
        return
    for held in job.layout.tree(image.system):
        if held.point in points and held.kept:
            how = f"--image names {image.name!r}, which is written to {held.point} as blocks"
            yield Defect(held.filesystem.wanted.path, f"{how}, and its data is kept: keep_data has to be false")


def unsigned(image: Image, settings: TransferSettings) -> Iterator[Defect]:
    """What keeps an image's signature from being looked for, or from being believed."""
    keyring = settings.keyring
    if settings.cosign_key and not keyring:
        message = "--image_cosign_key wants a signature of every image, and a file has none of cosign: "
        yield Defect(image.path, f"{message}give --image_keyring too")
    if keyring and not image.checksums_url and not image.signature_url:
        wanted = "image_signature_url, or an image_checksums_url that is signed"
        yield Defect(image.path, f"--image_keyring wants a signature of every image: give it {wanted}")
    if image.signature_url and not keyring:
        yield Defect(f"{image.path}.image_signature_url", "needs --image_keyring, a file with the keys to believe")


def _no_file(path: str) -> str | None:
    """The reason that a path of a ``file:`` URL can be no image's, as far as it shows by itself."""
    if not path.isprintable():
        return "names no file: what cannot be printed is not allowed in a path"
    # Two slashes at the beginning are kept.
    there = f"/{posixpath.normpath(path).lstrip('/')}"
    below = next((folder for folder in _NO_FILES if holds(folder, there)), None)
    return f"is no file with an image: nothing is read from {below}" if below else None


def is_fetchable(location: Location) -> bool:
    """True if a URL has a known scheme and, unless it is a ``file:`` URL, a valid host."""
    if location.scheme not in SCHEMES or location.authority is None:
        return False
    return location.scheme == "file" or (location.sound and bool(location.host) and location.port != 0)


@dataclass(frozen=True)
class LeaveVolume(Step):
    """A step that leaves a volume alone: its content is kept, so the image is not written."""

    image: Image
    mount: Mounted

    @property
    def description(self) -> str:
        fs = self.mount
        return (
            f"Leave {fs.device} for {fs.point} as it is: its data is kept, image {self.image.name!r} is not written"
        )

    def run(self, progress: Progress) -> Outcome:
        return {}


@dataclass(frozen=True)
class WriteImage(Step):
    """Stream one image onto its volume. Until all of it is found right, the volume holds no file system.

    ``sector`` is the bytes of a logical sector of the volume.
    """

    image: Image
    mount: Mounted
    settings: TransferSettings
    sector: int = 512

    @property
    def description(self) -> str:
        return f"Write image {self.image.name!r} from {self.image.url} to {self.mount.device}"

    @property
    def destroys(self) -> tuple[str, ...]:
        return (self.mount.device,) if self.mount.filesystem.decision == "format" else ()

    def preflight(self) -> None:
        # requests, which it needs, takes longer to import than all that makes a plan.
        from bareon.transfer.image import compare, inspect

        fs = self.mount
        offer = inspect(self.image.url, self.settings, self.image.disk_format)
        published = self._published
        compare(self.image.url, offer, published)
        if offer.superblock:
            check_type(self.image, fs.point, offer.superblock)
        size = published.size if offer.size is None else offer.size
        check_room(self.image, fs, self.sector, offer.superblock, size)
        if fs.filesystem.decision == "format" and Path(fs.device).exists():
            device.refuse_if_busy(fs.device)

    @functools.cached_property
    def _published(self) -> Published:
        """The digests, sizes and signature that are published beside the image.

        Looked up by ``preflight`` and kept with the step, as that returns nothing: a document that changes or
        disappears afterwards must not change what the image is held to once the disks are overwritten.
        """
        from bareon.transfer.published import published

        return published(self.image, self.settings)

    def run(self, progress: Progress) -> Outcome:
        from bareon.transfer.image import write

        fs = self.mount
        device.wipe([fs.device])
        written = write(
            self.image.url,
            fs.device,
            limit=fs.size,
            digest=self.image.digest,
            settings=self.settings,
            disk_format=self.image.disk_format,
            published=self._published,
            progress=progress,
        )
        udev.settle()
        figures: Outcome = {
            "bytes": written.size,
            "served_bytes": written.served,
            "written_bytes": written.written,
            "attempts": written.attempts,
            "form": written.format,
        }
        return {**figures, "digest": written.digest} if written.digest else figures


@dataclass(frozen=True)
class FitFilesystem(Step):
    """Make the file system of an image this node's own: sound, with the UUID that was decided, as large as can be."""

    image: Image
    filesystem: PlannedFilesystem

    @property
    def description(self) -> str:
        return f"Check the file system of image {self.image.name!r}, give it its UUID, grow it to {self._device}"

    @property
    def _device(self) -> str:
        return self.filesystem.device

    def run(self, progress: Progress) -> Outcome:
        kind = self._kind()
        wanted = self.filesystem.wanted
        Path(ROOT).mkdir(parents=True, exist_ok=True)
        try:
            filesystem.check(kind, self._device, ROOT)
        except CommandError as error:
            raise self._failed(f"its {kind} file system is damaged, or unknown to these programs: {error}") from error
        if kind != self.filesystem.type:
            LOG.warning("image %s brings %s, %s was described", self.image.name, kind, self.filesystem.type)
        filesystem.identify(kind, self._device, as_kind(self.filesystem.uuid, kind), wanted.label)
        if not filesystem.grow(kind, self._device, ROOT):
            LOG.warning("%s: a %s file system cannot be grown to its volume", self._device, kind)
        udev.look_again(self._device)
        return {"file_system": kind}

    def _kind(self) -> str:
        """The type of the file system that arrived.

        :raises ImageFailed: when it is no file system that a system could live on.
        """
        tags = blkid.probe([self._device]).get(self._device, {})
        kind = tags.get("TYPE")
        if reason := unfit(kind, tags.get("PTTYPE")):
            raise self._failed(reason)
        return str(kind)

    def _failed(self, reason: str) -> ImageFailed:
        device.wipe([self._device])  # so that nothing takes it for a sound file system
        return ImageFailed(f"image {self.image.name!r}: {reason}")


@dataclass(frozen=True)
class SpreadTree(Step):
    """Move the files of an image that belong on other volumes there: mounted over, they would be out of reach."""

    image: Image
    held: Mounted
    inner: tuple[Mounted, ...]

    @property
    def description(self) -> str:
        places = ", ".join(f"{fs.point} to {fs.device}" for fs in self.inner)
        return f"Move files of image {self.image.name!r}: {places}"

    def run(self, progress: Progress) -> Outcome:
        held = [self.held]
        Path(_ASIDE).mkdir(parents=True, exist_ok=True)
        for fs in self.inner:
            aside = mount.mounted(fs.device, _ASIDE, kind=fs.type, options=",".join(fs.flags) or None)
            with mounted_tree(held) as tree, aside:
                place = tree.folder(fs.point)
                copy.tree(place, _ASIDE)
                mount.write_back(_ASIDE)  # before the originals go
                copy.empty(place)
            held.append(fs)
        return {"volumes": len(self.inner)}
