# SPDX-License-Identifier: Apache-2.0
"""File systems and arrays of volumes, as the dialects of input have them in common."""

from __future__ import annotations

import re
from typing import Any

from bareon.errors import Defect
from bareon.model.disk import RaidMember
from bareon.model.filesystem import Filesystem, FilesystemType
from bareon.model.raid import Array
from bareon.sizes import Size

# What mdadm takes as a name without a host's, and the schemas allow for ``name``.
_ARRAY_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}"


def filesystem(
    value: dict[str, Any], path: str, found: list[Defect], *, images: tuple[str, ...], keep_data: bool
) -> Filesystem | None:
    """The file system of a volume, ``None`` where there is to be none; defects are added to ``found``.

    :param images: those that it belongs to.
    :param keep_data: whether what is there is to be kept.
    """
    mount = value.get("mount")
    mount = None if mount == "none" else mount
    default = "swap" if mount == "swap" else "xfs" if mount else None
    kind: FilesystemType | None = value.get("file_system", default)
    if kind is None:
        if "disk_label" in value:
            found.append(Defect(f"{path}.disk_label", "there is no file system to label"))
        return None
    return Filesystem(
        type=kind,
        mount=mount,
        label=value.get("disk_label"),
        fstab_enabled=value.get("fstab_enabled", True),
        fstab_options=value.get("fstab_options", "defaults"),
        keep_data=keep_data,
        images=images,
        path=path,
    )


class Arrays:
    """The arrays that raid volumes make up, collected from them; defects are added to ``found``."""

    def __init__(self, found: list[Defect]) -> None:
        self._defects = found
        self._by_key: dict[object, Array] = {}

    def all(self) -> tuple[Array, ...]:
        """The arrays so far, in the order of their first members."""
        return tuple(self._by_key.values())

    def member(
        self, value: dict[str, Any], path: str, size: Size, wanted: Filesystem | None, metadata: int | None = None
    ) -> RaidMember:
        """A member of an array, and the array it belongs to: that of its mount point and images, else of its name.

        :param wanted: the file system on the array.
        :param metadata: bytes of LVM metadata on it, ``None`` for LVM's own choice.
        """
        point = wanted.mount if wanted else None
        key = (point, wanted.images) if wanted and point else (value.get("name"), None)
        level = value.get("level", "raid1")
        array = Array(
            name=self._name(value, path, point),
            level=level if isinstance(level, str) else f"raid{int(level)}",  # type: ignore[arg-type]
            filesystem=wanted,
            vg=value.get("vg"),
            metadata=metadata,
            path=path,
        )
        if array.vg and wanted:
            self._defects.append(Defect(f"{path}.vg", "an array is a physical volume or has a file system, not both"))
        first = self._by_key.setdefault(key, array)
        if first != array:
            other = f"not as in {first.path}: the members of one array must agree in all but their size"
            self._defects.append(Defect(path, other))
        return RaidMember(size, first.name, path)

    def _name(self, value: dict[str, Any], path: str, point: str | None) -> str:
        name = value.get("name") or (point.strip("/").replace("/", "-") or "root" if point else None)
        if name is None:
            self._defects.append(Defect(path, "a raid volume without a mount point needs a name, the array's"))
            return path
        if not re.fullmatch(_ARRAY_NAME, name):
            self._defects.append(Defect(path, f"{name!r} cannot be the name of an array: give it a 'name'"))
        return str(name)
