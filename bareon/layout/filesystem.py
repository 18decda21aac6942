# SPDX-License-Identifier: Apache-2.0
"""A wanted file system on the device it gets."""

from __future__ import annotations

from bareon.layout.allocate import DoesNotFit
from bareon.layout.identifier import Identifiers
from bareon.model.filesystem import SMALLEST, Filesystem
from bareon.model.layout import FilesystemLayout
from bareon.sizes import mib


def filesystem_layout(
    wanted: Filesystem | None, device: str, size: int, path: str, identifiers: Identifiers
) -> FilesystemLayout | None:
    """The file system, to be created, with its UUID; ``None`` where none is wanted.

    :param path: of the size that was asked for.
    :raises DoesNotFit: when its kind needs more than ``size`` bytes.
    """
    if wanted is None:
        return None
    if size < SMALLEST[wanted.type]:
        least = mib(SMALLEST[wanted.type])
        raise DoesNotFit(path, f"{mib(size)} is too small for {wanted.type}, which needs {least}")
    return FilesystemLayout(wanted, device, size, identifiers.filesystem(wanted.type, device), "create")
