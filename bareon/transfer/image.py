# SPDX-License-Identifier: Apache-2.0
"""A block image from its URL onto a device: looked at beforehand by :func:`inspect`, brought by :func:`write`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bareon.errors import ImageFailed
from bareon.model.image import Digest, shown
from bareon.model.settings import TransferSettings
from bareon.sizes import mib
from bareon.transfer import qcow2
from bareon.transfer.device import Device
from bareon.transfer.form import HEAD, Form, decoded_size, recognised
from bareon.transfer.halt import Halt
from bareon.transfer.source import Source, open_source

if TYPE_CHECKING:
    from bareon.transfer.pipeline import Reshape

DiskFormat = Literal["raw", "qcow2"] | None


@dataclass(frozen=True)
class Offer:
    """What a source offers.

    ``served`` is its bytes on the wire, ``size`` its bytes once decoded; ``None`` where only reading all of it would
    tell. ``form`` is what the content is, whatever its name.
    """

    served: int | None
    size: int | None
    form: Form


@dataclass(frozen=True)
class Written:
    """What was brought. ``written`` leaves out runs of zeros; ``attempts`` counts connections."""

    served: int
    size: int
    written: int
    attempts: int
    seconds: float
    form: Form
    digest: str | None


def inspect(url: str, settings: TransferSettings, disk_format: DiskFormat = None) -> Offer:
    """Reach an image and read its first bytes; nothing is changed.

    :raises ImageFailed: when it cannot be reached, or is not what it should be.
    :raises UnsuitableNode: when an option that it needs is missing or wrong.
    """
    halt = Halt(shown(url), settings.total_timeout)
    with contextlib.closing(open_source(url, settings, halt)) as source:
        return _looked_at(url, source, disk_format)[0]


def _looked_at(url: str, source: Source, disk_format: DiskFormat) -> tuple[Offer, bytes]:
    """What the first bytes of the source say, and these bytes."""
    buffer = memoryview(bytearray(HEAD))
    head = bytes(buffer[: source.fill(buffer)])
    if not head:
        raise ImageFailed(f"{shown(url)}: is empty")
    form = recognised(head)
    if disk_format == "qcow2" and form != "qcow2":
        raise ImageFailed(f"{shown(url)}: is no qcow2 image, as its disk format says it is ({form})")
    if disk_format == "raw" and form == "qcow2":
        raise ImageFailed(f"{shown(url)}: is a qcow2 image, its disk format says raw")
    size = qcow2.header(head, shown(url)).size if form == "qcow2" else decoded_size(form, head, source)
    return Offer(source.length, size, form), head


def write(
    url: str,
    device: str,
    *,
    limit: int,
    digest: Digest | None,
    settings: TransferSettings,
    disk_format: DiskFormat = None,
    progress: Callable[[int, int | None], None],
) -> Written:
    """Stream an image onto a block device, at most ``limit`` bytes of it.

    An image that is known to be too large is refused before anything is written. From then on the first MiB of the
    device is zero until all the rest is there and the length, the end of the compressed stream and the digest were
    found right; then it is written, last.

    :param digest: of the bytes as they are served.
    :param progress: called in this thread with the bytes served so far and in all.
    :raises ImageFailed: when the image cannot be fetched or is not what it should be.
    :raises ActionFailed: when the device cannot be written.
    """
    started = time.monotonic()
    halt = Halt(shown(url), settings.total_timeout)
    with contextlib.closing(open_source(url, settings, halt)) as source:
        offer, head = _looked_at(url, source, disk_format)
        if offer.size is not None and offer.size > limit:
            raise ImageFailed(_too_large(url, offer.size, limit, device))
        from bareon.transfer.pipeline import Pipeline

        reshape = _reshape(url, offer.form, head, source)
        with Device(device, limit) as target:
            target.begin()
            pipeline = Pipeline(source, target, halt, shown(url), digest.algorithm if digest else None)
            pipeline.run(head, reshape, progress)
            if digest is not None and pipeline.digest != digest.value:
                raise ImageFailed(
                    f"{shown(url)}: its {digest.algorithm} is {pipeline.digest}, {digest.value} was wanted"
                )
            target.commit()
            return Written(
                served=pipeline.served,
                size=pipeline.size,
                written=target.written,
                attempts=source.attempts,
                seconds=time.monotonic() - started,
                form=offer.form,
                digest=pipeline.digest,
            )


def _reshape(url: str, form: Form, head: bytes, source: Source) -> Reshape | None:
    """What makes the image of the bytes that are served, ``None`` where they are the image."""
    if form == "raw":
        return None
    if form == "qcow2":
        from bareon.transfer.window import Placing

        parsed = qcow2.header(head, shown(url))
        return Placing(qcow2.Map(parsed, source.length, source.read_at, shown(url)), shown(url))
    from bareon.transfer.pipeline import decoding

    return decoding(form, shown(url))


def _too_large(url: str, size: int, limit: int, device: str) -> str:
    return f"{shown(url)}: is {mib(size)}, {mib(size - limit)} more than the {mib(limit)} of {device}"
