# SPDX-License-Identifier: Apache-2.0
"""File systems that arrived inside an image: what they really are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bareon.errors import ActionFailed
from bareon.model.filesystem import FILESYSTEM_TYPES
from bareon.model.layout import FilesystemLayout
from bareon.tools import blkid


def actual(filesystems: Iterable[FilesystemLayout]) -> tuple[FilesystemLayout, ...]:
    """The file systems with type and UUID as they are on the devices; only an image's own can be other than decided.

    :raises ActionFailed: naming a device without a file system: its image was not brought yet.
    """
    return tuple(_found(fs) if fs.wanted.from_image else fs for fs in filesystems)


def _found(fs: FilesystemLayout) -> FilesystemLayout:
    tags = blkid.probe([fs.device]).get(fs.device, {})
    kind = tags.get("TYPE")
    if kind not in FILESYSTEM_TYPES:
        raise ActionFailed(f"{fs.device} for {fs.mount} holds {kind or 'no file system'}: no image was written to it")
    return replace(fs, wanted=replace(fs.wanted, type=kind), uuid=tags.get("UUID", fs.uuid))
