# SPDX-License-Identifier: Apache-2.0
"""What a plan may destroy, tried against a model of disks on which every region holds guard bytes.

The nodes are drawn at random: empty disks, file systems on whole disks, GPT and MBR tables, arrays and volume groups
over partitions of several disks, disks in use. The plan's steps are carried out on the model, and afterwards every
guard that was not named for destruction must still be there.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from bareon.actions.partitioning import ClearDisk, MakeFilesystem, Partitioning, WriteTable
from bareon.actions.stack import ActivateGroup, DeactivateGroup, MakeArray, MakeGroup, StartArray, StopArray
from bareon.cmd.decide import decide
from bareon.drivers.deploy.rsync import Rsync
from bareon.errors import DisksDiffer, UnsuitableNode
from bareon.facts.node import ArrayFacts, Content, DiskFacts, LogicalVolumeFacts, NodeFacts, PartitionFacts
from bareon.facts.node import VolumeGroupFacts as Group
from bareon.layout.build import build
from bareon.layout.identifier import Identifiers
from bareon.layout.teardown import disks_below
from bareon.model.deployment import Deployment
from bareon.model.disk import Disk, DiskId, Partition, PhysicalVolume, RaidMember, Volume
from bareon.model.filesystem import Filesystem
from bareon.model.lvm import LogicalVolume, VolumeGroup
from bareon.model.raid import Array
from bareon.plan.step import Step
from bareon.sizes import MIB, Absolute
from bareon.tests.conftest import Record
from bareon.tests.simulation import after

TRIES = 10_000
SEED = uuid.UUID(int=3)


@dataclass
class Counts:
    planned: int = 0
    refused: int = 0
    differing: int = 0
    regions: int = 0
    kept: int = 0


@pytest.fixture
def counts(request: pytest.FixtureRequest, record_property: Record) -> Iterator[Counts]:
    found = Counts()
    yield found
    record_property(
        request.node.name,
        f"{found.planned} plans carried out on the model, {found.refused} refused, {found.differing} differing;"
        f" {found.regions} guarded regions, {found.kept} of them to be kept, and none of those lost",
    )


def _guards(node: NodeFacts) -> set[str]:
    """The devices that hold guard bytes: whatever can hold data, at every level."""
    found = {disk.device for disk in node.disks} | {part.device for disk in node.disks for part in disk.partitions}
    found |= {f"/dev/md/{array.name}" for array in node.arrays}
    return found | {volume.device for group in node.volume_groups for volume in group.volumes}


class Model:
    """Carries steps out. ``lost`` are the devices whose guards are gone."""

    def __init__(self, node: NodeFacts) -> None:
        self.node = node
        self.below = disks_below(node)
        self.lost: set[str] = set()
        self.running = {f"/dev/md/{array.name}" for array in node.arrays if array.device}
        self.running |= {group.uuid for group in node.volume_groups if any(x.active for x in group.volumes)}

    def run(self, step: Step) -> None:
        match step:
            case DeactivateGroup():
                self.running.remove(step.uuid)
            case StopArray():
                self.running.remove(f"/dev/md/{step.name}")
            case ClearDisk():
                self._clear(step.device)
            case WriteTable():
                assert step.disk.device in self.lost, "a table was written over something that was not cleared"
            case MakeFilesystem() if step.filesystem.decision == "format":
                self.lost.add(step.filesystem.device)
            case MakeArray() | MakeGroup() | MakeFilesystem() | StartArray() | ActivateGroup():
                pass
            case _:
                raise AssertionError(f"unknown step {step}")

    def _clear(self, disk: str) -> None:
        for group in self.node.volume_groups:
            if any(disk in self.below[member] for member in group.members):
                assert group.uuid not in self.running, "a disk below an active volume group was cleared"
        for array in self.node.arrays:
            if disk in self.below[array.alias]:
                assert f"/dev/md/{array.name}" not in self.running, "a disk below a running array was cleared"
        self.lost |= {device for device in _guards(self.node) if disk in self.below[device]}


def _random_node(dice: random.Random) -> NodeFacts:
    disks: list[DiskFacts] = []
    members: dict[str, list[str]] = {"LVM2_member": [], "linux_raid_member": []}
    for letter in "abcd"[: dice.randint(1, 4)]:
        device = f"/dev/vd{letter}"
        size = dice.choice([2048, 4096, 8192]) * MIB
        users = ("mounted at /x",) if dice.random() < 0.05 else ()
        kind = dice.choice(["empty", "whole", "gpt", "gpt", "gpt", "dos"])
        content = Content(dice.choice(["ext4", "xfs", "LVM2_member"])) if kind == "whole" else None
        if content and content.type in members:
            members[content.type].append(device)
        parts: list[PartitionFacts] = []
        if kind in ("gpt", "dos"):
            start = MIB
            for number in range(1, dice.randint(1, 4)):
                signature = dice.choice(["ext4", "swap", "LVM2_member", "linux_raid_member", None])
                part = PartitionFacts(number, f"{device}{number}", start, 300 * MIB, "X",
                                      content=Content(signature) if signature else None,
                                      users=("used as swap",) if dice.random() < 0.03 else ())  # fmt: skip
                parts.append(part)
                start += 300 * MIB
                if signature in members:
                    members[signature].append(part.device)
        table = kind if kind in ("gpt", "dos") else None
        disks.append(DiskFacts(device, size, table=table, content=content, partitions=tuple(parts), users=users))
    arrays = tuple(_random_arrays(dice, members["linux_raid_member"]))
    for array in arrays:
        if array.content:
            members["LVM2_member"].append(f"/dev/md/{array.name}")
    return NodeFacts("bios", tuple(disks), arrays, tuple(_random_groups(dice, members["LVM2_member"])))


def _shared(dice: random.Random, devices: list[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The devices dealt out to a few owners."""
    owners = {device: dice.randint(0, 2) for device in devices}
    for owner in sorted(set(owners.values())):
        yield owner, tuple(sorted(device for device in devices if owners[device] == owner))


