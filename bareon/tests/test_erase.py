# SPDX-License-Identifier: Apache-2.0
"""Erasure: the marks that prove it, and the reasons for which a disk is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from bareon.errors import ActionFailed, CommandError, UnsuitableNode
from bareon.run import Command
from bareon.storage import erase
from bareon.storage.erase import WAYS, EraseDisk
from bareon.tools import block, hdparm, nvme, smartctl
from bareon.tools.nvme import Namespace
from bareon.tools.smartctl import Security

MIB = 1 << 20


def untold(done: int, size: int | None = None) -> None:
    pass


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(b"precious" * (MIB // 2))
    return path


def erasing(monkeypatch: pytest.MonkeyPatch, name: str, does: Callable[[Path], None]) -> None:
    """Have a way of erasing do something else to a file, which no block layer erases."""
    way = WAYS[name]
    found = erase._Way(way.words, (), lambda _: None, lambda device, *_: does(Path(device)), way.zeros)
    monkeypatch.setitem(WAYS, name, found)


def blank(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("size", [4096, 8192, 12288, MIB, MIB + 512, 4096 * 1026, 10 << 40])
def test_the_places_are_inside_apart_and_reach_both_ends(size: int) -> None:
    found = block.places(size)
    assert found == sorted(set(found))
    assert found[0] == 0
    assert found[-1] == size - 4096
    assert all(place % 4096 == 0 for place in found[:-1])
    assert all(a + 4096 <= b for a, b in itertools.pairwise(found))
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert max(gaps, default=0) <= max(4096, 2 * size // 1024 + 4096)


@pytest.mark.parametrize("name", WAYS)
def test_a_disk_of_zeros_is_erased(name: str, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    erasing(monkeypatch, name, blank)
    outcome = EraseDisk("do_partitioning", str(disk), 4 * MIB, name).run(untold)
    assert outcome == {"bytes": 4 * MIB, "places": 1024}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.pain("erased-nothing")
def test_a_disk_that_only_says_so_is_not_erased(name: str, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    erasing(monkeypatch, name, lambda _: None)
    with pytest.raises(ActionFailed, match=rf"is not erased, though its {name} has ended well: see 1024 of 1024"):
        EraseDisk("do_partitioning", str(disk), 4 * MIB, name).run(untold)


@pytest.mark.parametrize(("name", "fails"), [(name, name == "zero") for name in WAYS])
def test_what_a_disk_leaves_is_its_own_but_for_zeros(
    name: str, fails: bool, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasing(monkeypatch, name, lambda path: path.write_bytes(b"\xff" * (4 * MIB)))
    step = EraseDisk("do_partitioning", str(disk), 4 * MIB, name)
    if fails:
        with pytest.raises(ActionFailed, match="1024 of 1024"):
            step.run(untold)
    else:
        step.run(untold)


def test_a_sector_that_is_left_is_one_too_many(disk: Path) -> None:
    marks = block.mark(str(disk), 4 * MIB)
    place, content = list(marks.by_place.items())[500]
    blank(disk)
    assert block.left(marks, block.read(str(disk), marks), zeros=False) == []
    with disk.open("r+b") as file:
        file.seek(place + 3584)
        file.write(content[3584:])
    assert block.left(marks, block.read(str(disk), marks), zeros=False) == [place]


def test_what_is_marked_twice_has_other_marks(disk: Path) -> None:
    first, second = (block.mark(str(disk), 4 * MIB) for _ in range(2))
    assert not set(first.by_place.values()) & set(second.by_place.values())
    assert "Marks(1024)" in repr(first)


@pytest.mark.pain("never-ends")
def test_a_disk_that_takes_too_long_has_given_up(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "_LEAST", -1.0)
    monkeypatch.setattr(block, "zero_range", lambda *_: None)
    with pytest.raises(ActionFailed, match=r"is not erased after -1 s, by 4 MiB of 4 MiB"):
        EraseDisk("do_partitioning", str(disk), 4 * MIB, "zero").run(untold)


def test_a_device_that_refuses_is_named(disk: Path) -> None:
    with pytest.raises(ActionFailed, match=r"the kernel cannot discard \S+disk at byte 0: "):
        block.discard(str(disk), 4 * MIB, untold)  # a file is no device
    with pytest.raises(ActionFailed, match="cannot be opened"):
        block.zero(f"{disk}x", 4 * MIB, untold)


GOOD = Namespace(formats=True, alone=True, lbaf=0)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (GOOD, None),
        (Namespace(formats=False, alone=True, lbaf=0), "has no Format NVM command"),
        (Namespace(formats=True, alone=False, lbaf=0), "would format its other namespaces"),
        (Namespace(formats=True, alone=True, lbaf=0, protected=True), "protection information"),
        (Namespace(formats=True, alone=True, lbaf=0, extended=True), "metadata"),
        (CommandError(("nvme",), 1, "no"), "nobody knows what it can do"),
    ],
)
def test_what_a_namespace_cannot_do(
    found: Namespace | CommandError, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def namespace(_: str) -> Namespace:
        if isinstance(found, CommandError):
            raise found
        return found

    monkeypatch.setattr(nvme, "namespace", namespace)
    _refused(EraseDisk("do_partitioning", "/dev/nvme0n1", MIB, "nvme-format"), words)


def test_a_namespace_that_tells_no_format_of_blocks_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another format would change the size of its blocks."""
    told = {"id-ctrl": '{"oacs": 2, "fna": 0}', "id-ns": '{"dps": 0}', "list-ns": '{"nsid_list": [{"nsid": 1}]}'}
    monkeypatch.setattr(nvme, "run", lambda argv: Command(tuple(argv), 0, told[argv[1]], "", 0.0))
    _refused(EraseDisk("do_partitioning", "/dev/nvme0n1", MIB, "nvme-format"), "metadata")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Security(enabled=False, frozen=False), None),
        (None, "has no ATA Security feature set"),
        (Security(enabled=True, frozen=False), "hdparm --security-disable bareon"),
        (Security(enabled=False, frozen=True), "has frozen its security settings"),
    ],
)
def test_what_a_disk_cannot_do_by_itself(
    found: Security | None, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smartctl, "security", lambda _: found)
    _refused(EraseDisk("do_partitioning", "/dev/sda", MIB, "ata-secure"), words)


