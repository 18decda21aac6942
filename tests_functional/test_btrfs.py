# SPDX-License-Identifier: Apache-2.0
"""Subvolumes of a real btrfs: made, seen without a mount, mounted as the system has them, filled, and taken away.

No virtual machine: the volume is a loop device of this machine.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.errors import ActionFailed, ImageFailed
from bareon.look import signature, tags
from bareon.storage.btrfs import Btrfs, PlannedBtrfs, Subvolume
from bareon.storage.filesystem import Mount
from bareon.storage.kind import Signature
from bareon.system.tree import mounted_tree
from bareon.tools import udev
from building.process import run
from tests_functional.bench import loop
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.volumes import MIB, Volumes
from tests_functional.test_archives import DIR, HARD, REG, archive, brought, failed, step

SIZE = 160 * MIB
NAMES = ("@", "@home", "@snapshots")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(udev, "look_again", lambda device: None)  # there is no udev here
    descriptor, name = tempfile.mkstemp(dir=SCRATCH)
    os.truncate(descriptor, SIZE)
    os.close(descriptor)
    with loop.attached(Path(name)) as attached:
        yield str(attached)
    Path(name).unlink()


def identity(device: str) -> str:
    """A UUID of its own for each device: no two may have one at a time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{os.getpid()} {device}"))


def planned(device: str, *, default: str = "") -> PlannedBtrfs:
    mounts = (Mount("/", subvolume="@"), Mount("/home", "noatime", subvolume="@home"))
    wanted = Btrfs("btrfs", mounts, label="pool", subvolumes=tuple(Subvolume(x, (), x == default) for x in NAMES))
    return PlannedBtrfs(device, SIZE, "btrfs", identity(device), wanted)


def made(device: str, *, default: str = "") -> Volumes:
    """What partitioning makes, as the layout has it mounted."""
    fs = planned(device, default=default)
    for x in fs.make("do_partitioning"):
        x.preflight()
        x.run(lambda done, total: None)
    return Volumes(*fs.mounts)


@contextlib.contextmanager
def at_top(device: str) -> Iterator[Path]:
    """All of the file system, read-only."""
    place = SCRATCH / "top"
    place.mkdir(exist_ok=True)
    run(["mount", "-o", "ro,subvolid=5", device, place], timeout=30)
    try:
        yield place
    finally:
        run(["umount", place], timeout=30)


def files(device: str) -> dict[str, str]:
    """The content of all files from the top."""
    with at_top(device) as top:
        return {str(x.relative_to(top)): x.read_text() for x in sorted(top.rglob("*")) if x.is_file()}


def test_they_are_made_and_seen_without_a_mount(device: str) -> None:
    made(device, default="@snapshots")
    assert signature(device, tags(device)) == Signature("btrfs", identity(device), "pool", NAMES)
    assert planned(device).signature == Signature("btrfs", identity(device), "pool", NAMES)
    place = SCRATCH / "plain"
    place.mkdir(exist_ok=True)
    run(["mount", device, place], timeout=30)
    found = run(["btrfs", "subvolume", "show", place], timeout=30)
    # What is there besides is seen as well, but for what lies deeper.
    run(["umount", place], timeout=30)
    run(["mount", "-o", "subvolid=5", device, place], timeout=30)
    run(["btrfs", "subvolume", "create", place / "a b"], timeout=30)
    run(["btrfs", "subvolume", "create", place / "@/deep"], timeout=30)
    (place / "folder").mkdir()
    run(["btrfs", "subvolume", "create", place / "folder/deep"], timeout=30)
    run(["btrfs", "subvolume", "delete", place / "@home"], timeout=30)
    run(["umount", place], timeout=30)
    assert found.stdout.split()[0] == "@snapshots"
    assert signature(device, tags(device)) == Signature("btrfs", identity(device), "pool", ("@", "@snapshots", "a b"))


def test_seeing_them_writes_nothing(device: str) -> None:
    made(device)
    before = Path(device).read_bytes()
    assert signature(device, tags(device)) is not None
    assert Path(device).read_bytes() == before
    run(["wipefs", "--all", device], timeout=30)
    run(["mkfs.btrfs", "-q", "-U", identity(device), device], timeout=30)
    assert signature(device, tags(device)) == Signature("btrfs", identity(device), None, ())


def test_an_image_is_spread_over_them(device: str, tmp_path: Path) -> None:
    volumes = made(device)
    members = [
        ("a", REG, "", b"a"),
        ("home", DIR, "", b""),
        ("home/u", REG, "", b"u"),
        ("home/again", HARD, "a", b""),
    ]
    outcome = brought(step(archive(tmp_path / "a.tar.gz", *members), volumes))
    assert outcome["hard links that became copies"] == "1"
    assert files(device) == {"@/a": "a", "@home/again": "a", "@home/u": "u"}
    with mounted_tree(volumes.mounts) as tree:
        mounted = run(["findmnt", "--noheadings", "--output", "FSROOT", tree.outside("/home")], timeout=30)
        assert (mounted.stdout.strip(), tree.read("/home/u")) == ("/@home", "u")


def test_what_is_kept_is_not_written_to(device: str) -> None:
    made(device)
    kept = [replace(x, filesystem=replace(x.filesystem, decision="keep")) for x in planned(device).mounts]
    with mounted_tree(kept, writing=("/etc",)) as tree:
        tree.write("/etc/fstab", "x")
        with pytest.raises(ActionFailed, match="cannot write"):
            tree.write("/home/x", "x")
    assert files(device) == {"@/etc/fstab": "x"}


def test_a_broken_image_takes_away_its_own_subvolumes_alone(device: str, tmp_path: Path) -> None:
    volumes = made(device)
    with at_top(device) as top:
        run(["mount", "-o", "remount,rw", top], timeout=30)
        (top / "@snapshots/others").write_text("others")
    file = archive(tmp_path / "a.tar.gz", ("a", REG, "", b"a"), ("home", DIR, "", b""), ("home/u", REG, "", b"u"))
    assert "was wanted" in failed(step(file, volumes, digest="0" * 64), ImageFailed)
    assert files(device) == {"@snapshots/others": "others"}
    found = signature(device, tags(device))
    assert found == Signature("btrfs", identity(device), "pool", ("@snapshots",))


def test_a_default_subvolume_of_a_broken_image_is_taken_away_too(device: str, tmp_path: Path) -> None:
    volumes = made(device, default="@")
    file = archive(tmp_path / "a.tar.gz", ("a", REG, "", b"a"), ("home", DIR, "", b""), ("home/u", REG, "", b"u"))
    assert "was wanted" in failed(step(file, volumes, digest="0" * 64), ImageFailed)
    found = signature(device, tags(device))
    assert found == Signature("btrfs", identity(device), "pool", ("@snapshots",))
