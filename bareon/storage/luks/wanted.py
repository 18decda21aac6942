# SPDX-License-Identifier: Apache-2.0
"""Wanted containers, and the schema of an input for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from bareon.errors import Defect
from bareon.sizes import mib
from bareon.storage import cryptkey
from bareon.storage.allocate import DoesNotFit
from bareon.storage.cryptkey import KeyFile, KeyUrl, Sealed, Source
from bareon.storage.filesystem import SWAP, Filesystem
from bareon.storage.kind import LINUX_DATA, Content, Device, Place
from bareon.storage.luks.mapper import MAPPER
from bareon.storage.luks.planned import FORMAT, PlannedContainer, PlannedEphemeral
from bareon.storage.luks.step import HEADER
from bareon.storage.schema import Schema

LUKS = "CA7D7CCB-63ED-4C53-861C-1742536059CC"
"""The partition type GUID of a container; Discoverable Partitions Specification."""

_OF_THE_START = {4, 5, 8, 9}  # PCRs of boot loader, its configuration, the kernel's command line, and files
NAME = "(?!control$)[A-Za-z0-9_][A-Za-z0-9_.-]*"
_SOURCES = {"file", "url", "tpm2", "clevis", "random"}
_AT_EACH_START = (SWAP, "/tmp", "/var/tmp")
# bareon decides them, or they would have a program of the image, or a file that is not there, open the device.
_OURS = ("header", "keyscript", "luks", "none", "plain", "swap", "tcrypt", "tmp")

_KEY: Schema = {
    "description": "The key: one of file, url, tpm2, clevis and random.",
    "x-secret": True,
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "file": {
            "description": "A file of the ramdisk. All its bytes are the key, a newline at its end among them.",
            "type": "string",
            "pattern": "/[^\\u0000]+",
            "x-pattern": "an absolute path",
        },
        "url": {
            "description": "An https URL that gives the key. It is a secret, too.",
            "x-secret": True,
            "type": "string",
            "pattern": "https://[^\\s/?#@]+(/\\S*)?",
            "x-pattern": "an https URL without a user in it",
        },
        "tpm2": {
            "description": "A key that the node's TPM 2.0 seals, and gives to the deployed system when it starts.",
            "type": "object",
            "required": ["pcrs"],
            "additionalProperties": False,
            "properties": {
                "pcrs": {
                    "description": "The PCRs, of SHA-256, that must be then as they are in the ramdisk; [] for none.",
                    "type": "array",
                    "uniqueItems": True,
                    "items": {"type": "integer", "minimum": 0, "maximum": 23},
                },
            },
        },
        "clevis": {
            "description": "A key that can be had where tang servers answer.",
            "type": "object",
            "required": ["tang"],
            "additionalProperties": False,
            "properties": {
                "tang": {
                    "description": "The servers.",
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["url", "thumbprint"],
                        "additionalProperties": False,
                        "properties": {
                            "url": {
                                "description": "The URL of the server. It is no secret: the header of the container"
                                " has it.",
                                "type": "string",
                                "pattern": "^https?://[^\\s/?#@]+(/\\S*)?$",
                                "x-pattern": "a URL of a server without a user in it",
                            },
                            "thumbprint": {
                                "description": "The thumbprint of its key, as tang-show-keys tells it.",
                                "type": "string",
                                "pattern": "^[A-Za-z0-9_-]{27,86}$",
                                "x-pattern": "a thumbprint in base64url",
                            },
                        },
                    },
                },
                "threshold": {
                    "description": "How many of them must answer. Default: 1.",
                    "type": "integer",
                    "minimum": 1,
                },
            },
        },
        "random": {
            "description": "true: another random key each time the system starts, for swap, /tmp and /var/tmp, which"
            " are empty then.",
            "enum": [True],
        },
        "in_system": {
            "description": "true: the key comes into the deployed system, which opens the container by itself; where"
            " that is needed for the root file system, also into its initramfs. false: the system asks for it"
            " on the console. Default: false.",
            "type": "boolean",
        },
    },
}
ENCRYPTION: Schema = {
    "description": "What lies in it is encrypted. Of a raid: the array.",
    "type": "object",
    "required": ["type", "name", "key"],
    "additionalProperties": False,
    "properties": {
        "type": {"description": "The format of the container.", "enum": [FORMAT]},
        "name": {
            "description": "The name: of the opened device below /dev/mapper, and the label of the container.",
            "type": "string",
            "maxLength": 47,
            "pattern": f"^{NAME}$",
            "x-pattern": "a name for an opened container: letters, digits and _ . - only",
        },
        "key": _KEY,
        "recovery_key": {
            "description": "true: a second key is made, and shown once on the terminal. Default: false.",
            "type": "boolean",
        },
        "options": {
            "description": "Options of crypttab(5) in the deployed system, such as discard.",
            "type": "array",
            "uniqueItems": True,
            "items": {
                "type": "string",
                "pattern": "^_?[a-z][a-z0-9_.-]*(=[A-Za-z0-9_.:/+-]+)?$",
                "x-pattern": "an option of crypttab(5)",
            },
        },
    },
}


@dataclass(frozen=True)
class Container(Content):
    """A LUKS2 container.

    ``in_system`` says that its key comes into the deployed system, ``recovery`` that another one is made.
    """

    role: ClassVar[str] = "luks"
    name: str
    key: Source | Sealed
    content: Content
    in_system: bool = False
    recovery: bool = False
    options: tuple[str, ...] = ()

    @property
    def type_guid(self) -> str:
        return LUKS

    @property
    def inner(self) -> Content:
        return self.content

    def mapped(self, change: Callable[[Content], Content]) -> Container:
        return replace(self, content=self.content.mapped(change))

    def plan(self, place: Place) -> PlannedContainer:
        size = place.size - HEADER
        if size <= 0:
            raise DoesNotFit(place.path, f"{mib(place.size)} has no room beside {mib(HEADER)} of a header")
        within = replace(place, device=str(MAPPER / self.name), size=size)
        inner = Device(within.device, size, content=self.content.plan(within))
        # By the device that it is on: of containers of one name the second would be refused.
        uuid = place.identifiers.filesystem(FORMAT, place.device)
        return PlannedContainer(place.device, place.size, uuid, inner, self)


@dataclass(frozen=True)
class Ephemeral(Filesystem):
    """A file system or swap area that the deployed system makes at each start, with another random key."""

    crypt_name: str = ""
    crypt_options: tuple[str, ...] = ()

    @property
    def type_guid(self) -> str:
        return LINUX_DATA  # as one of a swap area it would be used as it is

    def plan(self, place: Place) -> PlannedEphemeral:
        found = super().plan(place)
        return PlannedEphemeral(found.device, found.size, found.type, found.uuid, self)


def encrypted(value: Mapping[str, Any], path: str, content: Content | None, found: list[Defect]) -> Content | None:
    """``content`` encrypted as ``value`` describes it; ``found`` takes the defects."""
    key, name, options = value["key"], value["name"], tuple(value.get("options", ()))
    found += [
        Defect(f"{path}.options[{i}]", f"{x} is not yours to set") for i, x in enumerate(options) if _is_ours(x)
    ]
    if len(_SOURCES & set(key)) != 1:
        found.append(Defect(f"{path}.key", "give one of file, url, tpm2, clevis and random"))
        return content
    if content is None:
        found.append(Defect(path, "there is nothing to encrypt: give it a file_system"))
        return None
    if "random" not in key:
        source = _source(key, f"{path}.key", found)
        if source is None:
            return content
        more = (key.get("in_system", False), value.get("recovery_key", False), options)
        return Container(name, source, content, *more, path=path)
    if type(content) is not Filesystem or content.point not in _AT_EACH_START:
        message = f"what has another key each time is empty each time: only for {', '.join(_AT_EACH_START)}"
        found.append(Defect(f"{path}.key.random", message))
        return content
    for place, given in ((".key.in_system", "in_system" in key), (".recovery_key", value.get("recovery_key", False))):
        found += [Defect(f"{path}{place}", "nobody ever has a random key")] if given else []
    return Ephemeral(**vars(content), crypt_name=name, crypt_options=options)


def _source(key: Mapping[str, Any], path: str, found: list[Defect]) -> Source | Sealed | None:
    """Where a key comes from that is not random; ``found`` takes the defects."""
    urls = [(f"{path}.url", key["url"])] if "url" in key else []
    servers = key.get("clevis", {}).get("tang", ())
    urls += [(f"{path}.clevis.tang[{i}].url", server["url"]) for i, server in enumerate(servers)]
    wrong = [Defect(place, "it is no URL of a server: see its host and port") for place, x in urls if not _is_url(x)]
    threshold = key.get("clevis", {}).get("threshold", 1)
    if servers and threshold > len(servers):
        wrong.append(Defect(f"{path}.clevis.threshold", f"there are only {len(servers)} servers that can answer"))
    if {"tpm2", "clevis"} & set(key) and "in_system" in key:
        wrong.append(Defect(f"{path}.in_system", "nobody has a sealed key: the system gets it when it starts"))
    if never := sorted(_OF_THE_START & set(key.get("tpm2", {}).get("pcrs", ()))):
        listed = ", ".join(map(str, never))
        message = (
            f"PCR {listed}: what started this ramdisk does not start the system, so that it would never open; 7 fits"
        )
        wrong.append(Defect(f"{path}.tpm2.pcrs", message))
    found += wrong
    if wrong:
        return None
    if "tpm2" in key:
        return cryptkey.of_tpm(key["tpm2"]["pcrs"])
    if servers:
        return cryptkey.of_tang([(x["url"], x["thumbprint"]) for x in servers], threshold)
    return KeyFile(key["file"]) if "file" in key else KeyUrl(key["url"])


def _is_url(text: str) -> bool:
    try:
        return bool(urlsplit(text).hostname) and urlsplit(text).port != 0
    except ValueError:
        return False


def _is_ours(option: str) -> bool:
    return option.partition("=")[0] in _OURS
