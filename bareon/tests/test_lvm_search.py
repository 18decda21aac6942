# SPDX-License-Identifier: Apache-2.0
"""Volume groups with RAID volumes, which are read without being activated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bareon import look
from bareon.sizes import MIB
from bareon.storage.disk import DiskFacts
from bareon.storage.kind import UNKNOWN, Signature
from bareon.storage.lvm import VolumeGroupFacts, search, show
from bareon.tools import blkid, device, dmsetup, lvm, udev

GROUP = "bbbbbb-bbbb-bbbb-bbbb-bbbb-bbbb-bbbbbb"
DISKS = tuple(DiskFacts(f"/dev/vd{x}", 1000 * MIB, content=Signature("LVM2_member")) for x in "ab")


class Machine:
    """Group ``os`` on two disks with volumes of these layouts, by name, and what is done with it.

    All of them hold ext4. ``beginning`` is where the first image of each RAID volume begins.
    """

    def __init__(self, layouts: dict[str, str], *, active: Sequence[str] = ()) -> None:
        self.log: list[str] = []
        self.shown: list[str] = []
        self.end: tuple[str, int] | tuple[()] = ("/dev/vda", 2)
        self.origins: dict[str, str] = {}
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

    def pieces(self) -> tuple[lvm.Piece, ...]:
        images = {"raid": "rimage", "mirror": "mimage"}
        found = [(name, images.get(layout.split(",")[0])) for name, layout in self.layouts.items()]
        names = [*(f"{name}_{image}_0" for name, image in found if image), *self.hidden]
        pools = [x.name for x in self.thin_pools()]
        parts = (lvm.Piece(x, GROUP, 0, 40 * MIB, "/dev/vdb", 6) for x in names)
        metadata = (lvm.Piece(f"{x}_tmeta", GROUP, 0, 4 * MIB, "/dev/vda", 1) for x in pools)
        ends = (lvm.Piece(f"{x}_tdata", GROUP, 30 * MIB, 10 * MIB, *self.end) for x in pools)
        starts = (lvm.Piece(f"{x}_tdata", GROUP, 0, 30 * MIB, "/dev/vdb", 0) for x in pools)
        return (*parts, *metadata, *ends, *starts)

    def thin_pools(self) -> tuple[lvm.ThinPool, ...]:
        thin = [name for name, layout in self.layouts.items() if layout == "thin,sparse"]
        volumes = (lvm.ThinVolume(x, number, 40 * MIB, self.origins.get(x, "")) for number, x in enumerate(thin, 1))
        pools = [name for name, layout in self.layouts.items() if layout == "thin,pool"]
        return tuple(
            lvm.ThinPool(x, GROUP, 40 * MIB, 65536, f"{x}_tdata", f"{x}_tmeta", tuple(volumes)) for x in pools
        )

    def map_parts(self, name: str, parts: Sequence[tuple[str, int, int]]) -> str:
        listed = ", ".join(f"{device} from {start // MIB} MiB, {size // MIB} MiB" for device, start, size in parts)
        return self.show(name, listed)

    def map_pool(self, name: str, metadata: str, data: str, size: int, chunk: int) -> str:
        return self.show(name, f"pool of {Path(metadata).name[46:]} and {Path(data).name[46:]}, {size // MIB} MiB")

    def map_thin(self, name: str, pool: str, number: int, size: int) -> str:
        return self.show(name, f"volume {number} of {Path(pool).name[46:]}")

    def show(self, name: str, words: str) -> str:
        self.log.append(f"show {words}")
        self.shown.append(name)
        return f"/dev/mapper/{name}"

    def remove(self, name: str) -> None:
        self.log.append("hide")
        assert self.shown.pop() == name  # what lies on others goes before them

    def probe(self, devices: Sequence[str]) -> dict[str, dict[str, str]]:
        self.log.append(f"read {Path(devices[0]).name}")
        return {devices[0]: {"TYPE": "ext4", "LABEL": Path(devices[0]).name}}

    def is_there(self, path: str) -> bool:
        name = Path(path).name
        if path.startswith("/dev/mapper/"):
            return name in self.shown
        return self.layouts[name].split(",")[0] not in ("raid", "mirror", "thin")


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

    for module in (search, show):
        monkeypatch.setattr(module, "is_there", machine.is_there)
    monkeypatch.setattr(search, "_active", lambda: {GROUP} if any("activate" in x for x in log) else set())
    monkeypatch.setattr(device, "missing", lambda programs: [])
    monkeypatch.setattr(device, "kernel_name", lambda path: path)
    for name in ("report", "pieces", "thin_pools"):
        monkeypatch.setattr(lvm, name, getattr(machine, name))
    monkeypatch.setattr(lvm, "activate", lambda group, read_only: log.append(f"activate all of {group}"))
    monkeypatch.setattr(lvm, "activate_volumes", lambda group, names: log.append(f"activate {','.join(names)}"))
    monkeypatch.setattr(lvm, "deactivate", lambda uuid: stop())
    for name in ("map_parts", "map_pool", "map_thin", "remove"):
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
        ("cache", ["pool_cdata_rimage_0", "pool_cdata_rimage_1"], ["activate srv"]),
        ("cache", [], ["activate all of os"]),
        ("thin,pool", [], ["activate srv"]),
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
        def map_parts(self, name: str, parts: Sequence[tuple[str, int, int]]) -> str:
            super().map_parts(name, parts)
            raise KeyboardInterrupt

    machine = Interrupted({"root": "raid,raid1"})
    with pytest.raises(KeyboardInterrupt):
        read(machine, monkeypatch, tmp_path)
    assert (machine.log[-1], machine.shown) == ("hide", [])


def test_a_view_of_a_run_that_was_killed_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine({"root": "raid,raid1"})
    machine.shown.append(f"bareon-{GROUP}-0")
    read(machine, monkeypatch, tmp_path)
    assert [x.split()[0] for x in machine.log] == ["hide", "show", "read", "hide"]


THIN = {"pool": "thin,pool", "root": "thin,sparse", "old": "thin,sparse", "srv": "linear"}


def test_the_volumes_of_a_thin_pool_are_shown_and_none_is_activated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Machine(THIN)
    machine.origins = {"old": "root"}
    done: list[str] = []
    found = read(machine, monkeypatch, tmp_path, done)
    assert [x for x in done if not x.startswith(("read", "hide"))] == [
        "activate srv",
        "show /dev/vda from 5 MiB, 4 MiB",
        "show /dev/vdb from 1 MiB, 30 MiB, /dev/vda from 9 MiB, 10 MiB",
        "show pool of pool0-metadata and pool0-data, 40 MiB",
        "show volume 1 of pool0",
        "show volume 2 of pool0",
    ]
    seen = {x.name: x.content.label if x.content else None for x in found.volumes}
    view = f"bareon-{GROUP}-pool0"
    assert seen == {"pool": None, "root": f"{view}-1", "old": f"{view}-2", "srv": "srv"}


def test_nobody_knows_what_is_in_a_pool_that_cannot_be_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine(THIN)
    machine.end = ()  # data that lie on a mirror, or in stripes
    found = read(machine, monkeypatch, tmp_path)
    assert [x.content for x in found.volumes[:3]] == [None, UNKNOWN, UNKNOWN]


def test_nobody_knows_what_is_in_a_snapshot_of_what_is_outside_of_the_pool(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Machine(THIN)
    machine.origins = {"old": "srv"}
    found = read(machine, monkeypatch, tmp_path)
    assert [x.name for x in found.volumes if x.content == UNKNOWN] == ["old"]


def test_views_in_a_pool_of_a_run_that_was_killed_go_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine(THIN)
    view = f"bareon-{GROUP}-pool0"
    machine.shown = [f"{view}-data", view, f"{view}-2"]
    done: list[str] = []
    read(machine, monkeypatch, tmp_path, done)
    assert done[:4] == ["activate srv", "hide", "hide", "hide"]
