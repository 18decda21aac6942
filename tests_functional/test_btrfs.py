# SPDX-License-Identifier: Apache-2.0
"""A real btrfs with subvolumes, or over several devices: made, seen without a mount, filled, and taken away.

No virtual machine: each device is a loop device of this machine.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from bareon.errors import ActionFailed, ImageFailed, UnsuitableNode
from bareon.look import signature, tags
from bareon.storage.btrfs import KIND, Btrfs, BtrfsFacts, PlannedBtrfs, Pool, Subvolume
from bareon.storage.filesystem import Mount
from bareon.storage.identifier import Identifiers
from bareon.storage.kind import Device, Look, Signature
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
    with blank() as found:
        yield found


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """Four of them."""
    monkeypatch.setattr(udev, "look_again", lambda device: None)
    monkeypatch.setattr(udev, "wait_for", lambda sizes: None)
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(blank()) for _ in range(4))


@contextlib.contextmanager
def blank() -> Iterator[str]:
    """A device with nothing on it."""
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


class Others:
    """Of :class:`bareon.storage.kind.Look` what a search for btrfs asks, on devices of this machine."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = devices

    def devices(self, signature: str) -> list[str]:
        return [x for x in self._devices if tags(x).get("TYPE") == signature]

    def content(self, device: str) -> Signature | None:
        return signature(device, tags(device))

    def name_of(self, device: str) -> str:
        return device


def pools(devices: Sequence[str]) -> list[BtrfsFacts]:
    """What a search finds on these devices."""
    search = KIND.search(cast(Look, Others(devices)))
    assert search and search.go_on(sure=True) and not search.go_on(sure=False)
    return [x for x in search.found() if isinstance(x, BtrfsFacts)]


def spread(devices: Sequence[str], level: str, names: Sequence[str] = NAMES) -> PlannedBtrfs:
    """A new btrfs over devices, planned, with the first of them in the place of udev's link."""
    mounts = (Mount("/", subvolume="@"),) if names else (Mount("/srv"),)
    content = Btrfs("btrfs", mounts, "pool", subvolumes=tuple(map(Subvolume, names)), level=level)
    wanted = Pool("pool", level, content)
    members = [Device(x, SIZE) for x in devices]
    # The kernel remembers what was missing of a UUID, under no name by which it could be made to forget it.
    file = Path(f"/sys/class/block/{Path(devices[0]).name}/loop/backing_file").read_text()
    seed = uuid.uuid5(uuid.NAMESPACE_URL, f"{file} {devices}")
    found = wanted.plan(members, Identifiers(seed)).device.content
    assert isinstance(found, PlannedBtrfs)
    return replace(found, device=devices[0])


def carried_out(fs: PlannedBtrfs) -> PlannedBtrfs:
    for x in fs.make("do_partitioning"):
        x.preflight()
        x.run(lambda done, total: None)
    return fs


@pytest.mark.parametrize(
    ("level", "count", "metadata", "size"),
    [("raid1", 2, "raid1", SIZE), ("raid0", 3, "raid1", 3 * SIZE), ("raid10", 4, "raid10", 2 * SIZE)],
)
def test_one_over_several_devices_is_made_and_seen_whole(
    devices: tuple[str, ...], level: str, count: int, metadata: str, size: int
) -> None:
    over = devices[:count]
    fs = carried_out(spread(over, level))
    content = Signature("btrfs", fs.uuid, "pool", NAMES)
    link = f"/dev/disk/by-uuid/{fs.uuid}"
    before = [Path(x).read_bytes() for x in over]
    assert pools(devices) == [BtrfsFacts(fs.uuid, count, tuple(sorted(over)), link, level, metadata, (), content)]
    assert [Path(x).read_bytes() for x in over] == before
    place = SCRATCH / "spread"
    place.mkdir(exist_ok=True)
    run(["mount", "-o", "ro", over[-1], place], timeout=30)
    seen = run(["findmnt", "--noheadings", "--bytes", "--output", "SIZE", place], timeout=30).stdout
    run(["umount", place], timeout=30)
    assert (int(seen), fs.size) == (size, size)


def test_a_missing_device_and_a_stale_one_are_seen(devices: tuple[str, ...]) -> None:
    fs = carried_out(spread(devices[:2], "raid1"))
    (found,) = pools(devices[1:])
    assert (found.count, found.members, found.missing, found.level) == (2, devices[1:2], 1, "raid1")
    # The other one alone is written to, as by a system that has come up without this one.
    run(["btrfs", "device", "scan", "--forget", devices[0]], timeout=30)
    place = SCRATCH / "degraded"
    place.mkdir(exist_ok=True)
    run(["mount", "-o", "degraded,subvolid=5", devices[1], place], timeout=30)
    (place / "new").write_text("new")
    run(["umount", place], timeout=30)
    (found,) = pools(devices)
    assert (found.uuid, found.missing, found.stale) == (fs.uuid, 0, devices[:1])


def test_one_that_is_made_anew_leaves_nothing_of_the_old_one(devices: tuple[str, ...]) -> None:
    carried_out(spread(devices[:3], "raid0"))
    anew = replace(spread(devices[:2], "raid1", ()), decision="format")
    assert anew.uuid != spread(devices[:3], "raid0").uuid
    assert [x.destroys for x in anew.make("")] == [devices[:2]]
    carried_out(anew)
    found = {x.uuid: x for x in pools(devices)}
    assert found[anew.uuid].members == tuple(sorted(devices[:2]))
    assert found[anew.uuid].content == Signature("btrfs", anew.uuid, "pool", ())
    (old,) = (x for x in found.values() if x.uuid != anew.uuid)
    assert (old.members, old.missing) == (devices[2:3], 2)
    anew.spoil(anew.wanted.mounts[0])
    assert [tags(x).get("TYPE") for x in devices] == [None, None, "btrfs", None]


def test_one_is_made_again_under_its_uuid(devices: tuple[str, ...]) -> None:
    """As a saved plan does, which has its identifiers: the kernel knows devices of that UUID."""
    first = carried_out(spread(devices[:2], "raid1"))
    again = carried_out(replace(first, decision="format"))
    (found,) = pools(devices)
    assert (first.uuid, again.uuid, found.content) == (found.uuid, found.uuid, again.signature)


def test_a_device_in_use_is_not_wiped(devices: tuple[str, ...]) -> None:
    fs = carried_out(spread(devices[:2], "raid1"))
    place = SCRATCH / "used"
    place.mkdir(exist_ok=True)
    run(["mount", devices[0], place], timeout=30)
    try:
        with pytest.raises(UnsuitableNode, match="it is in use"):
            next(iter(replace(fs, decision="format").make(""))).preflight()
    finally:
        run(["umount", place], timeout=30)
