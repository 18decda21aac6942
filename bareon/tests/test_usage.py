# SPDX-License-Identifier: Apache-2.0
"""Who uses a device: each use as a value where it is, and in words for all that lies below."""

from __future__ import annotations

from pathlib import Path

import pytest

from bareon import usage
from bareon.facts import from_json, to_json
from bareon.model.node import NodeFacts, Use
from bareon.storage.disk import DiskFacts
from bareon.tools.lsblk import BlockDevice


def _device(path: str, name: str, kind: str, number: str, parent: str | None = None) -> BlockDevice:
    rest = (False, False, 512, 512, None, None, None, None, None)
    return BlockDevice(path, name, kind, 1 << 30, number, parent, *rest)


DEVICES = [
    _device("/dev/vda", "vda", "disk", "254:0"),
    _device("/dev/vda1", "vda1", "part", "254:1", "vda"),
    _device("/dev/vda2", "vda2", "part", "254:2", "vda"),
    _device("/dev/vdb", "vdb", "disk", "254:16"),
    _device("/dev/md127", "md127", "raid1", "9:127", "vda2"),
    _device("/dev/md127p1", "md127p1", "part", "259:1", "md127"),
    _device("/dev/mapper/os-root", "dm-0", "lvm", "253:0", "md127p1"),
    _device("/dev/mapper/odd", "dm-1", "dm", "253:1", "vda1"),
]
SLAVES = {"md127": {"vda2", "vdb"}, "dm-0": {"md127p1"}, "dm-1": {"vda1"}, "md127p1": {"md127"}}
FOUND = [
    Use("/dev/mapper/os-root", "mounted", ("/dev/vda", "/dev/vdb"), "/"),
    Use("/dev/vda1", "mounted", ("/dev/vda",), "/mnt", "7"),
    Use("/dev/vda1", "held", ("/dev/vda",), "/dev/mapper/odd"),
]


BELOW = usage._below


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def mounts() -> list[tuple[str, str, str, str]]:
        return [("253:0", "/dev/mapper/os-root", "/", ""), ("0:5", "/dev/vda1", "/mnt", "7")]

    monkeypatch.setattr(usage, "mounts", mounts)
    monkeypatch.setattr(usage, "_below", lambda device, by_name: SLAVES.get(device.name, set()))
    monkeypatch.setattr(usage, "_foreign", lambda device: False)


def test_a_use_is_told_of_once_and_where_it_is() -> None:
    assert [x for x in usage.uses(DEVICES) if x.way != "swap"] == FOUND


def test_its_words_stand_at_all_that_lies_below() -> None:
    root = "mounted at / as /dev/mapper/os-root"
    assert usage.users(DEVICES, FOUND) == {
        "/dev/mapper/os-root": ["mounted at /"],
        "/dev/md127p1": [root],
        "/dev/md127": [root],
        "/dev/vda2": [root],
        "/dev/vdb": [root],
        "/dev/vda1": ["mounted at /mnt by process 7", "held by /dev/mapper/odd (dm)"],
    }


def test_a_loop_device_of_a_device_is_a_use_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lets others write to what lies behind one, even exclusively."""
    devices = [
        *DEVICES,
        *(_device(f"/dev/loop{n}", f"loop{n}", "loop", f"7:{n}") for n in (0, 1)),
        _device("/dev/loop0p1", "loop0p1", "part", "259:9", "loop0"),
        _device("/dev/loop1p1", "loop1p1", "part", "259:10", "loop1"),
    ]
    for name, source in (("loop0", "/dev/vda2"), ("loop1", "/srv/file")):
        for folder in ("loop", "slaves"):
            (tmp_path / "class/block" / name / folder).mkdir(parents=True)
        (tmp_path / "class/block" / name / "loop/backing_file").write_text(f"{source}\n")
    monkeypatch.setattr(usage, "_SYS", tmp_path)
    monkeypatch.setattr(usage, "_below", BELOW)
    monkeypatch.setattr(usage, "mounts", lambda: [("259:9", "/dev/x", "/a", ""), ("259:10", "/dev/y", "/b", "")])
    found = usage.uses(devices)
    assert [x for x in found if x.way != "swap"] == [
        Use("/dev/loop0p1", "mounted", ("/dev/vda", "/dev/loop0"), "/a"),
        Use("/dev/loop1p1", "mounted", ("/dev/loop1",), "/b"),
        Use("/dev/vda2", "held", ("/dev/vda",), "/dev/loop0"),
    ]
    assert usage.users(devices, found)["/dev/vda2"] == ["mounted at /a as /dev/loop0p1", "held by /dev/loop0 (loop)"]


def test_a_btrfs_uses_all_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mounts show one of them, or a name that no device has, such as /dev/root."""
    for name in ("one/devices/vda1", "one/devices/vdb", "two/devices/dm-1", "two/devices/gone", "features/x"):
        (tmp_path / "fs/btrfs" / name).mkdir(parents=True)
    monkeypatch.setattr(usage, "_SYS", tmp_path)
    assert [(x.device, x.words) for x in usage.uses(DEVICES) if x.way == "mounted"][2:] == [
        ("/dev/vdb", "mounted at /mnt by process 7"),
        ("/dev/mapper/odd", "mounted"),
    ]


def test_the_facts_have_them() -> None:
    node = NodeFacts("bios", (DiskFacts("/dev/vda", 1 << 30),), uses=tuple(FOUND))
    assert from_json(to_json(node)) == node
    assert "uses" not in to_json(NodeFacts("bios", ()))
