# SPDX-License-Identifier: Apache-2.0
"""Volume groups with RAID volumes, which are read without being activated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bareon import look
from bareon.sizes import MIB
from bareon.storage.disk import DiskFacts
from bareon.storage.kind import Signature
from bareon.storage.lvm import VolumeGroupFacts, search
from bareon.tools import blkid, device, dmsetup, lvm, udev

GROUP = "bbbbbb-bbbb-bbbb-bbbb-bbbb-bbbb-bbbbbb"
DISKS = tuple(DiskFacts(f"/dev/vd{x}", 1000 * MIB, content=Signature("LVM2_member")) for x in "ab")


class Machine:
    """Group ``os`` on two disks with volumes of these layouts, by name, and what is done with it.

    All of them hold ext4. ``beginning`` is where the first image of each RAID volume begins.
    """

    def __init__(self, layouts: dict[str, str], *, active: Sequence[str] = ()) -> None:
        self.log: list[str] = []
        self.shown: set[str] = set()
        self.layouts = layouts
        self.active = active
        self.hidden: Sequence[str] = ()

    def report(self) -> lvm.Report:
        volumes = (
            lvm.Volume(name, GROUP, 40 * MIB, name in self.active, layout, legs=2, copies=2, tags=("a",))
            for name, layout in self.layouts.items()
        )
        return lvm.Report(
            (lvm.Group("os", GROUP, 1992 * MIB, 4 * MIB, ("bench",)),),
            tuple(lvm.PhysicalVolume(disk.device, GROUP, MIB) for disk in DISKS),
            tuple(volumes),
        )

    def beginnings(self) -> tuple[lvm.Beginning, ...]:
        images = {"raid": "rimage", "mirror": "mimage"}
        found = [(name, images.get(layout.split(",")[0])) for name, layout in self.layouts.items()]
        names = [*(f"{name}_{image}_0" for name, image in found if image), *self.hidden]
        return tuple(lvm.Beginning(name, GROUP, "/dev/vdb", 6, 40 * MIB) for name in names)

    def map_part(self, name: str, device: str, start: int, size: int) -> str:
        self.log.append(f"show {device} from {start // MIB} MiB, {size // MIB} MiB")
        self.shown.add(name)
        return f"/dev/mapper/{name}"

    def remove(self, name: str) -> None:
        self.log.append("hide")
        self.shown.remove(name)

    def probe(self, devices: Sequence[str]) -> dict[str, dict[str, str]]:
        self.log.append(f"read {Path(devices[0]).name}")
        return {devices[0]: {"TYPE": "ext4", "LABEL": Path(devices[0]).name}}

    def is_there(self, path: str) -> bool:
        name = Path(path).name
        if path.startswith("/dev/mapper/"):
            return name in self.shown
        return self.layouts[name].split(",")[0] not in ("raid", "mirror")


def read(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: list[str] | None = None
) -> VolumeGroupFacts:
    """What is found of the group. ``done`` takes what was done until the group was stopped again."""
    for module in (look, search):
        monkeypatch.setattr(module, "SYS", tmp_path)
    log = machine.log

    def stop() -> None:
        (done if done is not None else []).extend(log)
        log.clear()

    monkeypatch.setattr(search, "_is_there", machine.is_there)
    monkeypatch.setattr(search, "_active", lambda: {GROUP} if any("activate" in x for x in log) else set())
    monkeypatch.setattr(device, "missing", lambda programs: [])
    monkeypatch.setattr(device, "kernel_name", lambda path: path)
    for name in ("report", "beginnings"):
        monkeypatch.setattr(lvm, name, getattr(machine, name))
    monkeypatch.setattr(lvm, "activate", lambda group, read_only: log.append(f"activate all of {group}"))
    monkeypatch.setattr(lvm, "activate_volumes", lambda group, names: log.append(f"activate {','.join(names)}"))
    monkeypatch.setattr(lvm, "deactivate", lambda uuid: stop())
    for name in ("map_part", "remove"):
        monkeypatch.setattr(dmsetup, name, getattr(machine, name))
    monkeypatch.setattr(blkid, "probe", machine.probe)
    monkeypatch.setattr(udev, "settle", lambda: None)
    monkeypatch.setattr(look, "unreadable", lambda path: None)
    (found,) = look.structures(DISKS)
    assert isinstance(found, VolumeGroupFacts)
    assert not machine.shown
    return found


def test_a_raid_volume_is_shown_and_not_activated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine({"root": "raid,raid1"})
    found = read(machine, monkeypatch, tmp_path)
    name = f"bareon-{GROUP}-0"
    assert machine.log == ["show /dev/vdb from 25 MiB, 40 MiB", f"read {name}", "hide"]
    (volume,) = found.volumes
    assert (volume.device, volume.content) == ("/dev/os/root", Signature("ext4", None, name))
    assert (volume.legs, volume.copies, volume.tags, found.tags) == (2, 2, ("a",), ("bench",))


def test_only_the_others_of_its_group_are_activated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine({"root": "raid,raid5,raid5_ls", "srv": "linear"})
    asked: list[str] = []
    monkeypatch.setattr(machine, "log", asked)
    found = read(machine, monkeypatch, tmp_path)
    assert [x.content and x.content.label for x in found.volumes] == [f"bareon-{GROUP}-0", "srv"]


@pytest.mark.parametrize(
    ("layout", "hidden", "asked"),
    [
        ("mirror", [], ["activate srv"]),
        ("thin,pool", ["pool_tdata_rimage_0", "pool_tdata_rimage_1"], ["activate srv"]),
        ("thin,pool", [], ["activate all of os"]),
    ],
)
def test_nothing_is_activated_that_the_kernel_would_bring_into_step(
    layout: str, hidden: Sequence[str], asked: Sequence[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Machine({"root": layout, "srv": "linear"})
    machine.hidden = hidden
    done: list[str] = []
    read(machine, monkeypatch, tmp_path, done)
    assert [x for x in done if "activate" in x] == asked


def test_what_is_active_is_read_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine({"root": "raid,raid1"}, active=["root"])
    monkeypatch.setattr(machine, "is_there", lambda path: True)
    found = read(machine, monkeypatch, tmp_path)
    assert machine.log == ["read root"]
    assert found.volumes[0].active


def test_a_view_goes_though_a_signal_comes_while_it_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Interrupted(Machine):
        def map_part(self, name: str, device: str, start: int, size: int) -> str:
            super().map_part(name, device, start, size)
            raise KeyboardInterrupt

    machine = Interrupted({"root": "raid,raid1"})
    with pytest.raises(KeyboardInterrupt):
        read(machine, monkeypatch, tmp_path)
    assert (machine.log[-1], machine.shown) == ("hide", set())


def test_a_view_of_a_run_that_was_killed_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine({"root": "raid,raid1"})
    machine.shown.add(f"bareon-{GROUP}-0")
    read(machine, monkeypatch, tmp_path)
    assert [x.split()[0] for x in machine.log] == ["hide", "show", "read", "hide"]
