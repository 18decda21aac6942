# SPDX-License-Identifier: Apache-2.0
"""What must hold of every layout, tried on generated ones."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bareon.errors import UnsuitableNode
from bareon.layout.build import build, declared_defects
from bareon.layout.compare import adopt
from bareon.model.deployment import Deployment
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts
from bareon.sizes import MIB, Absolute, Relative, Remaining, Size
from bareon.storage.disk import Disk, DiskFacts, DiskId, Partition, PlannedDisk
from bareon.storage.filesystem import Filesystem
from bareon.storage.identifier import Identifiers
from bareon.storage.kind import Firmware, Reservation, Volume
from bareon.storage.lvm import EXTENT, LogicalVolume, PhysicalVolume, PlannedGroup, VolumeGroup
from bareon.storage.md import Array, RaidMember
from bareon.tests import drawn
from bareon.tests.conftest import Record
from bareon.tests.simulation import after

TRIES = drawn.cases(10_000)
SEED = Identifiers(uuid.UUID(int=7))
CONFIGDRIVE = Reservation("configdrive", (64 * MIB, 64 * MIB), at_end=True)
tried = {"laid out": 0, "refused": 0}


@pytest.fixture(autouse=True)
def _count(request: pytest.FixtureRequest, record_property: Record) -> Iterator[None]:
    before = dict(tried)
    yield
    if (counts := {name: number - before[name] for name, number in tried.items()}) and any(counts.values()):
        record_property(
            f"layouts of {request.node.name}", f"{counts['laid out']} laid out, {counts['refused']} refused"
        )


@dataclass(frozen=True)
class Situation:
    deployment: Deployment
    node: NodeFacts


sizes: st.SearchStrategy[Size] = st.one_of(
    st.integers(1, 300 * MIB).map(Absolute),
    st.integers(1, 200).map(lambda n: Absolute(n * MIB)),
    st.integers(1, 250).map(lambda n: Relative(Fraction(n, 1000))),
)
filesystems = st.one_of(
    st.none(), st.builds(Filesystem, st.sampled_from(["ext2", "ext4", "vfat", "swap"]), keep_data=st.booleans())
)


def _open_one(volumes: Sequence[Size], which: int | None) -> list[Size]:
    """The sizes, with one of them turned into what is remaining."""
    return [Remaining() if i == which else size for i, size in enumerate(volumes)]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    groups = ["one", "two"][: draw(st.integers(0, 2))]
    mirrored = draw(st.booleans())
    disks, reals, members = [], [], set()
    for number in range(draw(st.integers(1, 3))):
        wanted = draw(st.lists(sizes, max_size=5))
        which = draw(st.one_of(st.none(), st.integers(0, 4)))
        volumes: list[Partition] = []
        for size in _open_one(wanted, which):
            if groups and draw(st.booleans()):
                group = draw(st.sampled_from(groups))
                members.add(group)
                metadata = draw(st.sampled_from([None, 10 * MIB, 64 * MIB]))
                volumes.append(Partition(size, PhysicalVolume(group, metadata)))
            else:
                volumes.append(Partition(size, draw(filesystems)))
        if mirrored:
            volumes.append(Partition(Absolute(draw(st.integers(8, 200)) * MIB), RaidMember("mirror")))
        real = draw(st.integers(300, 6000)) * MIB + draw(st.sampled_from([0, 512 * 1024, 4096]))
        declared = draw(st.one_of(st.none(), st.integers(200, 6000).map(lambda n: n * MIB)))
        sector = draw(st.sampled_from([512, 4096]))
        name = f"/dev/vd{'abc'[number]}"
        room = (CONFIGDRIVE,) if draw(st.booleans()) else ()
        disks.append(Disk(DiskId("name", name), declared, tuple(volumes), f"disk{number}", reservations=room))
        reals.append(DiskFacts(name, real, logical_sector=sector))
    bound = draw(st.booleans())
    vgs = []
    for group in sorted(members):
        wanted = _open_one(draw(st.lists(sizes, max_size=4)), draw(st.one_of(st.none(), st.integers(0, 3))))
        volumes_ = [LogicalVolume(size, draw(filesystems), name=f"v{i}") for i, size in enumerate(wanted)]
        vgs.append(VolumeGroup(group, tuple(volumes_)))
    arrays = (Array("mirror"),) if mirrored and len(disks) > 1 else ()
    if mirrored and not arrays:
        disks = [replace(disk, volumes=disk.volumes[:-1]) for disk in disks]
    firmware: Firmware = draw(st.sampled_from(["bios", "uefi"]))
    deployment = Deployment("clean", tuple(disks), (*arrays, *vgs))
    if bound:
        owners = st.sampled_from([("a",), ("b",), ("a", "b")])
        deployment = deployment.with_filesystems(lambda fs: replace(fs, images=draw(owners)))
    return Situation(deployment, NodeFacts(firmware, tuple(reals)))


@settings(max_examples=TRIES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(situations())
def test_every_layout(situation: Situation) -> None:
    deployment, node = situation.deployment, situation.node
    try:
        layout = build(deployment, node, SEED)
    except UnsuitableNode:
        tried["refused"] += 1
        assert not _fits(situation), "refused what fits"
        return
    tried["laid out"] += 1
    assert _fits(situation), "granted what does not fit"
    several = [_several(deployment), *(False for _ in node.disks[1:])]
    for disk, wanted, real, menu in zip(layout.disks, deployment.disks, node.disks, several, strict=True):
        _check_disk(disk, wanted, real, node.firmware, menu)
    groups = [group for group in layout.aggregates if isinstance(group, PlannedGroup)]
    for group, wanted_group in zip(groups, _groups(deployment), strict=True):
        got = [volume.size for volume in group.volumes]
        _check_sizes(got, [x.size for x in wanted_group.volumes], group.size, group.size, EXTENT)
    if node.firmware == "bios":
        assert not declared_defects(deployment)
    _check_second_run(layout, node)


def _groups(deployment: Deployment) -> list[VolumeGroup]:
    return [group for group in deployment.aggregates if isinstance(group, VolumeGroup)]


def _several(deployment: Deployment) -> bool:
    """Whether there are volumes of more than one image."""
    return {"a", "b"} <= {name for fs in deployment.filesystems() for name in fs.images}


def _check_disk(disk: PlannedDisk, wanted: Disk, real: DiskFacts, firmware: Firmware, menu: bool) -> None:
    end = MIB
    budget = wanted.size or real.size // MIB * MIB
    for number, part in enumerate(disk.partitions, 1):
        if part.role == "configdrive":
            assert end <= part.start
            assert 0 <= MIB + min(budget, _room(real)) - part.end < MIB, "not at the end"
            end = part.start
        assert (part.number, part.start) == (number, end), "gaps, overlaps or wrong numbers"
        assert part.start % MIB == part.size % MIB == 0 < part.size
        end = part.end
    assert end <= real.size - 33 * 512, "the backup table is overwritten"
    assert disk.partitions[0].role == {"bios": "bios_grub", "uefi": "esp"}[firmware]
    assert [part.number for part in disk.partitions if part.role == "multiboot"] == ([2] if menu else [])
    assert not menu or disk.partitions[1].size == 100 * MIB
    got = [part.size for part in disk.partitions]
    implicit = got[: 2 if menu else 1]
    asked = [*(Absolute(size) for size in implicit), *(volume.size for volume in wanted.volumes)]
    asked += _configdrive(wanted)
    _check_sizes(got, asked, budget, _room(real), MIB)


def _configdrive(disk: Disk) -> list[Size]:
    return [Absolute(64 * MIB)] if disk.reservations else []


def _check_sizes(got: Sequence[int], asked: Sequence[Size], budget: int, room: int, unit: int) -> None:
    assert sum(got) <= min(budget, room)
    for size, wanted in zip(got, asked, strict=True):
        if isinstance(wanted, Absolute):
            assert 0 <= size - wanted.size < unit
        elif isinstance(wanted, Relative):
            assert 0 <= wanted.share * budget - size < unit
        else:
            assert 0 <= min(budget, room) - sum(got) < unit, "something remains beside what is remaining"


def _room(real: DiskFacts) -> int:
    """Whole MiB between the first one and the backup of the table: 32 sectors of 512 bytes or 4 of 4096, and one."""
    tail = 33 * 512 if real.logical_sector == 512 else 5 * 4096
    return (real.size - tail) // MIB * MIB - MIB


def _need(sizes_: Sequence[Size], budget: int, unit: int) -> tuple[int, bool]:
    """Bytes that the sizes come to, and whether each of them comes to something."""
    amounts = []
    for size in sizes_:
        if isinstance(size, Absolute):
            amounts.append((size.size + unit - 1) // unit * unit)
        elif isinstance(size, Relative):
            amounts.append(size.share.numerator * budget // size.share.denominator // unit * unit)
    return sum(amounts), all(amounts)


def _fits(situation: Situation) -> bool:
    """The same question, answered by another route: by counting."""
    firmware = situation.node.firmware
    room: dict[str, int] = {}
    menu = 100 if _several(situation.deployment) else 0
    for disk, real in zip(situation.deployment.disks, situation.node.disks, strict=True):
        boot = 24 if firmware == "bios" else 200 if real.logical_sector == 512 else 260
        if (disk.size or 0) > real.size:
            return False
        budget = disk.size or real.size // MIB * MIB
        if disk is situation.deployment.disks[0]:
            boot += menu
        asked = [Absolute(boot * MIB), *(volume.size for volume in disk.volumes), *_configdrive(disk)]
        if not _granted(asked, budget, min(budget, _room(real)), MIB):
            return False
        used, _ = _need(asked, budget, MIB)
        for volume in disk.volumes:
            rest = min(budget, _room(real)) - used
            size = rest // MIB * MIB if isinstance(volume.size, Remaining) else _need([volume.size], budget, MIB)[0]
            if not _large_enough(volume, size):
                return False
            if isinstance(volume.content, PhysicalVolume):
                data = max(0, size - (volume.content.metadata or MIB)) // EXTENT * EXTENT
                room[volume.content.vg] = room.get(volume.content.vg, 0) + data
    for group in _groups(situation.deployment):
        asked = [volume.size for volume in group.volumes]
        if not _granted(asked, room[group.name], room[group.name], EXTENT):
            return False
        used, _ = _need(asked, room[group.name], EXTENT)
        for lv in group.volumes:
            rest = room[group.name] - used
            size = rest if isinstance(lv.size, Remaining) else _need([lv.size], room[group.name], EXTENT)[0]
            if not _large_enough(lv, size):
                return False
    return True


def _granted(asked: Sequence[Size], budget: int, room: int, unit: int) -> bool:
    used, all_something = _need(asked, budget, unit)
    left = (room - used) // unit * unit
    return all_something and used <= room and (left > 0 or not any(isinstance(x, Remaining) for x in asked))


def _large_enough(volume: Volume, size: int) -> bool:
    least = {"ext4": 4 * MIB}
    return not isinstance(volume.content, Filesystem) or size >= least.get(volume.content.type, MIB)


def _check_second_run(layout: Layout, node: NodeFacts) -> None:
    """What was made is what verify finds: everything is kept, the identifiers included."""
    again, _ = adopt(layout, after(layout, node), make=False)
    for disk, kept in zip(layout.disks, again.disks, strict=True):
        assert [replace(part, decision="keep", content=None) for part in disk.partitions] == [
            replace(part, content=None) for part in kept.partitions
        ]
    assert {fs.decision for fs in again.filesystems()} <= {"keep"}
    assert [fs.uuid for fs in again.filesystems()] == [fs.uuid for fs in layout.filesystems()]
    anew, _ = adopt(layout, after(layout, node), make=True)
    for fs in anew.filesystems():
        assert fs.decision == ("keep" if fs.wanted.keep_data else "format")
