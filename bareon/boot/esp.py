# SPDX-License-Identifier: Apache-2.0
"""The removable path of an EFI system partition, EFI/BOOT, which firmware boots without an NVRAM entry."""

from __future__ import annotations

import shutil
from pathlib import Path

from bareon.boot.platform import Platform
from bareon.errors import ActionFailed


def add_removable(place: str, platform: Platform) -> str:
    """Copy what was installed last to the removable path of the platform and beside it.

    :param place: where the partition is mounted.
    :returns: the path of the loader on the partition, as firmware writes it.
    :raises ActionFailed: when there is none, or no room.
    """
    installed = [
        path for path in Path(place).glob(f"[Ee][Ff][Ii]/*/{platform.grub}") if path.parent.name.upper() != "BOOT"
    ]
    if not installed:
        raise ActionFailed("grub-install left no EFI program on the EFI system partition")
    folder = max(installed, key=lambda path: path.stat().st_mtime_ns).parent
    loader = platform.shim if (folder / platform.shim).is_file() else platform.grub
    target = folder.parent / "BOOT"
    try:
        target.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.name == loader:
                shutil.copyfile(path, target / platform.removable)
            elif path.is_file() and path.name.lower() not in platform.left_out:
                shutil.copyfile(path, target / path.name)
    except OSError as error:
        raise ActionFailed(f"cannot write to the EFI system partition: {error.strerror}") from error
    return "\\" + "\\".join([*folder.relative_to(place).parts, loader])
