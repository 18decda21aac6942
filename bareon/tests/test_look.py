# SPDX-License-Identifier: Apache-2.0
"""In which order the probe starts what it looks into, and that it stops all of it again, whatever comes between.

The tools are those of a made-up machine, since this is about order and tries. Disks are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bareon import look
from bareon.errors import CommandError, UnsuitableNode
from bareon.sizes import MIB
from bareon.storage.disk import DiskFacts
from bareon.storage.kind import Signature
from bareon.storage.lvm import VolumeGroupFacts
from bareon.storage.lvm import search as lvm_search
from bareon.storage.md import ArrayFacts
from bareon.storage.md import search as md_search
from bareon.tools import blkid, device, lvm, mdadm, udev
from bareon.tools import device as devices

DISK = "/dev/vda"
BASE, DATA = (f"{letter * 6}-{'-'.join([letter * 4] * 5)}-{letter * 6}" for letter in "bd")
MIRROR = mdadm.Array("1:1:1:1", "mirror", "raid1", 1)


@dataclass
class Machine:
    """Group ``base`` on a disk, array ``mirror`` on its volume ``leg``, group ``data`` on that, ``srv`` in it.

    ``log`` says what was started (+), stopped (-), and could not be stopped (!). ``before_stopping`` is what udev
    does meanwhile, one thing before each stop; what is ``stubborn`` is never stopped.
    """

    running: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=list)
    stubborn: set[str] = field(default_factory=set)
    before_stopping: list[Callable[[], None]] = field(default_factory=list)
    unreadable: str = ""
    bad: str = ""
    where: Path = Path()

    def show(self) -> None:
        """Have sysfs say what runs."""
        for name, kernel, above in (("base", "dm-0", "md127"), ("mirror", "md127", "dm-1"), ("data", "dm-1", "")):
            place = self.where / kernel
            for path in sorted(place.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            if place.exists():
                place.rmdir()
            if name in self.running:
                (place / "holders").mkdir(parents=True)
                if kernel.startswith("dm"):
                    (place / "dm").mkdir()
                    uuid = {"base": BASE, "data": DATA}[name].replace("-", "")
                    (place / "dm/uuid").write_text(f"LVM-{uuid}{'v' * 32}\n")
                else:
                    (place / "md").mkdir()
                    (place / "md/array_state").write_text("readonly\n")
                if {"md127": "mirror", "dm-1": "data"}.get(above) in self.running:
                    (place / "holders" / above).mkdir()

    def start(self, name: str) -> None:
        self.log.append(f"+{name}")
        self.running.add(name)
        self.show()

    def stop(self, name: str) -> None:
        if self.before_stopping:
            self.before_stopping.pop(0)()
        above = {"base": "mirror", "mirror": "data"}.get(name)
        if above in self.running or name in self.stubborn:
            self.log.append(f"!{name}")
            raise CommandError(("stop", name), 1, "is busy")
        self.log.append(f"-{name}")
        self.running.discard(name)
        self.show()

    def report(self) -> lvm.Report:
        rows = [("base", BASE, DISK, "leg")]
        rows += [("data", DATA, "/dev/md127", "srv")] if "mirror" in self.running else []
        return lvm.Report(
            tuple(lvm.Group(name, uuid, 996 * MIB, 4 * MIB) for name, uuid, _, _ in rows),
            tuple(lvm.PhysicalVolume(device, uuid, MIB) for _, uuid, device, _ in rows),
            tuple(lvm.Volume(volume, uuid, 500 * MIB, name in self.running) for name, uuid, _, volume in rows),
        )

    def probe(self, devices: Sequence[str]) -> dict[str, dict[str, str]]:
        if self.bad in devices:
            return {}  # as for a blank device
        found = {"/dev/base/leg": "linux_raid_member", "/dev/md127": "LVM2_member", "/dev/data/srv": "ext4"}
        if self.unreadable in devices:
            raise CommandError(("blkid", self.unreadable), 1, "ended with code 1")
        return {device: {"TYPE": found[device]} for device in devices}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    found = Machine(where=tmp_path)
    names = {
        "/dev/base/leg": "/dev/dm-0",
        "/dev/md/1111": "/dev/md127",
        "/dev/md/mirror": "/dev/md127",
        "/dev/data/srv": "/dev/dm-1",
    }
    by_uuid = {BASE: "base", DATA: "data"}
    for module in (look, lvm_search, md_search):
        monkeypatch.setattr(module, "SYS", tmp_path)
    monkeypatch.setattr(devices, "missing", lambda programs: [])
    monkeypatch.setattr(md_search, "_size", lambda device: 400 * MIB)
    monkeypatch.setattr(lvm_search, "is_there", lambda device: True)
    monkeypatch.setattr(devices, "kernel_name", lambda device: names.get(device, device))
    monkeypatch.setattr(mdadm, "examine", lambda device: MIRROR if device == "/dev/base/leg" else None)
    monkeypatch.setattr(mdadm, "detail", lambda device: MIRROR)
    monkeypatch.setattr(mdadm, "assemble", lambda *_, read_only: found.start("mirror"))
    monkeypatch.setattr(mdadm, "stop", lambda device: found.stop("mirror"))
    monkeypatch.setattr(lvm, "report", found.report)
    monkeypatch.setattr(lvm, "activate", lambda name, read_only: found.start(name))
    monkeypatch.setattr(lvm, "deactivate", lambda uuid: found.stop(by_uuid[uuid]))
    monkeypatch.setattr(blkid, "probe", found.probe)
    monkeypatch.setattr(udev, "settle", lambda: found.log.append("settle"))
    monkeypatch.setattr(look, "unreadable", lambda device: "Input/output error" if device == found.bad else None)
    return found


DISKS = (DiskFacts(DISK, 1000 * MIB, content=Signature("LVM2_member")),)


def _read() -> tuple[list[ArrayFacts], list[VolumeGroupFacts]]:
    found = look.structures(DISKS)
    return [x for x in found if isinstance(x, ArrayFacts)], [x for x in found if isinstance(x, VolumeGroupFacts)]


STARTED = ["+base", "settle", "+mirror", "+data", "settle"]
STOPPED = ["-data", "-mirror", "-base"]


def test_what_stands_on_volumes_is_found_and_stopped_from_the_top(machine: Machine) -> None:
    arrays, groups = _read()
    assert machine.log == [*STARTED, *STOPPED, "settle"]
    assert [(x.name, x.members, x.alias, x.device) for x in arrays] == [
        ("mirror", ("/dev/base/leg",), "/dev/md/mirror", None)
    ]
    assert [(x.name, x.members, x.volumes[0].active) for x in groups] == [
        ("base", (DISK,), False),
        ("data", ("/dev/md/mirror",), False),
    ]
    assert groups[1].volumes[0].content == Signature("ext4")


def test_what_ran_before_is_left_alone(machine: Machine) -> None:
    machine.running = {"base", "mirror"}
    machine.show()
    arrays, groups = _read()
    assert machine.log == ["+data", "settle", "-data", "settle"]
    assert arrays[0].device == "/dev/md127"
    assert [x.volumes[0].active for x in groups] == [True, False]


def test_what_udev_activates_on_top_is_stopped_too(machine: Machine) -> None:
    # It is there again when the array below is to be stopped, and so goes with what is below that.
    machine.before_stopping = [lambda: None, lambda: machine.start("data")]
    arrays, groups = _read()
    assert machine.log[len(STARTED) :] == ["-data", "+data", "!mirror", *STOPPED, "settle"]
    assert not machine.running
    assert arrays[0].device is None
    assert not any(volume.active for group in groups for volume in group.volumes)


@pytest.mark.pain("stacked-and-busy")
def test_what_udev_starts_again_afterwards_is_stopped_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = ["base"]
    monkeypatch.setattr(udev, "settle", lambda: machine.start(again.pop()) if again and not machine.running else None)
    _read()
    assert machine.log == ["+base", "+mirror", "+data", *STOPPED, "+base", "-base"]


def test_what_cannot_be_stopped_is_told_of_as_running(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.stubborn = {"mirror"}
    arrays, groups = _read()
    assert machine.log[len(STARTED) :] == ["-data", *["!mirror", "!mirror", "settle"] * look.TRIES]
    assert arrays[0].device == "/dev/md127"
    assert [(group.name, group.volumes[0].active) for group in groups] == [("base", True), ("data", False)]
    assert "array mirror was started to look inside, and still runs: " in caplog.text
    assert "volume group base was started to look inside, and still runs: " in caplog.text


@pytest.mark.parametrize("device", ["/dev/base/leg", "/dev/md127", "/dev/data/srv"])
def test_what_cannot_be_read_is_named_and_nothing_is_left_started(machine: Machine, device: str) -> None:
    machine.unreadable = device
    with pytest.raises(UnsuitableNode, match=f"^{device} cannot be read: "):
        _read()
    assert not machine.running


@pytest.mark.pain("unreadable-is-not-blank")
def test_what_cannot_be_read_is_not_taken_for_blank(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.bad = "/dev/data/srv"
    _, groups = _read()
    assert groups[1].volumes[0].content == Signature("unreadable")
    assert "/dev/data/srv cannot be read: Input/output error" in caplog.text
    assert not machine.running


def test_unreadable_is_what_fails_to_be_read_and_not_what_is_absent(tmp_path: Path) -> None:
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(10 << 20))
    found = [device.unreadable(str(x)) for x in (blank, tmp_path / "absent", tmp_path)]
    assert found == [None, None, "Is a directory"]
