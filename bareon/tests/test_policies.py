# SPDX-License-Identifier: Apache-2.0
"""What a plan may destroy, tried against a model of disks on which every region holds guard bytes.

The nodes are drawn at random as trees (:mod:`bareon.tests.forest`): file systems, LUKS and foreign kinds on disks,
partitions, arrays and logical volumes that stand on each other, running or not. The plan's steps are carried out on
the tree, and afterwards every guard that was not named for destruction must still be there.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from bareon.actions.partitioning import Partitioning
from bareon.decide import decide
from bareon.drivers.deploy.rsync import Rsync
from bareon.errors import DisksDiffer, UnsuitableNode
from bareon.layout.build import build
from bareon.layout.stack import disks_below, lost_disks
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.sizes import MIB, Absolute
from bareon.step import Step
from bareon.storage.cryptkey import KeyFile
from bareon.storage.disk import Disk, DiskFacts, DiskId, Partition
from bareon.storage.filesystem import Filesystem, MakeFilesystem
from bareon.storage.gpt import ClearDisk, WriteTable
from bareon.storage.identifier import Identifiers
from bareon.storage.kind import Aggregate, Content
from bareon.storage.luks import CloseContainer, Container, MakeContainer, OpenContainer
from bareon.storage.lvm import ActivateGroup, DeactivateGroup, LogicalVolume, MakeGroup, PhysicalVolume, VolumeGroup
from bareon.storage.md import Array, MakeArray, RaidMember, StartArray, StopArray
from bareon.tests import drawn
from bareon.tests.conftest import Record
from bareon.tests.forest import FIRMWARE, Forest, Thing, grow, kernel_name, render
from bareon.tests.simulation import after

TRIES = drawn.cases(10_000)
SEED = uuid.UUID(int=3)
NOUNS = {"group": "volume group"}


@dataclass
class Counts:
    planned: int = 0
    refused: int = 0
    differing: int = 0
    regions: int = 0
    kept: int = 0
    nested: int = 0


@pytest.fixture
def counts(request: pytest.FixtureRequest, record_property: Record) -> Iterator[Counts]:
    found = Counts()
    yield found
    record_property(
        request.node.name,
        f"{found.planned} plans carried out on the model, {found.refused} refused, {found.differing} differing;"
        f" {found.nested} of nodes that nest;"
        f" {found.regions} guarded regions, {found.kept} of them to be kept, and none of those lost",
    )


class Model:
    """Carries steps out on what the forest says, by construction, to be there. ``lost`` are the names of the devices
    that no longer have their guards.
    """

    def __init__(self, forest: Forest) -> None:
        self.forest = forest
        self.lost: set[str] = set()
        self.gone: set[Thing] = set()
        self.cleared: set[str] = set()
        self.running = {joined.uuid: joined for joined in forest.joined if joined.runs}

    def run(self, step: Step) -> None:
        match step:
            case DeactivateGroup():
                self._stop(step.uuid)
            case CloseContainer():
                self._stop(step.name)
            case StopArray():
                stopped = [x for i, x in enumerate(self.forest.joined) if kernel_name(i) == step.device]
                self._stop(stopped[0].uuid)
            case ClearDisk():
                self._clear(step.device)
            case WriteTable():
                assert step.disk.device in self.cleared, "a table was written over something that was not cleared"
            case MakeFilesystem() if step.filesystem.decision == "format":
                self.lost.add(step.filesystem.device)
            case MakeArray() | MakeGroup() | MakeContainer() | MakeFilesystem():
                pass
            case StartArray() | ActivateGroup() | OpenContainer():
                pass
            case _:
                raise AssertionError(f"unknown step {step}")

    def _stop(self, uuid: str) -> None:
        stopped = self.running.pop(uuid)
        above = [x.name for x in self.forest.above(stopped) if x.uuid in self.running]
        assert not above, f"{stopped.name} was stopped under {above}"

    def _clear(self, disk: str) -> None:
        busy = [joined.name for joined in self.running.values() if disk in joined.disks]
        assert not busy, f"{disk} was cleared below {busy}"
        self.cleared.add(disk)
        self.gone |= {thing for thing in self.forest.things() if disk in thing.disks}


def _random_deployment(dice: random.Random, node: NodeFacts, policy: Any) -> Deployment:
    chosen = dice.sample(node.disks, dice.randint(1, len(node.disks)))
    mirrored, grouped = len(chosen) > 1 and dice.random() < 0.5, dice.random() < 0.5
    disks = []
    for disk in chosen:
        volumes = [
            Partition(Absolute(dice.randint(20, 200) * MIB), _contained(dice, _random_filesystem(dice)))
            for _ in range(dice.randint(0, 3))
        ]
        volumes += [Partition(Absolute(100 * MIB), RaidMember("new"))] if mirrored else []
        volumes += [Partition(Absolute(200 * MIB), _contained(dice, PhysicalVolume("os")))] if grouped else []
        disks.append(Disk(DiskId("name", disk.device), None, tuple(volumes)))
    pools = tuple(LogicalVolume(Absolute(40 * MIB), name="pool", kind="thin-pool") for _ in range(dice.randint(0, 1)))
    room = {"kind": "thin", "pool": "pool"} if pools else {}
    logical = (*pools, LogicalVolume(Absolute(40 * MIB), _random_filesystem(dice), name="root", **room))
    aggregates: list[Aggregate] = [Array("new", content=_random_filesystem(dice))] if mirrored else []
    aggregates += [VolumeGroup("os", logical)] if grouped else []
    return Deployment(policy, tuple(disks), tuple(aggregates))


def _contained(dice: random.Random, content: Content | None) -> Content | None:
    """The content, or a container with it in, of a name that hardly another one has."""
    if content is None or dice.random() < 0.7:
        return content
    return Container(f"new{dice.getrandbits(60)}", KeyFile("/run/key"), content)


def _random_filesystem(dice: random.Random) -> Filesystem | None:
    return dice.choice([None, Filesystem("ext4", keep_data=True), Filesystem("vfat", keep_data=False)])


def _steps(deployment: Deployment, node: NodeFacts) -> tuple[Step, ...]:
    return decide(deployment, node, [Partitioning()], Rsync(), SEED).plan.steps


def test_each_device_lies_on_the_disks_it_was_built_on() -> None:
    for seed in range(TRIES // 2):
        forest = grow(random.Random(seed))
        below = disks_below(render(forest))
        for thing in forest.things():
            assert below[thing.path] == forest.disks_of(thing.path), (seed, thing.path)


def test_clean_destroys_only_what_was_named(counts: Counts) -> None:
    for seed in range(TRIES // 2):
        dice = random.Random(seed)
        forest = grow(dice)
        node = render(forest)
        deployment = _random_deployment(dice, node, "clean")
        named = {disk.id.value for disk in deployment.disks}
        try:
            steps = _steps(deployment, node)
        except UnsuitableNode as error:
            counts.refused += 1
            assert _reason_to_refuse(forest, named, deployment), (seed, error)
            continue
        assert not _reason_to_refuse(forest, named, deployment), seed
        model = Model(forest)
        for step in steps:
            model.run(step)
        counts.planned += 1
        counts.nested += any(forest.above(joined) for joined in forest.joined)
        guarded = set(forest.things())
        kept = {thing for thing in guarded if not thing.disks & named}
        counts.regions += len(guarded)
        counts.kept += len(kept)
        assert guarded - kept == model.gone, seed
        _check_announced(forest, node, steps, named)


def _check_announced(forest: Forest, node: NodeFacts, steps: Sequence[Step], named: set[str]) -> None:
    """See that the steps say what they destroy, and what was on each disk."""
    assert {device for step in steps for device in step.destroys} == named
    for step in steps:
        if isinstance(step, ClearDisk):
            for joined in forest.joined:
                words = f"{NOUNS.get(joined.kind, joined.kind)} {joined.name} "
                lost = [x for x in forest.joined if (x.kind, x.name) == (joined.kind, joined.name)]
                assert (words in step.description) == any(step.device in x.disks for x in lost), words
    for thing in forest.things():
        assert {disk.device for disk in lost_disks(node, [thing.path])} == forest.disks_of(thing.path)


def _reason_to_refuse(forest: Forest, named: set[str], deployment: Deployment) -> bool:
    """The same question, answered by the forest: whether a clean of these disks would harm or is impossible."""
    spanning = any(joined.disks & named and joined.disks - named for joined in forest.joined)
    used = any(thing.users and thing.disks & named for thing in forest.things())
    wanted = {x.name for x in deployment.aggregates if isinstance(x, VolumeGroup)}
    clash = any(x.kind == "group" and x.name in wanted and not x.disks & named for x in forest.joined)
    # Members of firmware RAID do not say of which: there may be one set of each format.
    firmware = [(x.content, x.disks) for x in forest.parts() if x.content in FIRMWARE]
    pairs = [(mine, theirs) for one, mine in firmware for other, theirs in firmware if one == other]
    torn = any(mine & named and not theirs & named for mine, theirs in pairs)
    return spanning or used or clash or torn


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
        model = Model(Forest())
        for step in steps:
            model.run(step)
        counts.planned += 1
        layout = build(deployment, node, Identifiers(SEED))
        given_up = {fs.device for fs in layout.filesystems() if not fs.wanted.keep_data}
        counts.regions += len(_devices(found))
        counts.kept += len(_devices(found) - given_up)
        assert model.lost == given_up, seed
        assert {device for step in steps for device in step.destroys} == given_up, seed


def _devices(node: NodeFacts) -> set[str]:
    found = {disk.device for disk in node.disks} | {part.device for disk in node.disks for part in disk.partitions}
    return found | {device for structure in node.structures for device, _ in structure.offers}


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
