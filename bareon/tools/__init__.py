# SPDX-License-Identifier: Apache-2.0
"""One module per family of programs: argument lists from values, values from output. No decisions.

``from bareon import tools`` loads none of them: each is loaded when it is first named, as ``tools.lvm``. Kinds of
storage are loaded to check an input and to plan, too, where nothing is run.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bareon.tools import (
        blkid,
        block,
        btrfs,
        clevis,
        cryptsetup,
        device,
        dmsetup,
        filesystem,
        hdparm,
        https,
        lsblk,
        lvm,
        mdadm,
        mount,
        multipath,
        nvme,
        parted,
        partx,
        sfdisk,
        smartctl,
        udev,
    )

    __all__ = ["blkid", "block", "btrfs", "clevis", "cryptsetup", "device", "dmsetup", "filesystem", "hdparm"]
    __all__ += [
        "https",
        "lsblk",
        "lvm",
        "mdadm",
        "mount",
        "multipath",
        "nvme",
        "parted",
        "partx",
        "sfdisk",
        "smartctl",
        "udev",
    ]


def __getattr__(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from error
