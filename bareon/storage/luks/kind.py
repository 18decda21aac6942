# SPDX-License-Identifier: Apache-2.0
"""The one kind of encrypted containers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bareon import tools
from bareon.errors import Defect
from bareon.storage import filesystem, schema
from bareon.storage.cryptkey import Sealed
from bareon.storage.filesystem import Filesystem
from bareon.storage.kind import Content, Kind, Look, Reader, Search
from bareon.storage.luks.found import ContainerFacts
from bareon.storage.luks.mapper import attribute, format_of
from bareon.storage.luks.search import ContainerSearch
from bareon.storage.luks.wanted import ENCRYPTION, Container, Ephemeral, encrypted
from bareon.storage.schema import Schema

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment


class _Luks(Kind):
    name = "luks"
    noun = "container"
    section = "encrypted"
    about_section = "encrypted containers"
    roles = (Container.role,)
    lsblk_types = ("crypt",)
    found = ContainerFacts

    @property
    def plan_schema(self) -> Mapping[str, Schema]:
        return {
            "container": schema.record(
                "An encrypted container of the plan. No key is in it.",
                {
                    "name": schema.string("The device that it opens into, such as /dev/mapper/root."),
                    "format": schema.string("luks2."),
                    "members": schema.items("The device it lies on."),
                    "size": schema.count("What it offers."),
                    "luks_uuid": schema.string("The UUID of its header."),
                    "key": schema.string("Where its key comes from: file, url, tpm2 or clevis."),
                    "in_system": {"description": "Whether the deployed system has the key.", "type": "boolean"},
                    "recovery_key": {"description": "Whether a recovery key is made.", "type": "boolean"},
                    "volume_group": schema.optional_string("The volume group that it is a physical volume of."),
                    **filesystem.planned_fields(),
                    "decision": schema.DECISION,
                },
            )
        }

    @property
    def facts_schema(self) -> Mapping[str, Schema]:
        return {
            "found_container": schema.record(
                "An encrypted container as it was found.",
                {
                    "alias": schema.string("Its name below /dev/mapper, open or not."),
                    "format": schema.string("luks1, luks2, plain or another."),
                    "members": schema.items("The device that it lies on."),
                    "size": schema.count("What it offers; null while it is closed.", optional=True),
                    "content": schema.CONTENT,
                },
            )
        }

    def keys(self, fragment: str) -> Mapping[str, Any]:
        return {"encryption": ENCRYPTION} if fragment in ("partition", "raid", "pv", "lv") else {}

    def contain(self, value: dict[str, Any], path: str, content: Content | None, reader: Reader) -> Content | None:
        if "encryption" not in value:
            return content
        found = encrypted(value["encryption"], f"{path}.encryption", content, reader.defects)
        if isinstance(found, Container) and isinstance(found.key, Sealed) and not found.recovery:
            reader.warnings.append(
                f"{found.path}: nothing else opens {found.name} where {found.key} is lost: see recovery_key"
            )
        return found

    def defects(self, deployment: Deployment) -> Iterator[Defect]:
        first = dict(_logical(deployment))
        for name, path in _named(deployment):
            if name in first:
                yield Defect(f"{path}.encryption.name", f"{name!r} is already the name of what {first[name]} opens")
            first.setdefault(name, path)
        yield from _inside(deployment)
        for fs in (x for x in deployment.filesystems() if isinstance(x, Ephemeral)):
            for image in deployment.images:
                if image.target == fs.point and image.system in fs.images:
                    message = f"{fs.point} is empty whenever the system starts: no image can be brought there"
                    yield Defect(f"{image.path}.target", message)

    def search(self, look: Look) -> Search:
        return ContainerSearch(look)

    def stop_device(self, device: str) -> bool:
        name = Path(device).name
        if format_of(name) is None:
            return False
        tools.cryptsetup.close(attribute(name, "name"))
        return True

    def about(self, item: Mapping[str, Any]) -> str:
        return str(item["format"])


def _logical(deployment: Deployment) -> Iterator[tuple[str, str]]:
    """The names that logical volumes have below /dev/mapper, each with the path of the volume."""
    for aggregate in deployment.aggregates:
        for volume in getattr(aggregate, "volumes", ()):
            device = tools.lvm.mapper_device(f"/dev/{aggregate.name}/{volume.name}")
            yield Path(device).name, volume.path


def _named(deployment: Deployment) -> Iterator[tuple[str, str]]:
    """The names of what is opened, each with the path of the volume."""
    for content in deployment.contents():
        if isinstance(content, Container):
            yield content.name, content.path.removesuffix(".encryption")
        elif isinstance(content, Ephemeral):
            yield content.crypt_name, content.path


def _inside(deployment: Deployment) -> Iterator[Defect]:
    """Defects of what lies in containers, by way of whatever is between: other containers, and what GRUB reads."""
    tops = [volume.content for disk in deployment.disks for volume in disk.volumes if volume.content]
    within = [x for top in tops for x in _nested(top)]
    offered = {aggregate.key: aggregate.contents for aggregate in deployment.aggregates}
    tops += [x for contents in offered.values() for x in contents]
    within += [x for contents in offered.values() for content in contents for x in _nested(content)]
    seen: set[int] = set()
    booted = deployment.booted()
    while within:
        content = within.pop(0)
        if id(content) in seen:
            continue
        seen.add(id(content))
        if isinstance(content, Container):
            yield Defect(content.path, "it lies in another encrypted container already")
        if isinstance(content, Filesystem):
            for mount in content.mounts:
                if images := sorted(name for name in mount.images if (name, mount.point) in booted):
                    yield Defect(f"{content.path}.mount", _FOR_GRUB.format(", ".join(map(repr, images))))
        if content.joins in offered:
            within += [x for held in offered[content.joins] for x in held.nested()]


_FOR_GRUB = (
    "GRUB reads /boot of image {} from here, and cannot open LUKS2 as cryptsetup makes it: give /boot a volume of its"
    " own outside of any container"
)


def _nested(content: Content) -> Iterable[Content]:
    """What is contained in a content, if that is a container."""
    return list(content.nested())[1:] if isinstance(content, Container) else ()


KIND = _Luks()
