# SPDX-License-Identifier: Apache-2.0
"""Small documents that belong to an image, fetched whole."""

from __future__ import annotations

import contextlib

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer.deadline import Deadline
from bareon.transfer.failure import named
from bareon.transfer.image import open_source

LARGEST = 1 << 20  # bytes


def fetched(location: Location, settings: TransferSettings, what: str) -> bytes:
    """The bytes of a document; ``what`` names its kind in errors.

    :raises ImageFailed: when it cannot be fetched (NotThere: when there is none), or is larger than ``LARGEST``.
    """
    buffer = memoryview(bytearray(LARGEST))
    with (
        named(location),
        contextlib.closing(open_source(location, settings, Deadline(settings.total_timeout))) as source,
    ):
        text = bytes(buffer[: source.fill(buffer)])
        if len(text) == LARGEST:
            raise ImageFailed(f"is too large for {what}")
    return text
