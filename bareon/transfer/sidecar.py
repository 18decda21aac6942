# SPDX-License-Identifier: Apache-2.0
"""What is published of an image beside it: a YAML document with digests and sizes, where there is one.

``images`` lists an entry for each file: ``container_name``, ``container_md5`` and ``container_size`` are of the file
as it is served, ``raw_name``, ``raw_md5`` and ``raw_size`` of the image in it.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from bareon.errors import ImageFailed
from bareon.model.image import Digest
from bareon.model.settings import TransferSettings
from bareon.text import shown
from bareon.transfer.deadline import Deadline
from bareon.transfer.source import NotThere, open_source

_LARGEST = 1 << 20  # bytes


@dataclass(frozen=True)
class Published:
    """``digest`` and ``served`` (bytes) are of what is served, ``plain`` and ``size`` (bytes) of the image in it."""

    digest: Digest | None = None
    served: int | None = None
    plain: Digest | None = None
    size: int | None = None

    def check_sizes(self, url: str, served: int | None, size: int | None) -> None:
        """Compare sizes, as far as they are known.

        :raises ImageFailed: naming the one that differs.
        """
        for what, found, wanted in (("file", served, self.served), ("image", size, self.size)):
            if found is not None and wanted is not None and found != wanted:
                raise ImageFailed(f"{shown(url)}: the {what} has {found} bytes, {wanted} are published")


@functools.lru_cache(maxsize=64)  # what a run was checked with is what it is carried out with
def look_up(url: str, metadata_url: str, settings: TransferSettings) -> Published:
    """What the document at ``metadata_url`` says of the image at ``url``; nothing where there is no such document.

    :raises ImageFailed: when it cannot be fetched or understood.
    """
    name = shown(metadata_url)
    text = _text(metadata_url, settings)
    if text is None:
        return Published()
    import yaml

    try:
        value = yaml.safe_load(text)
        entries = value.get("images") or ()
        file = PurePosixPath(unquote(urlsplit(url).path)).name
        entry: Mapping[str, Any] = next(
            (x for x in entries if file in (x.get("container_name"), x.get("raw_name"))), {}
        )
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError):
        raise ImageFailed(f"{name}: is no description of images that can be read") from None
    return Published(
        _md5(entry, "container_md5", name),
        _size(entry, "container_size", name),
        _md5(entry, "raw_md5", name),
        _size(entry, "raw_size", name),
    )


def _text(url: str, settings: TransferSettings) -> bytes | None:
    deadline = Deadline(shown(url), settings.total_timeout)
    buffer = memoryview(bytearray(_LARGEST))
    try:
        with contextlib.closing(open_source(url, settings, deadline)) as source:
            text = bytes(buffer[: source.fill(buffer)])
    except NotThere:
        return None
    if len(text) == _LARGEST:
        raise ImageFailed(f"{shown(url)}: is too large for a description of images")
    return text


def _md5(entry: Mapping[str, Any], key: str, name: str) -> Digest | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch("[0-9A-Fa-f]{32}", value):
        raise ImageFailed(f"{name}: {key} is no MD5 digest")
    return Digest("md5", value.lower())


def _size(entry: Mapping[str, Any], key: str, name: str) -> int | None:
    value = entry.get(key)
    if value is not None and (type(value) is not int or value < 0):
        raise ImageFailed(f"{name}: {key} is no number of bytes")
    return value
