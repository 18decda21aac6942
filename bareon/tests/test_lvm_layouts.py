# SPDX-License-Identifier: Apache-2.0
"""Logical volumes that are there and not linear: what verify takes over, what it refuses, and how they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bareon.actions.partitioning import Partitioning
from bareon.decide import decide
from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy.rsync import Rsync
from bareon.errors import DisksDiffer
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.plan.plan import Plan
from bareon.sizes import GIB, KIB, MIB
from bareon.storage.kind import UNKNOWN, Signature
from bareon.storage.lvm import MakeGroup, VolumeGroup, VolumeGroupFacts
from bareon.tests import cases
from bareon.tests.simulation import after
from bareon.tools import lvm, udev

DOCUMENT = {
    "partitions": [
        {
            "type": "disk",
            "id": {"type": "name", "value": "vda"},
            "volumes": [{"type": "pv", "vg": "os", "size": "1 GiB"}],
        },
        {
            "type": "vg",
            "id": "os",
            "volumes": [{"type": "lv", "name": "srv", "mount": "/srv", "file_system": "ext4", "size": "100 MiB"}],
        },
    ]
}


def deployment(policy: str) -> Deployment:
    return Ironic().parse(cases.json.dumps({**DOCUMENT, "partitions_policy": policy}).encode())


def plan(policy: str, node: NodeFacts) -> Plan:
    return decide(deployment(policy), node, [Partitioning()], Rsync(), cases.SEED).plan


def deployed(layout: str, health: str) -> NodeFacts:
    """The node with its logical volume of another layout, and what LVM says of it."""
    bare = cases.node("two-disks")
    node = after(plan("clean", bare).layout, bare)
    structures = tuple(
        replace(x, volumes=tuple(replace(v, layout=layout, health=health) for v in x.volumes))
        if isinstance(x, VolumeGroupFacts)
        else x
        for x in node.structures
    )
    return replace(node, structures=structures)


@pytest.mark.parametrize(
    ("layout", "health", "warnings"),
    [
        ("linear", "", []),
        ("striped", "", ["/dev/os/srv: expected a linear logical volume, found striped; it is kept"]),
        ("raid,raid1", "", ["/dev/os/srv: expected a linear logical volume, found raid,raid1; it is kept"]),
    ],
)
def test_what_has_its_own_blocks_is_kept(layout: str, health: str, warnings: Sequence[str]) -> None:
    found = plan("verify", deployed(layout, health))
    assert list(found.warnings) == warnings
    assert not [step for step in found.steps if step.description.startswith("Make")]


@pytest.mark.parametrize(
    ("layout", "health", "said"),
    [
        ("thin,sparse", "", "/dev/os/srv: expected a linear logical volume, found one that is thin,sparse"),
        ("thin,pool", "", "/dev/os/srv: expected a linear logical volume, found one that is thin,pool"),
        ("cache", "", "/dev/os/srv: expected a linear logical volume, found one that is cache"),
        ("raid,raid1", "partial", "/dev/os/srv: LVM says that it is not well (partial); mend it first, see lvs(8)"),
        ("linear", "partial", "/dev/os/srv: LVM says that it is not well (partial); mend it first, see lvs(8)"),
    ],
)
@pytest.mark.pain("snapshots")
def test_what_shares_blocks_or_is_not_well_is_refused(layout: str, health: str, said: str) -> None:
    with pytest.raises(DisksDiffer) as caught:
        plan("verify", deployed(layout, health))
    assert list(caught.value.differences) == [said]
    assert plan("clean", deployed(layout, health)).steps


def spread(policy: str, **keys: object) -> Deployment:
    """A document with a volume of these keys in a group over two disks."""
    volume = {"type": "lv", "name": "srv", "mount": "/srv", "file_system": "ext4", "size": "100 MiB", **keys}
    disks = [
        {
            "type": "disk",
            "id": {"type": "name", "value": name},
            "volumes": [{"type": "pv", "vg": "os", "size": "1 GiB"}],
        }
        for name in ("vda", "vdb")
    ]
    group = {"type": "vg", "id": "os", "tags": ["bench"], "volumes": [volume]}
    document = {"partitions_policy": policy, "partitions": [*disks, group]}
    return Ironic().parse(cases.json.dumps(document).encode())


def planned(deployment: Deployment, node: NodeFacts) -> Plan:
    return decide(deployment, node, [Partitioning()], Rsync(), cases.SEED).plan


def made(**keys: object) -> NodeFacts:
    """The node on which such a volume was made."""
    bare = cases.node("two-disks")
    return after(planned(spread("clean", **keys), bare).layout, bare)


@pytest.mark.parametrize("kind", ["linear", "striped", "raid1"])
def test_verify_takes_over_what_was_made(kind: str) -> None:
    found = planned(spread("verify", kind=kind, tags=["a"]), made(kind=kind, tags=["a"]))
    assert not found.steps
    assert not found.warnings


@pytest.mark.parametrize(
    ("there", "wanted", "said"),
    [
        ("linear", "raid1", "expected raid1 on 2 physical volumes, 2 copies, found linear on 1 physical volumes"),
        ("striped", "raid1", "expected raid1 on 2 physical volumes, 2 copies, found striped on 2 physical volumes"),
        ("raid1", "striped", "expected striped on 2 physical volumes, found raid1 on 2 physical volumes, 2 copies"),
    ],
)
def test_another_segment_type_is_a_difference(there: str, wanted: str, said: str) -> None:
    with pytest.raises(DisksDiffer) as caught:
        planned(spread("verify", kind=wanted, size="104 MiB"), made(kind=there, size="104 MiB"))
    assert list(caught.value.differences) == [f"/dev/os/srv: {said}"]


def test_a_missing_copy_is_a_difference() -> None:
    node = _changed(made(kind="raid1"), copies=3, legs=3)
    with pytest.raises(DisksDiffer) as caught:
        planned(spread("verify", kind="raid1"), node)
    said = "expected raid1 on 2 physical volumes, 2 copies, found raid1 on 3 physical volumes, 3 copies"
    assert list(caught.value.differences) == [f"/dev/os/srv: {said}"]


def test_a_missing_tag_is_a_warning() -> None:
    found = planned(spread("verify", tags=["a", "b"]), made(tags=["b", "c"]))
    assert list(found.warnings) == ["/dev/os/srv has not the tag a, and stays so; lvchange --addtag gives it"]


def _changed(node: NodeFacts, **values: object) -> NodeFacts:
    """The node with other values of its logical volume."""
    (group,) = (x for x in node.structures if isinstance(x, VolumeGroupFacts))
    volumes = tuple(replace(x, **values) for x in group.volumes)  # type: ignore[arg-type]
    return replace(node, structures=(replace(group, volumes=volumes),))


def test_volumes_with_a_place_of_their_own_are_made_before_linear_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = cases.node("two-disks")
    document = spread("clean", kind="raid1")
    (group,) = document.aggregates
    assert isinstance(group, VolumeGroup)
    first = replace(group.volumes[0], name="plain", kind="linear", content=None)
    group = replace(group, volumes=(first, *group.volumes))
    found = planned(replace(document, aggregates=(group,)), bare)
    (step,) = (x for x in found.steps if isinstance(x, MakeGroup))
    said: list[tuple[object, ...]] = []
    for name in ("create_physical_volume", "create_group", "create_volume", "create_spread_volume"):
        monkeypatch.setattr(lvm, name, lambda *words, name=name, **more: said.append((name, *words[:2])))
    monkeypatch.setattr(udev, "wait_for", lambda devices: None)
    monkeypatch.setattr(MakeGroup, "_check", lambda self: None)
    step.run(lambda *_: None)  # type: ignore[arg-type]
    assert said[2:] == [
        ("create_group", "os", 4 << 20),
        ("create_spread_volume", "os", "srv"),
        ("create_volume", "os", "plain"),
    ]


def test_the_deployed_system_gets_what_starts_a_mirror() -> None:
    found = planned(spread("clean", kind="raid1"), cases.node("two-disks")).layout
    (volume,) = (x for x in found.aggregates[0].devices)
    assert volume.system.modules == ("dm_raid", "raid1")
    assert volume.system.kernel_arguments == ("rd.lvm.lv=os/srv",)


POOL = {"type": "lv", "name": "pool", "size": "200 MiB", "kind": "thin-pool"}
THIN = {"type": "lv", "name": "srv", "mount": "/srv", "file_system": "ext4", "size": "1 GiB", "kind": "thin"}


def thin(policy: str, *volumes: dict[str, object]) -> Deployment:
    """A document with these volumes in a group on one disk."""
    group = {"type": "vg", "id": "os", "volumes": volumes}
    document = {"partitions_policy": policy, "partitions": [DOCUMENT["partitions"][0], group]}
    return Ironic().parse(cases.json.dumps(document).encode())


def with_pool(**changes: object) -> NodeFacts:
    """The node on which a thin volume in a pool was made, with other values of it."""
    bare = cases.node("two-disks")
    node = after(planned(thin("clean", {**THIN, "pool": "pool"}, POOL), bare).layout, bare)
    (group,) = (x for x in node.structures if isinstance(x, VolumeGroupFacts))
    first, *others = group.volumes
    changed = replace(first, **changes)  # type: ignore[arg-type]
    return replace(node, structures=(replace(group, volumes=(changed, *others)),))


def test_verify_takes_over_a_thin_volume_with_what_is_in_it() -> None:
    found = planned(thin("verify", {**THIN, "pool": "pool"}, POOL), with_pool(content=Signature("ext4", "its-own")))
    assert not found.steps
    assert [x.uuid for x in found.layout.filesystems()] == ["its-own"]


def test_a_kept_pool_promises_no_more_than_it_did() -> None:
    assert not planned(thin("verify", {**THIN, "pool": "pool"}, POOL), with_pool()).warnings


def test_what_is_written_anew_in_a_kept_pool_may_not_find_room_in_it() -> None:
    """The pool holds other volumes, which lose what is written to them later once it is full."""
    again = {**THIN, "pool": "pool", "keep_data": False}
    said = "the volumes of thin pool /dev/os/pool may grow to 1024 MiB together, and it has 200 MiB"
    (warning,) = planned(thin("verify", again, POOL), with_pool(content=Signature("ext4", "its-own"))).warnings
    assert warning.startswith(said)
    fits = {**again, "size": "200 MiB"}
    assert not planned(thin("verify", fits, POOL), with_pool(size=200 * MIB)).warnings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pool": "other"}, "/dev/os/srv: expected thin in pool pool, found thin in pool other"),
        (
            {"layout": "linear"},
            "/dev/os/srv: expected thin in pool pool, found linear on 1 physical volumes",
        ),
        (
            {"content": UNKNOWN},
            "/dev/os/srv: it is not active, and what is on it cannot be seen without writing to its pool",
        ),
        ({"name": "foreign"}, "/dev/os/srv: expected a logical volume of 1024 MiB, found none"),
        ({"content": Signature("xfs")}, "/dev/os/srv: expected ext4, found xfs"),
    ],
)
def test_another_thin_volume_is_a_difference(changes: dict[str, object], said: str) -> None:
    keeping = {**THIN, "pool": "pool", "keep_data": True}
    with pytest.raises(DisksDiffer) as caught:
        planned(thin("verify", keeping, POOL), with_pool(**changes))
    assert next(iter(caught.value.differences)) == said


def test_a_foreign_volume_in_the_pool_is_a_difference() -> None:
    with pytest.raises(DisksDiffer) as caught:
        planned(thin("verify", POOL), with_pool())
    assert list(caught.value.differences) == [
        "/dev/os/srv: expected no logical volume, found one of 1024 MiB",
    ]


def test_thin_volumes_are_made_behind_their_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(thin("clean", {**THIN, "pool": "pool"}, POOL), cases.node("two-disks"))
    (step,) = (x for x in found.steps if isinstance(x, MakeGroup))
    said: list[tuple[object, ...]] = []
    for name in ("create_physical_volume", "create_group", "create_thin_pool", "create_thin_volume"):
        monkeypatch.setattr(lvm, name, lambda *words, name=name: said.append((name, *words)))
    waited: list[str] = []
    monkeypatch.setattr(udev, "wait_for", waited.extend)
    monkeypatch.setattr(MakeGroup, "_check", lambda self: None)
    step.run(lambda *_: None)  # type: ignore[arg-type]
    assert said[2:] == [
        ("create_thin_pool", "os", "pool", 50, ("pool_metadata", 1), 64 * KIB, ()),
        ("create_thin_volume", "os", "pool", "srv", GIB, ()),
    ]
    assert waited == ["/dev/os/srv"]  # a pool has no device