def _random_arrays(dice: random.Random, devices: list[str]) -> Iterator[ArrayFacts]:
    for owner, members in _shared(dice, devices):
        running = f"/dev/md{127 - owner}" if dice.random() < 0.5 else None
        content = Content("LVM2_member") if dice.random() < 0.3 else None
        alias = f"/dev/md/a{owner}"
        yield ArrayFacts(f"a{owner}", f"u{owner}", "raid1", len(members), members, alias, running, 299 * MIB, content)


def _random_groups(dice: random.Random, devices: list[str]) -> Iterator[Group]:
    for owner, members in _shared(dice, devices):
        name = dice.choice(["os", "same", f"g{owner}"])  # names need not be unique on a node
        active = dice.random() < 0.5
        volumes = tuple(
            LogicalVolumeFacts(f"v{i}", f"/dev/{name}-{owner}/v{i}", 100 * MIB, active)
            for i in range(dice.randint(0, 2))
        )
        yield Group(name, f"uuid{owner}", 299 * MIB, 4 * MIB, members, volumes=volumes)


def _random_deployment(dice: random.Random, node: NodeFacts, policy: Any) -> Deployment:
    chosen = dice.sample(node.disks, dice.randint(1, len(node.disks)))
    mirrored, grouped = len(chosen) > 1 and dice.random() < 0.5, dice.random() < 0.5
    disks = []
    for disk in chosen:
        volumes: list[Volume] = [
            Partition(Absolute(dice.randint(20, 200) * MIB), _random_filesystem(dice))
            for _ in range(dice.randint(0, 3))
        ]
        volumes += [RaidMember(Absolute(100 * MIB), "new")] if mirrored else []
        volumes += [PhysicalVolume(Absolute(200 * MIB), "os")] if grouped else []
        disks.append(Disk(DiskId("name", disk.device), None, tuple(volumes)))
    logical = (LogicalVolume("root", Absolute(80 * MIB), _random_filesystem(dice)),)
    return Deployment(
        policy,
        tuple(disks),
        (Array("new", filesystem=_random_filesystem(dice)),) if mirrored else (),
        (VolumeGroup("os", logical),) if grouped else (),
    )


