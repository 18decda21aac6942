# SPDX-License-Identifier: Apache-2.0
"""The images of a node with more than one, as published: ``boot-info.json`` and the list of ``bareon-boot``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bareon.atomic import replacing
from bareon.errors import ActionFailed
from bareon.model.image import Image


@dataclass(frozen=True)
class Listed:
    """An image as it is listed. ``number`` is that of its menu entry, ``None`` for one that cannot boot."""

    image: Image
    number: int | None = None
    os_id: str | None = None
    title: str = ""
    root_uuid: str | None = None


def document(listed: Sequence[Listed], default: str, multiboot: str) -> dict[str, Any]:
    """The content of ``boot-info.json``: the images that can boot, in the order of the menu.

    :param default: the name of the default image.
    :param multiboot: the UUID of the partition with the menu.
    """
    bootable = [x for x in listed if x.number is not None]
    return {
        "elements": [
            {
                "grub_id": x.number,
                "image_name": x.image.image_name or x.image.name,
                "os_id": x.os_id,
                "image_uuid": x.image.uuid,
                "boot_name": x.title,
                "root_uuid": x.root_uuid,
            }
            for x in bootable
        ],
        "current_element": next(i for i, x in enumerate(bootable) if x.image.name == default),
        "multiboot_partition": multiboot,
    }


def save(content: dict[str, Any], path: str) -> None:
    """Write it in one go, never through a link that somebody put in its place.

    :raises ActionFailed: when it cannot be written.
    """
    try:
        with replacing(Path(path), 0o644) as file:
            file.write(json.dumps(content, indent=1).encode() + b"\n")
    except OSError as error:
        raise ActionFailed(f"--boot_info_path: {path} cannot be written: {error.strerror}") from error


def table(listed: Sequence[Listed]) -> str:
    """A line for each image, with tabs between: number, name, UUID, UUID of its root, catalogue name, title."""
    lines = []
    for x in listed:
        number = None if x.number is None else str(x.number)
        title = x.title or "(cannot boot: holds no system)"
        fields = (number, x.image.name, x.image.uuid, x.root_uuid, x.image.image_name, title)
        lines.append("\t".join(_field(field) for field in fields) + "\n")
    return "".join(lines)


def _field(text: str | None) -> str:
    return "".join(char for char in text or "" if char.isprintable()) or "-"
