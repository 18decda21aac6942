# SPDX-License-Identifier: Apache-2.0
"""The document of a deployment: the one that the node's owner gives, or one made of Ironic's own fields.

Pure functions from ``instance_info`` and ``properties`` of a node. Defects have JSON paths: of the document, or,
where a field of Ironic is wrong, ``instance_info.FIELD`` and ``properties.FIELD``.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bareon.callback.parameter import is_of_ironic
from bareon.drivers.data import configdrive as configdrives
from bareon.drivers.data.ironic import Ironic
from bareon.errors import Defect, InvalidInput
from bareon.model.location import Location

Object = dict[str, Any]

ROOT_DISK = "root_device"
"""The name that stands for the root disk until the node has been asked for its disks."""

_ACTIONS = re.compile(r"[A-Za-z0-9_]+(,[A-Za-z0-9_]+)*")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_BY_LENGTH = {32: "md5", 64: "sha256", 128: "sha512"}
_NO_IMAGE = (
    "there is neither instance_info.bareon_provision, nor an argument of the step, nor instance_info.image_source: "
    "give one of them"
)


@dataclass(frozen=True)
class Request:
    """What a node is asked to become.

    ``document`` is what bareon reads; where ``asks_for_root``, its root disk is :data:`ROOT_DISK` still.
    ``configdrive`` is the content of a file (base64 of gzip, as Ironic keeps it) or the URL of one.
    """

    document: Object
    deploy_driver: str
    actions: str | None = None
    configdrive: str | None = None
    asks_for_root: bool = False

    def on(self, device: str) -> Object:
        """The document with the root disk that was found on the node, such as ``/dev/sda``."""
        if not self.asks_for_root:
            return self.document
        found = copy.deepcopy(self.document)
        found["partitions"][0]["id"] = {"type": "name", "value": device}
        return found

    @property
    def configdrive_url(self) -> str | None:
        """The URL of the configdrive, where it is not given itself."""
        given = self.configdrive
        return given if given and re.match("https?://", given) else None


def request(
    instance_info: Mapping[str, Any],
    properties: Mapping[str, Any],
    argument: Object | None = None,
    boot_order: str | None = None,
) -> Request:
    """What a node is asked to become, checked as far as the node need not be asked.

    :param argument: of the deploy step; it comes before ``instance_info``.
    :param boot_order: for a document that names none.
    :raises InvalidInput: with every defect.
    """
    given = instance_info.get("bareon_provision") if argument is None else argument
    made = given is None
    document = _made(instance_info, properties) if given is None else _completed(given, instance_info)
    if boot_order and isinstance(document.get("deploy_data", {}), dict):
        document["deploy_data"] = {"boot_order": boot_order, **document.get("deploy_data", {})}
    drive = _configdrive(instance_info, document)
    check(document)
    _check_ramdisk_params(instance_info)
    return Request(
        document,
        _deploy_driver(instance_info),
        _actions(instance_info),
        drive,
        asks_for_root=made,
    )


def check(document: Object) -> tuple[str, ...]:
    """Have the data driver check a document; what its author should know of.

    :raises InvalidInput: with every defect.
    """
    driver = Ironic()
    driver.parse(json.dumps(document).encode())
    return driver.warnings


def _completed(given: object, instance_info: Mapping[str, Any]) -> Object:
    """A document in which an image without a URL is Ironic's own."""
    if not isinstance(given, dict):
        raise _defect("$", "the document is an object, with the key 'partitions'")
    found = copy.deepcopy(given)
    images = found.get("images")
    for number, image in enumerate(images if isinstance(images, list) else ()):
        if isinstance(image, dict) and "image_pull_url" not in image:
            if not instance_info.get("image_source"):
                message = "the key 'image_pull_url' is missing, and the node has no instance_info.image_source"
                raise _defect(f"$.images[{number}]", message)
            image.update({**_image(instance_info), **image})
    return found


def _made(instance_info: Mapping[str, Any], properties: Mapping[str, Any]) -> Object:
    """A document made of Ironic's own fields: one disk with a root and, where asked for, swap."""
    if not instance_info.get("image_source"):
        raise _defect("$", _NO_IMAGE)
    defects = [*_unknown(instance_info, properties)]
    root = _whole_number(instance_info, "root_gb", defects)
    swap = _whole_number(instance_info, "swap_mb", defects)
    if defects:
        raise InvalidInput(defects)
    volumes: list[Object] = [{"type": "partition", "mount": "swap", "size": f"{swap} MiB"}] if swap else []
    size = f"{root} GiB" if root else "remaining"
    volumes.append({"type": "partition", "mount": "/", "file_system": "ext4", "size": size})
    found: Object = {
        "partitions_policy": "clean",
        "images": [{"name": "image", **_image(instance_info)}],
        "partitions": [{"type": "disk", "id": {"type": "name", "value": ROOT_DISK}, "volumes": volumes}],
    }
    if words := _kernel_params(instance_info):
        found["deploy_data"] = {"kernel_params": words}
    return found


def _unknown(instance_info: Mapping[str, Any], properties: Mapping[str, Any]) -> Iterable[Defect]:
    """Fields that ask for what such a document cannot say: not to be passed over silently."""
    document = "write a document and give it as instance_info.bareon_provision"
    if str(instance_info.get("ephemeral_gb") or 0) != "0":
        yield Defect("instance_info.ephemeral_gb", f"only a document can describe more volumes: {document}")
    for where, holder in (("instance_info", instance_info), ("properties", properties)):
        option = _capabilities(holder).get("boot_option", "local")
        if option != "local":
            yield Defect(
                f"{where}.capabilities", f"boot_option is {option!r}, and bareon makes nodes boot from disks"
            )


