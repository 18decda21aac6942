# SPDX-License-Identifier: Apache-2.0
"""The nailgun dialect: provisioning data as Fuel's Nailgun hands it out."""

from __future__ import annotations

import re
from typing import Any

from bareon.drivers.data import cloudinit
from bareon.drivers.data.base import DataDriver, checked
from bareon.drivers.data.document import check, load
from bareon.drivers.data.spaces import Spaces
from bareon.errors import Defect, InvalidInput
from bareon.model.configdrive import Configdrive
from bareon.model.deployment import Deployment, InterfaceName
from bareon.model.image import Image
from bareon.model.location import Location

_RULE = re.compile(r"([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5})_([A-Za-z][A-Za-z0-9_.-]{0,14})")
_KERNEL = "$.kernel_options"


class Nailgun(DataDriver):
    """``--data_driver nailgun``."""

    def __init__(self) -> None:
        self._warnings: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._warnings

    def parse(self, text: bytes) -> Deployment:
        value = load(text)
        check(value, "nailgun.json")
        translation = _Translation(value, self.template_path)
        deployment = translation.deployment()
        self._warnings = tuple(translation.warnings)
        return checked(deployment, translation.defects)


class _Translation:
    """From a document that fits the schema to the model. Collects what the schema cannot express."""

    def __init__(self, value: dict[str, Any], template_path: str | None) -> None:
        self._value = value
        self._meta = value["ks_meta"]
        self._template_path = template_path
        self.defects: list[Defect] = []
        self.warnings: list[str] = []

    def deployment(self) -> Deployment:
        pm_data, images = self._meta["pm_data"], self._meta.get("image_data", {})
        formats = {mount: image["format"] for mount, image in images.items()}
        root = ("/",) if images else ()
        spaces = Spaces(pm_data["ks_spaces"], "$.ks_meta.pm_data.ks_spaces", root, formats)
        disks = spaces.disks()
        names = self._interface_names()
        deployment = Deployment(
            policy="verify" if spaces.keeps_data else "clean",
            disks=disks,
            aggregates=(*spaces.arrays(), *spaces.groups()),
            images=tuple(self._images()),
            kernel_params=pm_data.get("kernel_params", ""),
            configdrive=self._configdrive(),
            interface_names=names,
        )
        if not disks:
            self.defects.append(Defect("$.ks_meta.pm_data.ks_spaces", "nothing is made on any disk"))
        self.defects += spaces.defects
        self.warnings += spaces.warnings
        return deployment

    def _images(self) -> list[Image]:
        """All images, that of the root file system first: the others go onto what it brings."""
        images = self._meta.get("image_data", {})
        # Digests and sizes may stand beside the image of the root.
        beside = Location(images["/"]["uri"]).sibling(".yaml") if images else None
        return [
            Image(
                name=mount,
                url=Location(images[mount]["uri"]),
                target=mount,
                disk_format="raw",
                metadata_url=beside,
                part_of=None if mount == "/" else "/",
                path=f"$.ks_meta.image_data['{mount}']",
            )
            for mount in sorted(images)
        ]

    def _interface_names(self) -> tuple[InterfaceName, ...]:
        """The names in ``udevrules``."""
        path = f"{_KERNEL}.udevrules"
        found: list[InterfaceName] = []
        for rule in filter(None, self._value.get("kernel_options", {}).get("udevrules", "").split(",")):
            match = _RULE.fullmatch(rule.strip())
            if match is None:
                self.defects.append(Defect(path, f"{rule[:60]!r} is not of the form MAC_NAME"))
                continue
            name = InterfaceName(match[1].lower(), match[2])
            for other in found:
                if name.mac == other.mac or name.name == other.name:
                    self.defects.append(Defect(path, f"{other.mac}_{other.name} and {name.mac}_{name.name} clash"))
            found.append(name)
        self._check_interfaces(found)
        return tuple(found)

    def _check_interfaces(self, named: list[InterfaceName]) -> None:
        """See that ``interfaces``, ``udevrules`` and ``netcfg/choose_interface`` speak of the same interfaces."""
        macs: dict[str, str] = {}
        by_mac = {x.mac: x.name for x in named}
        for name, interface in self._value.get("interfaces", {}).items():
            path, mac = f"$.interfaces.{name}", interface["mac_address"].lower()
            if mac in macs:
                self.defects.append(Defect(f"{path}.mac_address", f"{mac} is already that of {macs[mac]}"))
            macs[mac] = name
            if by_mac.get(mac, name) != name:
                self.defects.append(Defect(path, f"udevrules of kernel_options call {mac} {by_mac[mac]!r}"))
            for one, other in (("ip_address", "netmask"), ("netmask", "ip_address")):
                if one in interface and other not in interface:
                    self.defects.append(Defect(path, f"the key {other!r} is missing beside {one!r}"))
        chosen = self._value.get("kernel_options", {}).get("netcfg/choose_interface")
        if chosen and macs and chosen.lower() not in macs:
            message = f"{chosen} is the address of none of the interfaces"
            self.defects.append(Defect(f"{_KERNEL}['netcfg/choose_interface']", message))

    def _configdrive(self) -> Configdrive | None:
        """The configdrive made from the templates of the profile; ``None`` without a profile."""
        if "profile" not in self._value:
            self.warnings.append("$: without a profile there is no configdrive, cloud-init is told nothing")
            return None
        missing = list(cloudinit.missing(self._value))
        if missing:
            self.defects += missing
            return None
        try:
            return cloudinit.configdrive(self._value, self._template_path)
        except InvalidInput as error:
            self.defects += error.defects
            return None
