# SPDX-License-Identifier: Apache-2.0
"""Arrays compared with what is found later: spares, other names, members out of step, what the input leaves open."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.errors import DisksDiffer
from bareon.layout.build import build
from bareon.layout.compare import adopt
from bareon.layout.stack import to_start
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.sizes import MIB, Absolute
from bareon.storage.disk import Disk, DiskFacts, DiskId, Partition
from bareon.storage.identifier import Identifiers
from bareon.storage.md import Array, ArrayFacts, PlannedArray, RaidMember
from bareon.tests.simulation import after
from bareon.tools import device
from bareon.tools.mdadm import State, state

NODE = NodeFacts("bios", tuple(DiskFacts(f"/dev/vd{x}", 1024 * MIB) for x in "abc"))
WANTED = Deployment(
    "verify",
    tuple(
        Disk(DiskId("name", f"vd{x}"), None, (Partition(Absolute(100 * MIB), RaidMember("data", spare=x == "a")),))
        for x in "abc"
    ),
    (Array("data"),),
)


def _found() -> tuple[NodeFacts, ArrayFacts]:
    node = after(build(WANTED, NODE, Identifiers(uuid.UUID(int=1))), NODE)
    (array,) = node.structures
    assert isinstance(array, ArrayFacts)
    return node, array


def test_a_spare_is_a_member_that_is_not_in_use() -> None:
    layout = build(WANTED, NODE, Identifiers(uuid.UUID(int=1)))
    node, array = _found()
    assert (array.count, array.members) == (2, ("/dev/vda2", "/dev/vdb2", "/dev/vdc2"))
    adopted, _ = adopt(layout, node, make=False, copy=False)
    assert [x.decision for x in adopted.aggregates] == ["keep"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 3}, "expected 2 members in use, found a place for 3"),
        ({"members": ("/dev/vdb2", "/dev/vdc2")}, "expected the members /dev/vda2, /dev/vdb2, /dev/vdc2, found"),
    ],
)
def test_an_array_whose_spare_is_none(change: dict[str, object], words: str) -> None:
    layout = build(WANTED, NODE, Identifiers(uuid.UUID(int=1)))
    node, array = _found()
    changed = replace(node, structures=(replace(array, **change),))  # type: ignore[arg-type]
    with pytest.raises(DisksDiffer) as caught:
        adopt(layout, changed, make=True, copy=False)
    assert any(words in line for line in caught.value.differences)


def _differences(wanted: Deployment = WANTED, **change: object) -> list[str]:
    layout = build(wanted, NODE, Identifiers(uuid.UUID(int=1)))
    node, array = _found()
    with pytest.raises(DisksDiffer) as caught:
        adopt(layout, replace(node, structures=(replace(array, **change),)), make=True)  # type: ignore[arg-type]
    return [line.removeprefix("/dev/md/data: ") for line in caught.value.differences]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"missing": 1, "members": ("/dev/vda2", "/dev/vdb2"), "device": "/dev/md127"},
            "is degraded, 1 of 2 members missing; not there: /dev/vdc2; add what is to take the place:"
            " mdadm --manage /dev/md127 --add DEVICE",
        ),
        (
            {"missing": 1, "out_of_step": ("/dev/vdb2",)},
            "is degraded, 1 of 2 members missing; failed or stale: /dev/vdb2; add what is to take the place:"
            " mdadm --manage /dev/md/data --add DEVICE",
        ),
        (
            {"missing": 1, "rebuilt": ("/dev/vda2",), "task": "recover", "percent": 34, "device": "/dev/md127"},
            "is degraded, 1 of 2 members missing; /dev/vda2 is being rebuilt (34% done);"
            " wait until 'mdadm --wait /dev/md127' returns",
        ),
        (
            {"missing": 1, "rebuilt": ("/dev/vda2",)},
            "is degraded, 1 of 2 members missing; /dev/vda2 is being rebuilt; it goes on once the array runs"
            " (mdadm --assemble --scan): wait until 'mdadm --wait /dev/md/data' returns",
        ),
        (
            {"task": "reshape", "percent": 0, "device": "/dev/md127"},
            "is being reshaped (0% done); wait until 'mdadm --wait /dev/md127' returns",
        ),
    ],
)
@pytest.mark.pain("still-initialising")
def test_what_is_not_in_step_is_refused_with_what_to_wait_for(change: dict[str, object], words: str) -> None:
    assert _differences(**change) == [words]


def _adopted(wanted: Deployment, **change: object) -> tuple[PlannedArray, NodeFacts, tuple[str, ...]]:
    layout = build(wanted, NODE, Identifiers(uuid.UUID(int=1)))
    node, array = _found()
    node = replace(node, structures=(replace(array, **change),))  # type: ignore[arg-type]
    adopted, warnings = adopt(layout, node, make=True)
    (kept,) = adopted.aggregates
    assert isinstance(kept, PlannedArray)
    starts = [step for x in to_start(adopted, node, everything=True) for step in x.start("a")]
    return kept, node, (*warnings, *(step.description for step in starts))


@pytest.mark.pain("still-initialising")
def test_a_first_synchronisation_is_no_difference() -> None:
    assert _adopted(WANTED, task="resync", percent=1, device="/dev/md/data")[2] == ()


@pytest.mark.pain("keep-lvm-and-raid")
def test_an_array_under_another_name_gets_its_own() -> None:
    _, _, said = _adopted(WANTED, device="/dev/md127", runs_as="/dev/md127", homehost="node7")
    assert said == ("Name array /dev/md127 /dev/md/data",)


def test_what_the_input_leaves_open_stays_as_it_is() -> None:
    there = {"metadata": "1.0", "bitmap": False, "homehost": "node7", "device": "/dev/md127"}
    kept, _, said = _adopted(WANTED, **there)
    assert (kept.metadata, kept.bitmap, kept.homehost, said) == ("1.0", False, "node7", ())


def test_what_the_input_asks_for_otherwise() -> None:
    wanted = replace(WANTED, aggregates=(Array("data", metadata="1.0", bitmap=False, homehost="node8"),))
    assert _differences(wanted) == ["expected metadata 1.0, found 1.2"]
    kept, _, said = _adopted(wanted, metadata="1.0", out_of_step=("/dev/vda2",), device="/dev/md127")
    assert kept.bitmap is True
    assert said == (
        "/dev/md/data: it has a write-intent bitmap, and stays so; mdadm --grow --bitmap=none changes it",
        "/dev/md/data: its homehost is any, not node8, and stays so",
        "/dev/md/data: /dev/vda2 is out of use, and no spare any more",
    )


def _sysfs(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{content}\n")
    return folder


def test_the_state_of_an_array_that_is_rebuilt(tmp_path: Path) -> None:
    files = {"metadata_version": "1.2", "bitmap/location": "+8", "degraded": "1", "sync_action": "recover"}
    files |= {"sync_completed": "69632 / 204800", "reshape_position": "none"}
    files |= {"dev-vda2/state": "in_sync", "dev-vda2/slot": "0", "dev-vdb2/state": "faulty", "dev-vdb2/slot": "none"}
    files |= {"dev-vdc2/state": "spare", "dev-vdc2/slot": "1", "dev-vdd2/state": "spare", "dev-vdd2/slot": "none"}
    found = state(_sysfs(tmp_path, files))
    assert found == State("1.2", True, 1, ("/dev/vda2",), ("/dev/vdc2",), ("/dev/vdd2",), "recover", 34)


def test_the_state_of_an_array_whose_reshaping_is_interrupted(tmp_path: Path) -> None:
    files = {"bitmap/location": "none", "sync_action": "idle", "sync_completed": "none", "reshape_position": "4096"}
    assert state(_sysfs(tmp_path, files)) == State(bitmap=False, task="reshape")
    assert state(tmp_path / "stopped") == State()


def test_a_link_takes_the_place_of_one_that_leads_nowhere(tmp_path: Path) -> None:
    place = tmp_path / "md/data"
    for target in ("/dev/md5", "/dev/md127"):
        device.link(str(place), target)
        assert str(place.readlink()) == target
