# SPDX-License-Identifier: Apache-2.0
"""What bareon reads from what programs really said: see ``captured.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bareon.tests import captured, programs

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


def _result(name: str) -> Any:
    """What is read now from a captured output, not what the file says of it."""
    path = captured.FOLDER / f"{name}.yaml"
    return captured.read(captured.MODULES[path.parent.name], captured.load(path))["result"]


@pytest.mark.parametrize("path", captured.files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_read_is_what_was_written_down(path: Path) -> None:
    entry = captured.load(path)
    found = captured.read(captured.MODULES[path.parent.name], entry)
    assert found.pop("argv") == [command["argv"] for command in entry["commands"]], "record again"
    assert found == {key: entry[key] for key in ("result", "raises") if key in entry}


@pytest.mark.parametrize("path", captured.files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_file_is_as_it_would_be_written(path: Path) -> None:
    assert captured.dumped(captured.load(path)) == path.read_text()


def test_what_is_recorded_is_there_and_nothing_else() -> None:
    machines = yaml.safe_load((ROOT / "tests_functional/captures.yaml").read_text())
    listed = [step["capture"] for machine in machines for step in machine["steps"] if "capture" in step]
    assert sorted(listed) == sorted(f"{path.parent.name}/{path.stem}" for path in captured.files())


def test_every_module_that_parses_has_captures() -> None:
    parsing = {module.__name__ for module in programs.modules() if hasattr(module, "parse")}
    assert parsing <= set(captured.MODULES.values())
    assert set(captured.MODULES) == {path.parent.name for path in captured.files()}


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    for text in ("call: read\nresults: 1\ncommands: []\n", "call: read\ncommands: [{argv: x, stdin: y}]\n"):
        path = tmp_path / "x.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"results|stdin"):
            captured.load(path)


@pytest.mark.parametrize("name", ["gpt", "mbr", "sectors-4096", "nvme", "grown", "no-partitions"])
def test_sfdisk_and_parted_see_the_same_table(name: str) -> None:
    table = _result(f"sfdisk/{name}")
    label, parts = _result(f"parted/{name}")
    assert {"gpt": "gpt", "dos": "msdos"}[table["label"]] == label
    extended = [entry["number"] for entry in table["entries"] if entry["type"] == "5"]
    places = {entry["number"]: (entry["start"], entry["size"]) for entry in table["entries"]}
    assert {part["number"]: (part["start"], part["size"]) for part in parts} == places
    assert extended == ([2] if name == "mbr" else [])


# What captures.yaml has made is what is read.


def test_labels_of_file_systems_come_back() -> None:
    found = {device: (tags["TYPE"], tags.get("LABEL")) for device, tags in _result("blkid/file-systems").items()}
    assert found == {
        "/dev/vda2": ("ext4", "Größe 1"),
        "/dev/vda4": ("xfs", "my data"),
        "/dev/vda5": ("vfat", "BAREON A"),
        "/dev/vda6": ("btrfs", 'x=y "z" $(id)'),
        "/dev/vda7": ("swap", " a\\b"),
        "/dev/vdb1": ("ext2", None),
        "/dev/vdc1": ("ext3", None),
        "/dev/sda": ("ext4", "whole"),
    }
    assert _result("blkid/ambivalent") == {"/dev/vdb6": {"AMBIVALENT": "yes"}}


def test_a_table_is_read_with_all_that_is_odd_in_it() -> None:
    entries = {entry["number"]: entry for entry in _result("sfdisk/gpt")["entries"]}
    assert list(entries) == [1, 2, 4, 5, 6, 7, 8]
    assert (entries[1]["start"], entries[1]["size"]) == (MIB, 24 * MIB)
    assert entries[4]["start"] == (1 + 24 + 300) * MIB
    assert entries[7]["name"] == "Größe & Raum"
    assert [number for number, entry in entries.items() if entry["legacy_boot"]] == [2, 5]
    assert [entry["name"] for entry in _result("sfdisk/names")["entries"]] == ['say "hi", \\x', "日本"]
    (four,) = _result("sfdisk/sectors-4096")["entries"]
    assert (four["start"], four["size"]) == (MIB, 100 * MIB)
    nvme = _result("sfdisk/nvme")["entries"]
    assert [(entry["number"], entry["device"]) for entry in nvme] == [(1, "/dev/nvme0n1p1"), (12, "/dev/nvme0n1p12")]


@pytest.mark.parametrize(
    ("name", "number", "array"),
    [
        ("detail-mirror", 1, ("data", "raid1")),
        ("examine-running", 1, ("data", "raid1")),
        ("detail-degraded", 2, ("half", "raid1")),
        ("examine-degraded", 2, ("half", "raid1")),
        ("detail-0.90", 3, ("old", "raid1")),
        ("detail-stripes", 4, ("fast", "raid0")),
        ("examine-stopped", 4, ("fast", "raid0")),
        ("detail-raid10", 5, ("volumes", "raid10")),
        ("examine-raid10", 5, ("volumes", "raid10")),
    ],
)
def test_an_array_is_the_one_that_was_made(name: str, number: int, array: tuple[str, str]) -> None:
    found = _result(f"mdadm/{name}")
    assert (found["name"], found["level"], found["count"]) == (*array, 2)
    assert found["uuid"] == f"c0ffee00:00004000:80000000:0000000{number}"


def test_groups_are_those_that_were_made_and_a_lost_disk_is_missed() -> None:
    whole, broken = _result("lvm/groups"), _result("lvm/missing")
    names = {group["uuid"]: group["name"] for group in whole["groups"]}
    members = [(names.get(x["group_uuid"]), x["device"]) for x in whole["physical"] if "/md" not in x["device"]]
    assert members == [
        *(("my-os", "/dev/sdf1"), ("my-os", "/dev/sdf2"), ("idle", "/dev/sdf3")),
        *(("broken", "/dev/sdf4"), ("broken", "/dev/sdg"), (None, "/dev/vda8")),
    ]
    volumes = {(names[x["group_uuid"]], x["name"]): (x["size"] // MIB, x["active"]) for x in whole["volumes"]}
    assert volumes.pop(("broken", "data"))[1] is False
    assert volumes == {
        ("idle", "data"): (65, False),
        ("my-os", "my-root"): (300, True),
        ("my-os", "swap"): (64, True),
        ("on-md", "home"): (64, True),
        ("broken", "wide"): (16, False),
    }
    layouts = {(names[x["group_uuid"]], x["name"], x["health"]): x["layout"] for x in broken["volumes"]}
    assert layouts["broken", "wide", "partial"] == "striped"
    assert layouts["broken", "data", "partial"] == layouts["my-os", "swap", ""] == "linear"
    lost = [x["device"] for x in broken["physical"] if names.get(x["group_uuid"]) == "broken"]
    assert lost == ["/dev/sdf4", "[unknown]"]


def test_a_btrfs_over_devices_tells_what_it_was_made_with_and_what_came_after() -> None:
    whole, alone = _result("btrfs/superblock"), _result("btrfs/degraded")
    assert (whole["uuid"], whole["count"], whole["number"]) == ("c0ffee00-0000-4000-8000-0000000000b1", 2, 2)
    assert (alone["uuid"], alone["count"], alone["number"]) == (whole["uuid"], 2, 1)
    assert alone["generation"] > whole["generation"]
    assert _result("btrfs/raid1") == ["raid1", "raid1"]
    assert _result("btrfs/mixed") == ["raid1, single", "raid1"]
    assert _result("btrfs/raid0") == _result("btrfs/half") == ["raid0", "raid1"]
    assert _result("btrfs/subvolumes") == ["@", "my home"]
    assert _result("btrfs/half-subvolumes") == []
    tags = _result("blkid/btrfs")
    assert {device: tags[device]["UUID"][-2:] for device in tags} == {
        **{"/dev/vda": "b1", "/dev/vdb": "b1"},
        **{"/dev/vdc": "b2", "/dev/vdd": "b2"},
    }


def test_devices_are_those_of_the_machine() -> None:
    found = {device["path"]: device for device in _result("lsblk/stacked")}
    assert {path: found[path]["type"] for path in ("/dev/vda", "/dev/vda2", "/dev/loop0")} == {
        "/dev/vda": "disk", "/dev/vda2": "part", "/dev/loop0": "loop",
    }  # fmt: skip
    assert found["/dev/mapper/my--os-my--root"]["size"] == 300 * MIB
    assert {found[path]["logical_sector"] for path in ("/dev/vdc", "/dev/vdc1")} == {4096}
    assert found["/dev/sdb"]["serial"] == "BAREON-SDB"
    assert [device["path"] for device in _result("lsblk/blank")] == [
        *(f"/dev/sd{letter}" for letter in "abcdefg"),
        *(f"/dev/vd{letter}" for letter in "abcd"),
    ]


def test_disks_of_the_network_are_disks_that_say_how_they_are_reached() -> None:
    found = {x["name"]: x for x in _result("lsblk/network") if x["name"] in ("sda", "nvme0n1")}
    assert {name: (x["type"], x["size"], x["transport"]) for name, x in found.items()} == {
        "sda": ("disk", 64 * MIB, "iscsi"),
        "nvme0n1": ("disk", 64 * MIB, "nvme"),  # what lsblk says of all of them
    }


def test_a_listing_has_every_file_whatever_its_name() -> None:
    found = {entry["path"]: entry for entry in _result("rsync/listing")}
    assert {"hello", "etc/os-release", "with space", "-rf", "*", "$(reboot)", "quote\"'s"} <= set(found)
    assert {"lost+found", "new\nline", "\\134", "tab\there", "latin-\\xe9"} <= set(found)
    assert {found[name].get("same") for name in ("hello", "hard link")} in ({None, "hello"}, {None, "hard link"})
    assert (found["with space"]["kind"], found["with space"]["size"]) == ("f", 4)
    assert (found["up"]["kind"], found["up"]["link"]) == ("L", "../../../../..")
    assert {found[name]["kind"] for name in ("null", "disk")} == {"D"}
    assert {found[name]["owner"] for name in found} == {"0:0"}


def test_progress_ends_with_all_that_was_copied() -> None:
    found = _result("rsync/copy")
    assert set(found) == {"bytes", "total", "files"}
    assert found["bytes"] > 10 * MIB
    assert found["files"] > 100


def test_why_a_copy_failed_and_where() -> None:
    found = {name: _result(f"rsync/copy-{name}") for name in ("full", "unreadable", "no-module")}
    assert {name: (x["code"], x["is_local"]) for name, x in found.items()} == {
        "full": (11, True),
        "unreadable": (23, False),
        "no-module": (5, False),
    }
    assert "No space left on device" in found["full"]["reason"]
    assert found["no-module"]["reason"] == "@ERROR: Unknown module 'absent'"


def test_boot_entries_of_the_firmware_and_of_efibootmgr() -> None:
    labels = [x["label"] for x in _result("efi/entries").values()]
    assert "bareon" in labels
    assert any(label.startswith("Größe ") for label in labels)
    assert set(_result("efi/order")) == set(_result("efi/entries"))
