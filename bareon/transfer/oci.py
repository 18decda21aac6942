# SPDX-License-Identifier: Apache-2.0
"""An image of OCI or Docker, wherever it lies: found by its documents, brought by layers, held to their digests."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from bareon.errors import ImageFailed
from bareon.model.image import Digest, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer import cosign
from bareon.transfer.ahead import Ahead, Opened
from bareon.transfer.archive import Brought, unpacked
from bareon.transfer.beginning import decoded
from bareon.transfer.check import Checks
from bareon.transfer.deadline import Deadline
from bareon.transfer.failure import NotThere, named
from bareon.transfer.format import HEAD, Format, recognised
from bareon.transfer.manifest import (
    INDEXES,
    LARGEST,
    Descriptor,
    Document,
    Layer,
    chosen,
    content,
    digest_of,
    layers,
    manifest,
    payloads,
)
from bareon.transfer.source import Source
from bareon.transfer.tarstream import Walk, begins

LOG = logging.getLogger(__name__)

_DEEPEST = 3  # documents from the reference to the manifest
_PACKINGS: tuple[Format, ...] = ("raw", "gzip", "zstd")


@dataclass(frozen=True)
class Found:
    """An image as its documents tell it. ``digest`` is that of the manifest, by which all else is known."""

    digest: Digest
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """Bytes of all layers as they are served."""
        return sum(layer.blob.size for layer in self.layers)


class Store(Protocol):
    """What has the documents and blobs of an image, by their digests."""

    def document(self, digest: Digest | None = None, tag: str | None = None) -> Document:
        """An index or a manifest by its digest, or by a tag; without either the one that the image begins with.

        :raises ImageFailed: when there is none (NotThere), or it is not what it should be.
        """

    def blob(self, wanted: Descriptor, deadline: Deadline | None = None) -> Source:
        """The source of a blob, whose digest is still to be checked."""


#: Begins with a store of layers; the deadline is that of all of them.
Opening = Callable[[Deadline], Opened]


def found_in(store: Store, digest: Digest | None = None, key: str | None = None) -> Found:
    """The image in a store, of those that are there the one for this machine.

    :param digest: of the document that the image begins with.
    :param key: the file with the key of cosign that must have signed that document.
    :raises ImageFailed: when there is none, or it is none that can be brought.
    """
    kind = ""
    for depth in range(_DEEPEST):
        document = store.document(digest)
        if key and not depth:
            _judge(store, document.digest, key)
        type_, value = content(document.text, kind or document.type)
        if type_ not in INDEXES:
            config, blobs = manifest(value)
            text = _small(store.blob(config), config, "configuration")
            return Found(document.digest, layers(text, blobs))
        entry = chosen(value)
        digest, kind = entry.digest, entry.type
    raise ImageFailed("has an index in an index in an index")


def _judge(store: Store, digest: Digest, key: str) -> None:
    """See that the owner of a key has signed what the reference leads to.

    :raises ImageFailed: otherwise.
    """
    name = f"{digest.algorithm}:{digest.value}"
    trusted = cosign.public_key(key)
    found: list[cosign.Signature] = []
    with contextlib.suppress(NotThere):
        document = store.document(tag=cosign.tag(name))
        _, value = content(document.text, document.type)
        for blob, text in payloads(value, cosign.PAYLOAD, cosign.ANNOTATION)[: cosign.MOST]:
            found.append(cosign.Signature(_small(store.blob(blob), blob, "signature"), text))
    cosign.verify(name, found, trusted)
    LOG.info("%s is signed by the key %s", name, key)


def _small(source: Source, wanted: Descriptor, what: str) -> bytes:
    """A blob that is read whole, and is what it should be; ``what`` names it in errors."""
    if wanted.size > LARGEST:
        raise ImageFailed(f"has a {what} of {wanted.size} bytes: at most {LARGEST} are read")
    with contextlib.closing(source):
        buffer = memoryview(bytearray(wanted.size + 1))
        try:
            text = bytes(buffer[: source.fill(buffer)])
        except ImageFailed as error:
            raise type(error)(f"{what}: {error}") from None
    if len(text) != wanted.size or digest_of(text, wanted.digest) != wanted.digest:
        raise ImageFailed(f"has a {what} that is not the one that was wanted ({wanted})")
    return text


def look(location: Location, found: Found, opening: Opening, settings: TransferSettings) -> None:
    """See that each layer is there and begins as one; nothing is changed.

    :raises ImageFailed: otherwise.
    """
    deadline = Deadline(settings.total_timeout)
    opened = opening(deadline)
    for number, layer in enumerate(found.layers):
        with _of_layer(location, found, number), contextlib.closing(opened(layer, deadline)) as source:
            buffer = memoryview(bytearray(HEAD))
            head = bytes(buffer[: source.fill(buffer)])
            begun = decoded(_packing(head), head, source)
            # An archive without members is nothing but zeros.
            if begun and begun[:512].strip(b"\0") and not begins(begun):
                raise ImageFailed("is no tar archive")


def bring(
    location: Location,
    found: Found,
    opening: Opening,
    walks: Callable[[int], Walk],
    unpack: Callable[[int], object] | None,
    *,
    settings: TransferSettings,
    limit: int,
    room: int = 0,
    progress: Callable[[int, int | None], None],
) -> Brought:
    """Stream the layers of an image to a program, one after the other, the lowest first.

    :param walks: called with the number of each layer, from 0, before it begins.
    :param unpack: as with :func:`bareon.transfer.archive.bring`; called for each layer.
    :param limit: bytes that all layers may have once they are decoded.
    :param room: bytes of memory for layers that are fetched ahead.
    :raises ImageFailed: when one cannot be fetched or is not what it should be; and what ``unpack`` raises.
    """
    whole = Deadline(settings.total_timeout)
    ahead = Ahead(found.layers, opening(whole), whole, room)
    served = size = attempts = 0
    form: Format = "raw"
    with ahead:
        for number, layer in enumerate(found.layers):
            part = whole.part()
            with (
                _of_layer(location, found, number),
                contextlib.closing(ahead.source(number, part)) as source,
                Checks(layer.blob.digest, Published(), settings, layer.plain) as checks,
            ):
                brought = unpacked(
                    source,
                    part,
                    walks(number),
                    unpack,
                    checks=checks,
                    limit=limit - size,
                    progress=lambda done, total, before=served: progress(before + done, found.size),  # type: ignore[misc]
                )
            served, size, attempts = served + brought.served, size + brought.size, attempts + brought.attempts
            form = brought.format if form == "raw" else form
    return Brought(served, size, attempts, form, f"{found.digest.algorithm}:{found.digest.value}")


@contextlib.contextmanager
def _of_layer(location: Location, found: Found, number: int) -> Iterator[None]:
    """Say of which layer it is that ImageFailed in the ``with`` block tells."""
    blob = found.layers[number].blob
    with named(location):
        try:
            yield
        except ImageFailed as error:
            place = f"layer {number + 1} of {len(found.layers)} ({blob.digest.value[:12]})"
            raise type(error)(f"{place}: {error}") from None


def _packing(head: bytes) -> Format:
    kind = recognised(head)
    if kind not in _PACKINGS:
        raise ImageFailed(f"is packed by {kind}: layers come plain, or by gzip or zstd")
    return kind