def _refused(step: EraseDisk, words: str | None) -> None:
    if words is None:
        step.preflight()
        return
    with pytest.raises(UnsuitableNode, match=rf"^{step.device} cannot be erased by {step.erase}: .*{words}"):
        step.preflight()


def test_a_disk_without_discards_is_refused() -> None:
    _refused(EraseDisk("do_partitioning", "/dev/no-such-disk", MIB, "discard"), "zero works on any disk")


@pytest.mark.parametrize(
    ("code", "calls", "says"),
    [
        (5, ["set", "erase", "take"], "no"),
        # Stopped after its time: the disk goes on by itself, and needs the password for that.
        (None, ["set", "erase"], "still erases itself after 1 s: leave it its power"),
    ],
)
def test_the_password_of_a_disk_that_did_not_erase_itself(
    code: int | None, calls: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def fail(device: str, timeout: float) -> None:
        called.append("erase")
        raise CommandError(("hdparm",), code, "no")

    monkeypatch.setattr(hdparm, "set_password", lambda _: called.append("set"))
    monkeypatch.setattr(hdparm, "erase", fail)
    monkeypatch.setattr(hdparm, "take_password", lambda _: called.append("take"))
    monkeypatch.setattr(smartctl, "security", lambda _: Security(enabled=True, frozen=False))
    with pytest.raises(ActionFailed, match=says):
        WAYS["ata-secure"].erase("/dev/sda", MIB, 1.0, untold)
    assert called == calls