def _random_filesystem(dice: random.Random) -> Filesystem | None:
    return dice.choice([None, Filesystem("ext4", keep_data=True), Filesystem("vfat", keep_data=False)])


def _steps(deployment: Deployment, node: NodeFacts) -> tuple[Step, ...]:
    return decide(deployment, node, [Partitioning()], Rsync(), SEED).plan.steps


def test_clean_destroys_only_what_was_named(counts: Counts) -> None:
    for seed in range(TRIES // 2):
        dice = random.Random(seed)
        node = _random_node(dice)
        deployment = _random_deployment(dice, node, "clean")
        named = {disk.id.value for disk in deployment.disks}
        below = disks_below(node)
        try:
            steps = _steps(deployment, node)
        except UnsuitableNode as error:
            counts.refused += 1
            assert _reason_to_refuse(node, named, deployment), error
            continue
        assert not _reason_to_refuse(node, named, deployment), seed
        model = Model(node)
        for step in steps:
            model.run(step)
        counts.planned += 1
        guards = _guards(node)
        kept = {device for device in guards if not below[device] & named}
        counts.regions += len(guards)
        counts.kept += len(kept)
        assert not kept & model.lost, seed
        announced = {device for step in steps for device in step.destroys}
        assert announced == named, seed


def _reason_to_refuse(node: NodeFacts, named: set[str], deployment: Deployment) -> bool:
    """The same question, answered by another route: whether a clean of these disks would harm or is impossible."""
    below = disks_below(node)
    stacks = [below[array.alias] for array in node.arrays]
    stacks += [set().union(*(below[member] for member in group.members)) for group in node.volume_groups]
    spanning = any(stack & named and stack - named for stack in stacks)
    used = any(disk.device in named and disk.in_use() for disk in node.disks)
    wanted = {group.name for group in deployment.volume_groups}
    clash = any(
        group.name in wanted and not any(below[member] & named for member in group.members)
        for group in node.volume_groups
    )
    return spanning or used or clash


def test_verify_writes_only_where_data_is_not_to_be_kept(counts: Counts) -> None:
    for seed in range(TRIES // 2):
        dice = random.Random(-seed - 1)
        node = NodeFacts("bios", tuple(DiskFacts(f"/dev/vd{x}", 2048 * MIB) for x in "abc"[: dice.randint(1, 3)]))
        deployment = _random_deployment(dice, node, "verify")
        found = after(build(deployment, node, Identifiers(SEED)), node)
        changed = dice.random() < 0.4
        if changed:
            found = _changed(dice, found, {disk.id.value for disk in deployment.disks})
        try:
            steps = _steps(deployment, found)
        except DisksDiffer:
            counts.differing += 1
            assert changed, seed
            continue
        assert not changed, seed
        model = Model(found)
        for step in steps:
            model.run(step)
        counts.planned += 1
        layout = build(deployment, node, Identifiers(SEED))
        given_up = {fs.device for fs in layout.filesystems() if not fs.wanted.keep_data}
        counts.regions += len(_guards(found))
        counts.kept += len(_guards(found) - given_up)
        assert model.lost == given_up, seed
        assert {device for step in steps for device in step.destroys} == given_up, seed


def _changed(dice: random.Random, node: NodeFacts, named: set[str]) -> NodeFacts:
    """The node with one thing on a disk of the schema not as it was asked for."""
    which = dice.choice([i for i, disk in enumerate(node.disks) if disk.device in named])
    disk = node.disks[which]
    last = disk.partitions[-1]
    other = dice.choice(
        [
            replace(disk, table="dos"),
            replace(disk, table=None, partitions=()),
            replace(disk, partitions=disk.partitions[:-1]),
            replace(disk, partitions=(*disk.partitions, replace(last, number=last.number + 1, start=last.end))),
            replace(disk, partitions=(*disk.partitions[:-1], replace(last, start=last.start - 2 * MIB))),
            replace(disk, partitions=(*disk.partitions[:-1], replace(last, size=last.size + 2 * MIB))),
            replace(disk, partitions=(*disk.partitions[:-1], replace(last, type="0" * 36))),
        ]
    )
    return replace(node, disks=(*node.disks[:which], other, *node.disks[which + 1 :]))
