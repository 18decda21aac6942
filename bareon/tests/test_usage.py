# SPDX-License-Identifier: Apache-2.0
"""Who uses a device: each use as a value where it is, and in words for all that lies below."""

from __future__ import annotations

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


def test_the_facts_have_them() -> None:
    node = NodeFacts("bios", (DiskFacts("/dev/vda", 1 << 30),), uses=tuple(FOUND))
    assert from_json(to_json(node)) == node
    assert "uses" not in to_json(NodeFacts("bios", ()))
