# SPDX-License-Identifier: Apache-2.0
"""The ironic dialect: ``provision.json`` as the Ironic driver of bareon writes it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from bareon.drivers.data import configdrive
from bareon.drivers.data.base import DataDriver, checked
from bareon.drivers.data.document import check, load
from bareon.drivers.data.public import secrets, without_secrets
from bareon.drivers.data.volume import Volumes
from bareon.errors import Defect, InvalidInput
from bareon.model.configdrive import Configdrive
from bareon.model.deployment import Deployment
from bareon.model.image import DIGEST_LENGTHS, Digest, Image, Part
from bareon.model.location import Location
from bareon.sizes import Absolute, parse_size
from bareon.storage import erase
from bareon.storage.disk import Disk, DiskId, DiskRule, Partition

T = TypeVar("T")


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
        found = checked(deployment, translation.defects)
        return self._at_hand(found, value) if found.multiboot else found

    def _at_hand(self, deployment: Deployment, value: dict[str, Any]) -> Deployment:
        """The deployment with the document for later runs, or a warning of what keeps it from being left."""
        public = without_secrets(value)
        if kept := list(secrets(public)):
            words = "is not left beside the menu for later runs: it is, or looks like, a secret"
            self._warnings += (f"{', '.join(kept)}: the document {words}",)
            return deployment
        return replace(deployment, at_hand=json.dumps(public, indent=1, ensure_ascii=False) + "\n")


class _Translation:
    """From a document that fits the schema to the model. Collects what the schema cannot express."""

    def __init__(self, value: dict[str, Any]) -> None:
        self._value = value
        self._volumes = Volumes(tuple(image["name"] for image in value.get("images", ())[:1]))
        self.defects = self._volumes.defects
        self.warnings = self._volumes.warnings

    def deployment(self) -> Deployment:
        value = self._value
        entries = [(entry, f"$.partitions[{i}]") for i, entry in enumerate(value["partitions"])]
        disks = tuple(self._disk(entry, path) for entry, path in entries if entry["type"] == "disk")
        for entry, path in entries:
            if entry["type"] != "disk":
                self._volumes.entry(entry, path)
        images = tuple(self._image(image, f"$.images[{i}]") for i, image in enumerate(value.get("images", ())))
        return Deployment(
            policy=value.get("partitions_policy", "verify"),
            disks=disks,
            aggregates=tuple(self._volumes.aggregates),
            images=images,
            rsync_flags=self._rsync_flags(),
            kernel_params=value.get("deploy_data", {}).get("kernel_params", ""),
            boot_order=value.get("deploy_data", {}).get("boot_order", "first"),
            esp_copies=value.get("deploy_data", {}).get("esp_copies", False),
            manifest=value.get("deploy_data", {}).get("manifest", False),
            manifest_exclude=tuple(value.get("deploy_data", {}).get("manifest_exclude", ())),
            configdrive=self._configdrive(),
        )

    def collecting(self, make: Callable[[], T]) -> T | None:
        """The result of ``make``; ``None`` if it finds defects, which are added to the others."""
        try:
            return make()
        except InvalidInput as error:
            self.defects += error.defects
            return None

    def _configdrive(self) -> Configdrive | None:
        value = self._value.get("configdrive")
        return None if value is None else self.collecting(lambda: configdrive.from_documents(value))

    def _rsync_flags(self) -> tuple[str, ...]:
        text = self._value.get("image_deploy_flags", {}).get("rsync_flags")
        if text is None:
            return Deployment.rsync_flags
        try:
            return tuple(shlex.split(text))
        except ValueError as error:
            self.defects.append(Defect("$.image_deploy_flags.rsync_flags", f"cannot be split into options: {error}"))
            return ()

    def _disk(self, value: dict[str, Any], path: str) -> Disk:
        self._volumes.warn_of_legacy(value, path)
        size = _bytes(value["size"]) if "size" in value else None  # a budget: not rounded
        volumes = (self._volumes.volume(x, f"{path}.volumes[{i}]") for i, x in enumerate(value["volumes"]))
        return Disk(
            self._identity(value["id"], f"{path}.id"),
            size,
            tuple(x for x in volumes if isinstance(x, Partition)),
            path,
            erase=None if value.get("erase", erase.NONE) == erase.NONE else value["erase"],
            multiboot=value.get("multiboot", False),
            network=value.get("network", False),
        )

    def _identity(self, value: dict[str, Any], path: str) -> DiskId | DiskRule:
        if value["type"] != "rule":
            return DiskId(value["type"], value["value"])
        given = {key: _bytes(item) if key in ("min_size", "max_size") else item for key, item in value.items()}
        del given["type"]
        rule = DiskRule(**given | ({"exclude": tuple(value["exclude"])} if "exclude" in value else {}))
        if rule.min_size is not None and rule.max_size is not None and rule.min_size > rule.max_size:
            self.defects.append(Defect(f"{path}.max_size", f"{value['max_size']!r} is less than min_size"))
        return rule

    def _image(self, value: dict[str, Any], path: str) -> Image:
        return Image(
            name=value["name"],
            url=_with_mirrors(value["image_pull_url"]),
            target=value.get("target", "/"),
            boot=bool(value.get("boot", False)),
            image_name=value.get("image_name"),
            uuid=value.get("image_uuid"),
            digest=self._digest(value, path),
            disk_format=value.get("image_disk_format"),
            checksums_url=_location(value, "image_checksums_url"),
            signature_url=_location(value, "image_signature_url"),
            parts=tuple(_part(x, value, f"{path}.parts[{i}]") for i, x in enumerate(value.get("parts", ()))),
            path=path,
        )

    def _digest(self, value: dict[str, Any], path: str) -> Digest | None:
        algorithm, text = value.get("image_os_hash_algo"), value.get("image_os_hash_value")
        if algorithm is None and text is None:
            return None
        if algorithm is None or text is None:
            missing = "image_os_hash_algo" if algorithm is None else "image_os_hash_value"
            self.defects.append(Defect(path, f"the key {missing!r} is missing: a digest needs both"))
            return None
        if len(text) != DIGEST_LENGTHS[algorithm]:
            wanted = f"{algorithm} has {DIGEST_LENGTHS[algorithm]} digits, not {len(text)}"
            self.defects.append(Defect(f"{path}.image_os_hash_value", wanted))
        if algorithm == "md5":
            self.warnings.append(f"{path}.image_os_hash_algo: md5 does not protect against a forged image")
        return Digest(algorithm, text.lower())


def _with_mirrors(value: str | list[str]) -> Location:
    first, *others = [value] if isinstance(value, str) else value
    return Location(first, tuple(map(Location, others)))


def _location(value: dict[str, Any], key: str) -> Location | None:
    return Location(value[key]) if key in value else None


def _part(value: dict[str, Any], image: dict[str, Any], path: str) -> Part:
    target = value.get("target", image.get("target", "/"))
    return Part(value["partition"], target, value.get("as", "tree"), path)


def _bytes(text: str) -> int:
    """An explicit size, which the schema has checked."""
    size = parse_size(text)
    assert isinstance(size, Absolute)
    return size.size
