# SPDX-License-Identifier: Apache-2.0
"""The sidecar of an image: a YAML document beside it with digests and sizes, where there is one.

``images`` lists an entry for each file: ``container_name``, ``container_md5`` and ``container_size`` are of the file
as it is served, ``raw_name``, ``raw_md5`` and ``raw_size`` of the image in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bareon.errors import ImageFailed
from bareon.model.image import Digest, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer.document import fetched
from bareon.transfer.failure import NotThere, named


def look_up(image: Location, metadata: Location, settings: TransferSettings) -> Published:
    """The entry for the image at ``image`` in the document at ``metadata``; empty where there is no such document.

    :raises ImageFailed: when it cannot be fetched or understood.
    """
    try:
        text = fetched(metadata, settings, "a description of images")
    except NotThere:
        return Published()
    with named(metadata):
        return _read(text, image.name)


def _read(text: bytes, file: str) -> Published:
    import yaml

    try:
        value = yaml.safe_load(text)
        entries = value.get("images") or ()
        entry: Mapping[str, Any] = next(
            (x for x in entries if file in (x.get("container_name"), x.get("raw_name"))), {}
        )
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError):
        raise ImageFailed("is no description of images that can be read") from None
    return Published(
        _md5(entry, "container_md5"),
        _size(entry, "container_size"),
        _md5(entry, "raw_md5"),
        _size(entry, "raw_size"),
    )


def _md5(entry: Mapping[str, Any], key: str) -> Digest | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch("[0-9A-Fa-f]{32}", value):
        raise ImageFailed(f"{key} is no MD5 digest")
    return Digest("md5", value.lower())


def _size(entry: Mapping[str, Any], key: str) -> int | None:
    value = entry.get(key)
    if value is not None and (type(value) is not int or value < 0):
        raise ImageFailed(f"{key} is no number of bytes")
    return value
