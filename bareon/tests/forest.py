# SPDX-License-Identifier: Apache-2.0
"""What stands on what, as trees of things built at random, for tests of what a plan may destroy.

A thing knows by construction what it stands on and on which disks it lies in the end; nothing of the code under test
is asked. :func:`render` alone knows how a node's facts say it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bareon.model.node import NodeFacts
from bareon.sizes import MIB
from bareon.storage.disk import DiskFacts, PartitionFacts
from bareon.storage.kind import UNKNOWN, Signature
from bareon.storage.luks import ContainerFacts
from bareon.storage.lvm import LogicalVolumeFacts
from bareon.storage.lvm import VolumeGroupFacts as GroupFacts
from bareon.storage.md import ArrayFacts

_CONTENTS = ("ext4", "xfs", "swap", "vfat", "LVM2_member", "linux_raid_member", None, None)
FIRMWARE = ("ddf_raid_member", "isw_raid_member")
_FOREIGN = ("bcache", "zfs_member", *FIRMWARE, "crypto_LUKS")  # LUKS: closed


@dataclass(eq=False)
class Thing:
    """A device with guard bytes of its own. ``path`` is its name among members, ``disks`` are those it lies on.

    ``present`` says that there is a device now: an array that runs, a logical volume that is active. ``pool`` is the
    path of the thin pool that it takes its room of; what is its own pool is that pool, and has no device.
    """

    path: str
    disks: frozenset[str]
    below: tuple[Thing, ...] = ()
    present: bool = True
    content: str | None = None
    users: list[str] = field(default_factory=list)
    pool: str = ""

    def use(self, words: str) -> None:
        """Have somebody use it: that is a use of all below it too."""
        for thing in self.below:
            thing.use(f"{words} as {self.path}")
        self.users.append(words)


@dataclass(eq=False)
class Joined:
    """An array or a container, which offers one device, or a volume group, which offers any number."""

    kind: str
    name: str
    uuid: str
    members: tuple[Thing, ...]
    offers: tuple[Thing, ...]

    @property
    def disks(self) -> frozenset[str]:
        """The disks that it lies on."""
        return frozenset().union(*(member.disks for member in self.members))

    @property
    def runs(self) -> bool:
        """Whether it holds its members now."""
        return any(thing.present for thing in self.offers)


@dataclass
class Forest:
    """Disks and their partitions, and what is joined of them."""

    disks: list[Thing] = field(default_factory=list)
    tables: dict[str, tuple[str, list[Thing]]] = field(default_factory=dict)
    joined: list[Joined] = field(default_factory=list)

    def parts(self) -> Iterator[Thing]:
        """Disks and partitions."""
        yield from self.disks
        for _, parts in self.tables.values():
            yield from parts

    def things(self) -> Iterator[Thing]:
        """Whatever can hold data, at every level."""
        yield from self.parts()
        for joined in self.joined:
            yield from joined.offers

    def disks_of(self, path: str) -> set[str]:
        """The disks below all things of that name."""
        return {disk for thing in self.things() if thing.path == path for disk in thing.disks}

    def above(self, joined: Joined) -> list[Joined]:
        """What stands directly on a thing that is joined."""
        return [other for other in self.joined if set(other.members) & set(joined.offers)]


def grow(dice: random.Random) -> Forest:
    """A random forest: up to four disks, and up to four things joined of what is free, on any level."""
    forest = Forest()
    free: list[Thing] = []
    for letter in "abcd"[: dice.randint(1, 4)]:
        free += _disk(dice, forest, f"/dev/vd{letter}")
    for number in range(dice.randint(0, 4)):
        kind = dice.choice(["array", "group", "container"])
        # LVM takes no logical volumes as members.
        fit = [thing for thing in free if kind != "group" or not _is_volume(forest, thing)]
        # Most things lie on few disks, or hardly a plan would not be refused.
        near = set(dice.sample([disk.path for disk in forest.disks], dice.choice([1, min(2, len(forest.disks))])))
        fit = [thing for thing in fit if thing.disks <= near]
        if fit:
            # What is high is taken gladly, or it would seldom be nested.
            top = sorted(fit, key=lambda thing: (-_height(thing), dice.random()))
            members = tuple(top[: 1 if kind == "container" else dice.randint(1, 3)])
            free = [thing for thing in free if thing not in members]
            free += _JOINING[kind](forest, dice, number, members)
    for thing in free:
        _fill(dice, thing)
    dice.shuffle(forest.joined)  # mdadm and LVM tell of them in an order of their own
    return forest


def _height(thing: Thing) -> int:
    return 1 + max(map(_height, thing.below), default=0)


def _is_volume(forest: Forest, thing: Thing) -> bool:
    return any(thing in joined.offers for joined in forest.joined if joined.kind == "group")


def _disk(dice: random.Random, forest: Forest, path: str) -> list[Thing]:
    """A disk more; what is returned is free to be built upon."""
    disk = Thing(path, frozenset({path}))
    forest.disks.append(disk)
    kind = dice.choice(["empty", "whole", "gpt", "gpt", "gpt", "dos"])
    if dice.random() < 0.03:
        disk.use("mounted at /x")
    if kind in ("gpt", "dos"):
        parts = [Thing(f"{path}{number}", disk.disks) for number in range(1, dice.randint(1, 5))]
        forest.tables[path] = (kind, parts)
        return parts
    return [disk] if kind == "whole" else []


def _array(forest: Forest, dice: random.Random, number: int, members: tuple[Thing, ...]) -> list[Thing]:
    # Two arrays may have one name: then the UUID of the second stands for it.
    taken = {joined.name for joined in forest.joined if joined.kind == "array"}
    name = dice.choice(["a", f"a{number}"])
    device = _offered(dice, f"/dev/md/u{number}" if name in taken else f"/dev/md/{name}", members)
    forest.joined.append(Joined("array", name, f"u{number}", members, (device,)))
    return [device]


def _group(forest: Forest, dice: random.Random, number: int, members: tuple[Thing, ...]) -> list[Thing]:
    """A volume group more. Two may have one name, and so may their volumes: nothing can be built upon those."""
    taken = {joined.name for joined in forest.joined if joined.kind == "group"}
    name = dice.choice(["same", f"g{number}", f"g{number}"] + ([] if "os" in taken else ["os"]))
    volumes = tuple(_offered(dice, f"/dev/{name}/v{i}", members) for i in range(dice.randint(0, 3)))
    pools = _in_pool(dice, volumes, f"/dev/{name}/pool") if dice.random() < 0.4 else []
    forest.joined.append(Joined("group", name, f"uuid{number}", members, (*volumes, *pools)))
    for volume in volumes if name == "same" else ():
        volume.content = "ext4"
    return [] if name == "same" else [x for x in volumes if x.content != UNKNOWN.type]


def _in_pool(dice: random.Random, volumes: Sequence[Thing], path: str) -> list[Thing]:
    """Put volumes into a thin pool of that path, if there are any. It may be one that nobody can look into."""
    hidden = dice.random() < 0.3
    for volume in volumes:
        volume.pool = path
        if hidden and not volume.present:
            volume.content = UNKNOWN.type
    return [Thing(path, x.disks, x.below, any(v.present for v in volumes), pool=path) for x in volumes[:1]]


def _container(forest: Forest, dice: random.Random, number: int, members: tuple[Thing, ...]) -> list[Thing]:
    """A container more. On one that is closed nothing can be built: nobody knows what is in it."""
    device = _offered(dice, f"/dev/mapper/c{number}", members)
    forest.joined.append(Joined("container", f"c{number}", f"c{number}", members, (device,)))
    if not device.present:
        device.content = UNKNOWN.type
    return [device] if device.present else []


_JOINING = {"array": _array, "group": _group, "container": _container}


def _offered(dice: random.Random, path: str, members: Sequence[Thing]) -> Thing:
    disks = frozenset().union(*(member.disks for member in members))
    present = all(member.present for member in members) and dice.random() < 0.7
    return Thing(path, disks, tuple(members), present)


def _fill(dice: random.Random, thing: Thing) -> None:
    """Give something that nothing was built upon a content."""
    chance = dice.random()
    if chance < 0.04 and thing.present:
        thing.content = "crypto_LUKS"
        thing.use("held by /dev/mapper/x (crypt)")
    elif chance < 0.07 and thing.present:
        thing.content = "swap"
        thing.use("used as swap")
    elif chance < 0.25:
        thing.content = dice.choice(_FOREIGN)
    else:
        thing.content = dice.choice(_CONTENTS)


def render(forest: Forest) -> NodeFacts:
    """The facts of a node on which the forest stands."""
    signatures = {"array": "linux_raid_member", "group": "LVM2_member", "container": "crypto_LUKS"}
    for joined in forest.joined:
        for member in joined.members:
            member.content = signatures[joined.kind]
    return NodeFacts(
        "bios",
        tuple(_disk_facts(forest, disk) for disk in forest.disks),
        (
            *(_array_facts(i, x) for i, x in enumerate(forest.joined) if x.kind == "array"),
            *(_group_facts(x) for x in forest.joined if x.kind == "group"),
            *(_container_facts(x) for x in forest.joined if x.kind == "container"),
        ),
    )


def kernel_name(number: int) -> str:
    """The device of the running array at that place among what is joined."""
    return f"/dev/md{127 - number}"


def _content(thing: Thing) -> Signature | None:
    return Signature(thing.content) if thing.content else None


def _disk_facts(forest: Forest, disk: Thing) -> DiskFacts:
    table, parts = forest.tables.get(disk.path, (None, []))
    return DiskFacts(
        disk.path,
        4096 * MIB,
        table=table,
        content=_content(disk),
        partitions=tuple(
            PartitionFacts(
                i + 1, x.path, (1 + 300 * i) * MIB, 300 * MIB, "X", None, None, _content(x), tuple(x.users)
            )
            for i, x in enumerate(parts)
        ),
        users=tuple(disk.users),
    )


def _array_facts(number: int, array: Joined) -> ArrayFacts:
    (thing,) = array.offers
    members = tuple(sorted(member.path for member in array.members))
    device = kernel_name(number) if thing.present else None
    return ArrayFacts(
        array.name, array.uuid, "raid1", len(members), members, thing.path, device, 299 * MIB, _content(thing)
    )


def _container_facts(container: Joined) -> ContainerFacts:
    (thing,), (member,) = container.offers, container.members
    device = f"/dev/dm-{container.name[1:]}" if thing.present else None
    return ContainerFacts(
        *(container.name, "luks2", (member.path,), thing.path, container.uuid, container.name),
        device=device,
        content=_content(thing),
    )


def _group_facts(group: Joined) -> GroupFacts:
    return GroupFacts(
        group.name,
        group.uuid,
        299 * MIB,
        4 * MIB,
        tuple(sorted(member.path for member in group.members)),
        volumes=tuple(
            LogicalVolumeFacts(
                *(x.path.rpartition("/")[2], x.path, 100 * MIB, x.present, _content(x)),
                layout="linear" if not x.pool else "thin,pool" if x.pool == x.path else "thin,sparse",
                pool=x.pool.rpartition("/")[2] if x.pool != x.path else "",
            )
            for x in group.offers
        ),
    )
