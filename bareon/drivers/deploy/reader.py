# SPDX-License-Identifier: Apache-2.0
"""Readers of file systems that an image on an rsync daemon brings, before anything is written: kernels and GRUB."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from bareon.boot.platform import PLATFORMS
from bareon.drivers.deploy.early import EarlyFiles
from bareon.storage.reader import Reader, oldest
from bareon.system.family import FAMILIES

if TYPE_CHECKING:
    from bareon.drivers.deploy.rsync import FetchTree
    from bareon.tools.rsync import Entry

_MODULES = ("/lib/modules", "/usr/lib/modules")
_RELEASE = re.compile(r"(\d{1,4})\.(\d{1,4})[.-]")
_FOLDERS = dict.fromkeys(x.modules for x in FAMILIES)
_MODINFO = tuple(f"{folder}/{x.grub_target}/modinfo.sh" for folder in _FOLDERS for x in PLATFORMS)
_GRUB_VERSION = re.compile(rb'^grub_version="?(\d{1,4})\.(\d{1,4})', re.MULTILINE)


def readers(fetch: FetchTree) -> tuple[Reader, ...]:
    """The oldest kernel of an image by the folders of its modules, and its oldest GRUB, each where there is one.

    The older kernels count: the menu has them too. A vendor may have patched newer things into either, so that more
    is left out than need be.

    :raises ImageFailed: when the server cannot be reached, or refuses.
    """
    image = fetch.image.name
    found: tuple[Reader, ...] = ()

    def take(entry: Entry) -> None:
        nonlocal found
        folder, name = posixpath.split(f"/{entry.path}")
        if entry.kind == "d" and folder in _MODULES and (release := _RELEASE.match(name)):
            found = oldest([*found, Reader("Linux", (int(release[1]), int(release[2])), image)])

    fetch.contents(_MODULES, take)
    files = EarlyFiles(fetch)(_MODINFO)
    grubs = [x for content in files.values() if (x := _GRUB_VERSION.search(content))]
    return oldest([*found, *(Reader("GRUB", (int(x[1]), int(x[2])), image) for x in grubs)])
