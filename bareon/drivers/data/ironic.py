# SPDX-License-Identifier: Apache-2.0
"""The ironic dialect: ``provision.json`` as the Ironic driver of bareon writes it."""

from __future__ import annotations

import shlex
from typing import Any

from bareon.drivers.data.base import DataDriver
from bareon.drivers.data.document import check, load
from bareon.errors import Defect, InvalidInput
from bareon.layout.build import declared_defects
from bareon.model.consistency import defects
from bareon.model.deployment import Deployment
from bareon.model.disk import Disk, DiskId, Partition
from bareon.model.filesystem import Filesystem, FilesystemType
from bareon.model.image import Image
from bareon.sizes import Absolute, Size, parse_size, round_up

LEGACY = ("extra", "free_space", "label", "min_size", "_allocate_size")


class Ironic(DataDriver):
    """``--data_driver ironic``."""

    def __init__(self) -> None:
        self._warnings: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._warnings

    def parse(self, text: bytes) -> Deployment:
        value = load(text)
        check(value, "ironic.json")
        translation = _Translation(value)
        deployment = translation.deployment()
        self._warnings = tuple(translation.warnings)
        found = [*translation.defects, *defects(deployment), *declared_defects(deployment)]
        if found:
            raise InvalidInput(sorted(found, key=lambda defect: defect.path))
        return deployment


class _Translation:
    """From a document that fits the schema to the model. Collects what the schema cannot express."""

    def __init__(self, value: dict[str, Any]) -> None:
        self._value = value
        self.defects: list[Defect] = []
        self.warnings: list[str] = []
        self._first_image = tuple(image["name"] for image in value.get("images", ())[:1])

    def deployment(self) -> Deployment:
        value = self._value
        disks = tuple(self._disk(disk, f"$.partitions[{i}]") for i, disk in enumerate(value["partitions"]))
        images = tuple(_image(image, f"$.images[{i}]") for i, image in enumerate(value.get("images", ())))
        return Deployment(
            policy=value.get("partitions_policy", "verify"),
            disks=disks,
            images=images,
            rsync_flags=self._rsync_flags(),
            kernel_params=value.get("deploy_data", {}).get("kernel_params", ""),
        )

    def _rsync_flags(self) -> tuple[str, ...]:
        text = self._value.get("image_deploy_flags", {}).get("rsync_flags")
        if text is None:
            return Deployment.rsync_flags
        try:
            return tuple(shlex.split(text))
        except ValueError as error:
            self.defects.append(Defect("$.image_deploy_flags.rsync_flags", f"cannot be split into options: {error}"))
            return ()

    def _size(self, text: str, path: str) -> Size:
        try:
            return parse_size(text)
        except ValueError as error:
            self.defects.append(Defect(f"{path}.size", str(error)))
            return Absolute(1)

    def _disk(self, value: dict[str, Any], path: str) -> Disk:
        self._warn_of_legacy(value, path)
        size = None
        if "size" in value:
            parsed = self._size(value["size"], path)
            if isinstance(parsed, Absolute):
                size = round_up(parsed.size)
            else:
                self.defects.append(Defect(f"{path}.size", "a disk's size cannot be relative"))
        identity = DiskId(value["id"]["type"], value["id"]["value"])
        volumes = (self._partition(x, f"{path}.volumes[{i}]") for i, x in enumerate(value["volumes"]))
        return Disk(identity, size, tuple(volumes), path)

    def _partition(self, value: dict[str, Any], path: str) -> Partition:
        self._warn_of_legacy(value, path)
        guid = value.get("partition_guid")
        return Partition(
            size=self._size(value["size"], path),
            filesystem=self._filesystem(value, path),
            name=value.get("name"),
            guid=guid.upper() if guid else None,
            boot=value["type"] == "boot",
            path=path,
        )

    def _filesystem(self, value: dict[str, Any], path: str) -> Filesystem | None:
        mount = value.get("mount")
        mount = None if mount == "none" else mount
        default = "swap" if mount == "swap" else "xfs" if mount else None
        kind: FilesystemType | None = value.get("file_system", default)
        if kind is None:
            if "disk_label" in value:
                self.defects.append(Defect(f"{path}.disk_label", "there is no file system to label"))
            return None
        return Filesystem(
            type=kind,
            mount=mount,
            label=value.get("disk_label"),
            fstab_enabled=value.get("fstab_enabled", True),
            fstab_options=value.get("fstab_options", "defaults"),
            keep_data=value.get("keep_data", True),
            images=tuple(value.get("images", self._first_image)),
            path=path,
        )

    def _warn_of_legacy(self, value: dict[str, Any], path: str) -> None:
        self.warnings += [f"{path}.{key} is ignored" for key in LEGACY if key in value]


def _image(value: dict[str, Any], path: str) -> Image:
    return Image(
        name=value["name"],
        url=value["image_pull_url"],
        target=value.get("target", "/"),
        boot=bool(value.get("boot", False)),
        image_name=value.get("image_name"),
        uuid=value.get("image_uuid"),
        path=path,
    )
