# SPDX-License-Identifier: Apache-2.0
"""btrfs as a kind of storage."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bareon import tools
from bareon.errors import CommandError, Defect
from bareon.storage import filesystem, schema
from bareon.storage.btrfs.filesystem import SUBVOLUMES, TYPE, divided
from bareon.storage.btrfs.found import BtrfsFacts, BtrfsSearch
from bareon.storage.btrfs.pool import PoolMember, Pools, pool_defects, pool_schema
from bareon.storage.kind import Content, Fragment, Kind, Look, Read, Reader, Search, Signature
from bareon.storage.schema import Schema

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment

LOG = logging.getLogger(__name__)


class _Btrfs(Kind):
    name = TYPE
    noun = "btrfs"
    section = "btrfs"
    about_section = "btrfs file systems over several devices"
    roles = (PoolMember.role,)
    found = BtrfsFacts

    @property
    def fragments(self) -> tuple[Fragment, ...]:
        return (Fragment("volume", TYPE, (TYPE,), pool_schema()),)

    def keys(self, fragment: str) -> Mapping[str, Any]:
        return {"subvolumes": SUBVOLUMES} if fragment in ("partition", "raid", "lv", TYPE) else {}

    @property
    def plan_schema(self) -> Mapping[str, Schema]:
        return {
            "btrfs": schema.record(
                "A btrfs over several devices of the plan.",
                {
                    "name": schema.string("Its name in the input."),
                    "device": schema.string("A name for all of its devices: a link to one of them."),
                    "level": schema.string("The profile of its data."),
                    "metadata": schema.string("The profile of its metadata."),
                    "members": schema.items("The devices it lies on."),
                    "size": schema.count("What it offers for data and metadata together."),
                    **filesystem.planned_fields(),
                    "decision": schema.DECISION,
                },
            )
        }

    @property
    def facts_schema(self) -> Mapping[str, Schema]:
        return {
            "found_btrfs": schema.record(
                "A btrfs over several devices as it was found.",
                {
                    "uuid": schema.string("Its UUID."),
                    "count": schema.count("The number of its devices."),
                    "members": schema.items("Those that are there."),
                    "alias": schema.string("A name for all of its devices: a link to one of them."),
                    "level": schema.string("The profile of its data; empty where that cannot be read."),
                    "metadata": schema.string("The profile of its metadata; empty where that cannot be read."),
                    "stale": schema.items("Devices that lack what was written last to the others."),
                    "content": schema.CONTENT,
                },
            )
        }

    def readers(self, reader: Reader) -> Mapping[str, Read]:
        return {TYPE: Pools(reader).member}

    def contain(self, value: dict[str, Any], path: str, content: Content | None, reader: Reader) -> Content | None:
        return divided(value, path, content, reader.defects) if "subvolumes" in value else content

    def defects(self, deployment: Deployment) -> Iterator[Defect]:
        yield from pool_defects(deployment)

    def seen(self, device: str, signature: Signature) -> Signature:
        if signature.type != TYPE:
            return signature
        try:
            return replace(signature, subvolumes=tools.btrfs.at_top(device))
        except CommandError as error:
            LOG.info("%s: its subvolumes are not known: %s", device, error)
            return signature

    def search(self, look: Look) -> Search:
        return BtrfsSearch(look)

    def about(self, item: Mapping[str, Any]) -> str:
        return str(item["level"])


KIND = _Btrfs()
