# SPDX-License-Identifier: Apache-2.0
"""Maps of multipath: as sysfs shows them, as disks of the node facts, and in a deployed system."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bareon import probe, tools, usage
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts, Use
from bareon.storage.gpt import ClearDisk, WriteTable
from bareon.storage.multipath import SYSTEM, MapFacts, PathFacts
from bareon.system.bindings.binding import Result
from bareon.system.bindings.home import Home
from bareon.system.bindings.multipath import Multipath
from bareon.system.tree import Tree
from bareon.tests.cases import HERE, load, node, plan_of
from bareon.tools import multipath, sfdisk
from bareon.tools.lsblk import BlockDevice

WWID = "36000c290"


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A map dm-0 of sda and sdb with two partitions, and something else on it."""
    uuids = {"dm-0": f"mpath-{WWID}", "dm-1": f"part1-mpath-{WWID}", "dm-2": f"part12-mpath-{WWID}", "dm-3": "x"}
    for number, (name, uuid) in enumerate(uuids.items()):
        place = tmp_path / name / "dm"
        place.mkdir(parents=True)
        (place / "uuid").write_text(f"{uuid}\n")
        (place / "name").write_text(f"map{number}\n")
    for folder, names in (("dm-0/slaves", ("sdb", "sda")), ("dm-0/holders", ("dm-1", "dm-2", "dm-3"))):
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
    monkeypatch.setattr(multipath, "SYS", tmp_path)
    return tmp_path


def test_a_map_in_sysfs(sysfs: Path) -> None:
    assert (multipath.wwid("dm-0"), multipath.paths("dm-0")) == (WWID, ["sda", "sdb"])
    assert multipath.paths("sda") == []
    assert multipath.partitions("/dev/dm-0") == {1: "/dev/mapper/map1", 12: "/dev/mapper/map2"}
    assert multipath.partitions("/dev/dm-3") == {}


def _device(path: str, name: str, kind: str, scsi: str | None = None) -> BlockDevice:
    return BlockDevice(
        *(path, name, kind, 1 << 30, "8:0", None, False, False, 512, 512, None, None, None, scsi, None)
    )


def test_the_paths_of_a_map_in_the_facts(sysfs: Path) -> None:
    whole = _device(f"/dev/mapper/{WWID}", "dm-0", "mpath")
    there = [_device("/dev/sda", "sda", "disk", "0:0:0:1"), whole, _device("/dev/sdb", "sdb", "disk", "1:0:0:1")]
    paths = probe._paths(there)
    assert paths == {whole.path: [there[0], there[2]]}
    links = {"/dev/sdb": ("/dev/disk/by-path/b",)}
    assert probe._map(whole, paths[whole.path], links) == MapFacts(
        WWID, WWID, (PathFacts("/dev/sda", "0:0:0:1"), PathFacts("/dev/sdb", "1:0:0:1", ("/dev/disk/by-path/b",)))
    )
    assert probe._paths(there[1:2]) == {}


@pytest.mark.parametrize(
    ("second", "mixed"),
    [({"wwn": "0x2"}, True), ({"size": 2 << 30}, True), ({"wwn": "0x1"}, False), ({}, False)],
    ids=["wwn", "size", "alike", "unknown"],
)
def test_a_map_of_paths_to_different_luns_is_nobodys_disk(second: dict[str, Any], mixed: bool) -> None:
    one, other = _device("/dev/sda", "sda", "disk"), _device("/dev/sdb", "sdb", "disk")
    found = list(probe._mixed([replace(one, wwn="0x1"), replace(other, **second)]))
    assert len(found) == mixed
    assert not mixed or "/dev/sda (wwn 0x1, 1 GiB), /dev/sdb (wwn" in found[0]


def test_a_partition_of_a_map_is_used_on_the_map_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = (False, False, 512, 512, None, None, None, None, None)
    there = [
        _device("/dev/sdy", "sdy", "disk"),
        BlockDevice(f"/dev/mapper/{WWID}", "dm-80", "mpath", 1 << 30, "253:80", "sdy", *rest),
        BlockDevice(f"/dev/mapper/{WWID}-part1", "dm-81", "part", 1 << 20, "253:81", "dm-80", *rest),
    ]
    monkeypatch.setattr(usage, "mounts", lambda: [("253:81", there[2].path, "/mnt", "")])
    uses = [x for x in usage.uses(there) if x.way == "mounted"]
    assert uses == [Use(there[2].path, "mounted", (there[1].path,), "/mnt")]
    assert usage.users(there, uses) == {there[2].path: ["mounted at /mnt"]}


def test_partitions_of_a_map_go_before_it_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    there = {1: f"/dev/mapper/{WWID}-part1"}
    monkeypatch.setattr(tools.multipath, "partitions", lambda device: dict(there))
    monkeypatch.setattr(tools.device, "refuse_if_busy", lambda device: done.append(f"ask {device}"))
    monkeypatch.setattr(tools.device, "wipe", lambda devices: done.extend(f"wipe {x}" for x in devices))
    monkeypatch.setattr(tools.dmsetup, "remove", lambda name: done.append(f"remove {name}"))
    monkeypatch.setattr(tools.blkid, "probe", lambda devices: done.append(f"look {devices}"))
    monkeypatch.setattr(tools.lsblk, "size", lambda device: 7)
    monkeypatch.setattr(tools.lsblk, "sequence", lambda device: 3)
    monkeypatch.setattr(Path, "is_block_device", lambda path: str(path) == there[1])
    disk = f"/dev/mapper/{WWID}"
    step = ClearDisk("do_partitioning", disk, (there[1], f"{disk}-part2"), (), False, 7, 3, True)
    step.preflight()
    step.run(lambda done, of: None)
    part = there[1]
    assert done == [f"ask {part}"] * 2 + [f"wipe {part}", f"remove {WWID}-part1", f"wipe {disk}", f"look ['{disk}']"]


