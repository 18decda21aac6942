# SPDX-License-Identifier: Apache-2.0
"""What is published beside an image: its sidecar, a list of checksums, a signature."""

from __future__ import annotations

from dataclasses import replace

from bareon.errors import ImageFailed
from bareon.model.image import Image, Published
from bareon.model.settings import TransferSettings
from bareon.transfer import checksums, sidecar
from bareon.transfer.document import fetched
from bareon.transfer.failure import named


def published(image: Image, settings: TransferSettings) -> Published:
    """All that is published beside an image, looked up.

    :raises ImageFailed: when it cannot be, is not signed as it must be, or does not agree with the digest that the
        image was given.
    """
    found = sidecar.look_up(image.url, image.metadata_url, settings) if image.metadata_url else Published()
    if image.checksums_url:
        listed = checksums.look_up(image.url, image.checksums_url, image.signature_url, settings)
        given = image.digest
        if given and given.algorithm == listed.algorithm and given != listed:
            with named(image.checksums_url):
                what = f"the {given.algorithm} of {image.url.name!r}"
                raise ImageFailed(f"it lists {listed.value} as {what}, {given.value} was wanted")
        return replace(found, listed=listed)
    if image.signature_url:
        return replace(found, signature=fetched(image.signature_url, settings, "a signature"))
    return found
