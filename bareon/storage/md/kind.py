# SPDX-License-Identifier: Apache-2.0
"""The one kind of md RAID."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bareon import tools
from bareon.errors import Defect
from bareon.sizes import parse_size
from bareon.storage import filesystem, schema
from bareon.storage.disk import Partition
from bareon.storage.kind import Fragment, Kind, Look, Read, Reader, Search
from bareon.storage.md.found import ArrayFacts
from bareon.storage.md.level import LEVELS
from bareon.storage.md.search import ArraySearch, is_array
from bareon.storage.md.wanted import RAID, Array, Arrays, RaidMember
from bareon.storage.schema import Schema

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment

LONGEST = 31  # characters of host and name in a superblock; of what is longer mdadm leaves out the host, unasked


class _Md(Kind):
    name = "md"
    noun = "array"
    section = "arrays"
    about_section = "md arrays"
    always = True
    roles = (RaidMember.role,)
    lsblk_types = ("linear", *LEVELS)
    found = ArrayFacts

    @property
    def fragments(self) -> tuple[Fragment, ...]:
        return (Fragment("volume", "raid", ("raid",), RAID),)

    @property
    def plan_schema(self) -> Mapping[str, Schema]:
        return {
            "array": schema.record(
                "An md array of the plan.",
                {
                    "name": schema.string("Its device, such as /dev/md/boot."),
                    "level": schema.string("Its RAID level."),
                    "members": schema.items("The partitions it lies on, spares last."),
                    "spares": schema.items("Those of them that stand by for one that fails."),
                    "size": schema.count("What it offers."),
                    "md_uuid": schema.string("The UUID of the array itself."),
                    "metadata": schema.string("The version of its superblocks."),
                    "bitmap": schema.boolean("Whether it has a write-intent bitmap."),
                    "homehost": schema.string("The host that it is for; any for every host."),
                    "volume_group": schema.optional_string("The volume group that it is a physical volume of."),
                    **filesystem.planned_fields(),
                    "decision": schema.DECISION,
                },
            )
        }

    @property
    def facts_schema(self) -> Mapping[str, Schema]:
        return {
            "found_array": schema.record(
                "An md array as it was found.",
                {
                    "alias": schema.string("Its name below /dev/md."),
                    "level": schema.string("Its RAID level."),
                    "members": schema.items("The members that are there."),
                    "size": schema.count("What it offers; null when it is not running.", optional=True),
                    "content": schema.CONTENT,
                },
            )
        }

    def readers(self, reader: Reader) -> Mapping[str, Read]:
        arrays = Arrays(reader.aggregates, reader.defects)

        def read(value: dict[str, Any], path: str) -> Partition:
            return arrays.member(value, path, parse_size(value["size"]), reader.content(value, path))

        return {"raid": read}

    def defects(self, deployment: Deployment) -> Iterator[Defect]:
        first: dict[str, Array] = {}
        arrays = [x for x in deployment.aggregates if isinstance(x, Array)]
        for array in arrays:
            if array.name in first:
                message = f"the array of {first[array.name].path} is already called {array.name!r}"
                yield Defect(f"{array.path}.name", f"{message}: give one another name")
            first.setdefault(array.name, array)
        yield from member_defects(arrays, deployment)

    def search(self, look: Look) -> Search:
        return ArraySearch(look)

    def stop_device(self, device: str) -> bool:
        if not is_array(device):
            return False
        tools.mdadm.stop(device)
        return True

    def about(self, item: Mapping[str, Any]) -> str:
        return str(item["level"])


def member_defects(arrays: Sequence[Array], deployment: Deployment) -> Iterator[Defect]:
    """Too few members, spares that are of no use, or two on one disk."""
    members = [content for content in deployment.contents() if isinstance(content, RaidMember)]
    counts = Counter(member.array for member in members if not member.spare)
    spares = {member.array: member.path for member in members if member.spare}
    for array in arrays:
        count, needed = counts[array.name], LEVELS[array.level].fewest
        if count < needed:
            beside = " beside its spares" if array.name in spares else ""
            yield Defect(array.path, f"{array.level} needs {needed} members or more{beside}, found {count}")
        if array.name in spares and not LEVELS[array.level].redundant:
            message = f"{array.level} is lost with any of its members, so that a spare is of no use"
            yield Defect(f"{spares[array.name]}.spare", message)
        yield from _options(array)
    known = {array.name for array in arrays}
    for disk in deployment.disks:
        first: dict[str, Partition] = {}
        for part in disk.volumes:
            if not isinstance(part.content, RaidMember) or part.content.array not in known:
                continue
            other = first.setdefault(part.content.array, part)
            if other is not part:
                message = f"a second member of array {part.content.array!r} on one disk, beside {other.path}"
                yield Defect(part.path, message)


def _options(array: Array) -> Iterator[Defect]:
    """What its level or its name do not go with."""
    if array.bitmap and not LEVELS[array.level].redundant:
        yield Defect(f"{array.path}.bitmap", f"{array.level} is never out of step, and has no write-intent bitmap")
    if array.metadata == "1.0" and array.level != "raid1":
        message = f"a member of {array.level} has no whole file system that anybody could read: 1.0 is for raid1"
        yield Defect(f"{array.path}.metadata", message)
    if array.homehost and len(f"{array.homehost}:{array.name}") > LONGEST:
        message = (
            f"with the name {array.name!r} and a colon it has more than the {LONGEST} characters of a superblock"
        )
        yield Defect(f"{array.path}.homehost", message)


KIND = _Md()