def _layout() -> tuple[Layout, NodeFacts]:
    case = load(HERE / "cases/plan/multipath-by-device.yaml")
    case["input"]["partitions"][0]["volumes"][0]["mount"] = "/"
    case["input"]["images"] = [{"name": "a", "image_pull_url": "rsync://h/a"}]
    return plan_of(case).layout, node("mapped")


def test_a_root_on_a_map_needs_multipath_in_its_initramfs() -> None:
    layout, _ = _layout()
    assert layout.early("a").programs == SYSTEM.programs
    assert "dm_multipath" in layout.early("a").modules
    plain = replace(layout, disks=tuple(replace(disk, multipath=None) for disk in layout.disks))
    assert plain.early("a").programs == ()


def _bound(tree: Tree, layout: Layout) -> Result:
    result = Result()
    Multipath().apply(tree, Home(layout, "a"), result)
    return result


def test_the_wwids_of_maps_are_listed_for_the_system(tmp_path: Path) -> None:
    layout, _ = _layout()
    tree = Tree(str(tmp_path))
    for name in ("/bin/sh", "/usr/sbin/multipath"):
        tree.write(name, "")
    tree.write("/etc/multipath/wwids", "/3golden/\n")
    result = _bound(tree, layout)
    assert tree.read("/etc/multipath/wwids") == f"# Multipath wwids, Version : 1.0\n/{WWID}/\n"
    assert (tree.read("/etc/multipath.conf") or "").startswith("# Written by bareon")
    assert {"/etc/multipath/wwids", "/etc/multipath.conf"} <= set(result.stale)


def test_lists_that_are_kept_are_added_to_once(tmp_path: Path) -> None:
    layout = replace(_layout()[0], policy="verify")
    root = next(part for part in layout.disks[0].partitions if part.content and part.role == "volume")
    kept = replace(root, decision="keep", content=replace(root.content, decision="keep"))  # type: ignore[type-var]
    disk = replace(layout.disks[0], partitions=(layout.disks[0].partitions[0], kept))
    layout = replace(layout, disks=(disk,))
    tree = Tree(str(tmp_path))
    for name in ("/bin/sh", "/usr/sbin/multipathd"):
        tree.write(name, "")
    tree.write("/etc/multipath.conf", "defaults {\n}\n")
    tree.write("/etc/multipath/wwids", "/3own/")
    for stale in (["/etc/multipath/wwids"], []):
        assert _bound(tree, layout).stale == stale
        assert tree.read("/etc/multipath/wwids") == f"/3own/\n/{WWID}/\n"
    assert tree.read("/etc/multipath.conf") == "defaults {\n}\n"


def test_a_system_without_multipath_gets_no_list(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/bin/sh", "")
    assert _bound(tree, _layout()[0]).stale == []
    assert tree.read("/etc/multipath/wwids") is None


def test_another_device_with_the_name_of_a_partition_is_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Volume part1 of a group called as the map is /dev/mapper/MAP-part1, too."""
    disk, wiped = "/dev/mapper/data", list[str]()
    monkeypatch.setattr(tools.multipath, "partitions", lambda device: {})
    monkeypatch.setattr(tools.device, "refuse_if_busy", lambda device: None)
    monkeypatch.setattr(tools.device, "wipe", wiped.extend)
    monkeypatch.setattr(tools.blkid, "probe", lambda devices: {})
    monkeypatch.setattr(tools.lsblk, "size", lambda device: 7)
    monkeypatch.setattr(tools.lsblk, "sequence", lambda device: 3)
    monkeypatch.setattr(Path, "is_block_device", lambda path: True)
    monkeypatch.setattr(Path, "exists", lambda path: True)
    ClearDisk("do_partitioning", disk, (f"{disk}-part1",), (), False, 7, 3, True).run(lambda done, of: None)
    assert wiped == [disk]
    with pytest.raises(UnsuitableNode, match="-part1 is the name of another device"):
        WriteTable("do_partitioning", _layout()[0].disks[0]).preflight()


def test_another_device_with_the_name_of_a_partition_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, asked = "/dev/mapper/data", list[str]()
    entries = tuple(sfdisk.Entry(x, f"{disk}{x}", x << 20, 1 << 20, "", None, None) for x in (1, 2))
    monkeypatch.setattr(sfdisk, "read", lambda device: SimpleNamespace(entries=entries))
    monkeypatch.setattr(probe, "tags", lambda device: asked.append(device) or {})
    monkeypatch.setattr(Path, "is_block_device", lambda path: True)
    found = probe._partitions(disk, "gpt", [], {}, {2: f"{disk}-part2"})
    assert asked == [f"{disk}-part2"]
    assert [x.users for x in found] == [("the name of another device, while the partition has none",), ()]


def test_partitions_that_kpartx_calls_otherwise_are_not_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = _layout()[0].disks[0]
    seen = [SimpleNamespace(number=x.number, start=x.start, size=x.size) for x in disk.partitions]
    monkeypatch.setattr(tools.sfdisk, "write", lambda device, script, told: None)
    monkeypatch.setattr(tools.parted, "read", lambda device: (disk.table, seen))
    monkeypatch.setattr(tools.udev, "settle", lambda: None)
    monkeypatch.setattr(tools.udev, "wait_for", lambda devices: None)
    monkeypatch.setattr(tools.multipath, "map_partitions", lambda device, delimiter: None)
    monkeypatch.setattr(tools.multipath, "partitions", lambda device: {1: disk.partitions[0].device})
    with pytest.raises(ActionFailed, match="the devices of its partitions are"):
        WriteTable("do_partitioning", disk).run(lambda done, of: None)