def _capabilities(holder: Mapping[str, Any]) -> Mapping[str, str]:
    """Capabilities as Ironic writes them: an object, the same as JSON, or ``name:value,name:value``."""
    given = holder.get("capabilities") or {}
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except RecursionError:
            return {}  # Ironic's to refuse
        except ValueError:
            given = dict(word.strip().partition(":")[::2] for word in given.split(","))
    return given if isinstance(given, dict) else {}


def _whole_number(instance_info: Mapping[str, Any], name: str, defects: list[Defect]) -> int:
    given = instance_info.get(name) or 0
    if isinstance(given, bool) or not re.fullmatch(r"[0-9]{1,12}", str(given)):
        defects.append(Defect(f"instance_info.{name}", "is no whole number"))
        return 0
    return int(given)


def _image(instance_info: Mapping[str, Any]) -> Object:
    """Ironic's image as keys of an image of the document."""
    source = instance_info["image_source"]
    if not isinstance(source, str) or not Location(source).scheme:
        message = "is no URL: of an image in Glance give the URL from which the ramdisk can fetch it"
        raise _defect("instance_info.image_source", message)
    if instance_info.get("image_type") != "partition":
        # Ironic itself takes each image for one of a whole disk that is not said to be another.
        message = (
            "bareon brings file systems and trees, not whole disks: where image_source is one of these, say partition"
        )
        raise _defect("instance_info.image_type", message)
    found: Object = {"image_pull_url": source}
    if source.lower().startswith("glance:"):
        raise _defect(
            "instance_info.image_source", "glance:// is nothing the ramdisk can fetch: give the URL of the image"
        )
    if (form := instance_info.get("image_disk_format")) in ("raw", "qcow2"):
        found["image_disk_format"] = form
    elif form is not None:
        raise _defect("instance_info.image_disk_format", f"{form!r} is none of raw and qcow2")
    return found | _digest(instance_info)


def _digest(instance_info: Mapping[str, Any]) -> Object:
    algorithm, value = (instance_info.get(f"image_os_hash_{part}") for part in ("algo", "value"))
    if algorithm is None and value is None:
        value = instance_info.get("image_checksum")
        if value is None:
            return {}
        algorithm = _BY_LENGTH.get(len(str(value)))
        if algorithm is None or not re.fullmatch("[0-9A-Fa-f]+", str(value)):
            message = "is no digest in hexadecimal of md5, sha256 or sha512; give the digest itself, not its URL"
            raise _defect("instance_info.image_checksum", message)
    return {"image_os_hash_algo": algorithm, "image_os_hash_value": value}


def _kernel_params(instance_info: Mapping[str, Any]) -> str:
    """The instance's kernel parameters, less Ironic's word for those of the conductor's configuration."""
    given = str(instance_info.get("kernel_append_params") or "")
    return " ".join(word for word in given.split(" ") if word and word != "%default%")


def _check_ramdisk_params(instance_info: Mapping[str, Any]) -> None:
    """See that none is for the ramdisk, whose kernel Ironic gives the same: it would trust another API, or none."""
    if is_of_ironic(str(instance_info.get("kernel_append_params") or "")):
        message = "parameters of the ramdisk (ipa-..., bareon-key, boot_method) are Ironic's own to give: remove them"
        raise _defect("instance_info.kernel_append_params", message)


def _configdrive(instance_info: Mapping[str, Any], document: Object) -> str | None:
    """The configdrive as a file or URL; one of documents becomes a part of ``document``.

    :raises InvalidInput: when it is broken, or the document has another. No message quotes it.
    """
    given = instance_info.get("configdrive")
    if given is None or given == "":
        return None
    if "configdrive" in document:
        message = "the node has instance_info.configdrive too, and that is another one: remove either"
        raise _defect("$.configdrive", message)
    if isinstance(given, dict):
        document["configdrive"] = given
        return None
    if not isinstance(given, str):
        raise _defect("instance_info.configdrive", "is neither base64, nor a URL, nor an object")
    if not re.match("[a-z]+://", given):
        configdrives.from_file(given.encode("ascii", "replace"), "instance_info.configdrive")
    elif not re.match("https?://", given):
        raise _defect("instance_info.configdrive", "a URL of a configdrive is one of http or https")
    return given


def _deploy_driver(instance_info: Mapping[str, Any]) -> str:
    """The deploy driver: as asked for, else the one that takes each image for what it is."""
    given = instance_info.get("bareon_deploy_driver")
    if given is None:
        return "auto"
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise _defect("instance_info.bareon_deploy_driver", "is no name of a deploy driver")
    return given


def _actions(instance_info: Mapping[str, Any]) -> str | None:
    given = instance_info.get("bareon_actions")
    if given is None:
        return None
    if isinstance(given, list):
        given = ",".join(map(str, given))
    if not isinstance(given, str) or not _ACTIONS.fullmatch(given):
        raise _defect("instance_info.bareon_actions", "is no list of names of actions, separated by commas")
    if "do_reboot" in given.split(","):
        message = "do_reboot would take the node from Ironic, which restarts it itself: remove it"
        raise _defect("instance_info.bareon_actions", message)
    return given


def _defect(path: str, message: str) -> InvalidInput:
    return InvalidInput([Defect(path, message)])
