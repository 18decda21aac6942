# SPDX-License-Identifier: Apache-2.0
"""What copies a deployed system's boot loader to other disks, run on folders in the place of partitions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bareon.boot import esp_copies
from bareon.boot.disks import BootDisk
from bareon.boot.platform import PC_UEFI
from bareon.storage.filesystem import PlannedFilesystem
from bareon.system.tree import Tree
from bareon.tests.test_boot import _plan

_NAMES = ("bareon-esp", "bareon-esp.path", "bareon-esp.service")


def _disks(count: int) -> list[BootDisk]:
    layout = _plan("esp-copies").layout
    esp = next(p.content for disk in layout.disks for p in disk.partitions if p.role == "esp")
    assert isinstance(esp, PlannedFilesystem)
    return [BootDisk(f"/dev/vd{x}", f"bareon {x}", PC_UEFI, esp, 1, f"{x}{x}-1".upper()) for x in "abc"[:count]]


class Machine:
    """Folders for partitions; ``mount`` makes a link to one, and ``findmnt`` says that the first is at /boot/efi."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.own = "AA-1"
        for name in ("aa-1", "bb-1", "programs"):
            (place / name).mkdir()
        self._program(
            "mount", 'for last; do :; done; rmdir "$last"; eval "device=\\${$(($# - 1))}"; ln -s "$device" "$last"'
        )
        self._program("umount", '[ ! -L "$1" ] || { rm "$1"; mkdir "$1"; }')
        self._program("findmnt", 'cat "$OWN"')

    def _program(self, name: str, text: str) -> None:
        path = self.place / "programs" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def put(self, files: dict[str, str], disk: str = "aa-1") -> None:
        for name, content in files.items():
            path = self.place / disk / "EFI" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def files(self, disk: str) -> dict[str, str]:
        top = self.place / disk / "EFI"
        return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}

    def run(self, disks: int = 2) -> tuple[int, str]:
        (self.place / "own").write_text(f"{self.own}\n")
        environment = {
            "PATH": f"{self.place}/programs:{os.environ['PATH']}",
            "OWN": str(self.place / "own"),
            "BAREON_ESP": str(self.place / "aa-1"),
            "BAREON_DEVICES": str(self.place),
            "BAREON_SETTLE": "0",
        }
        text = esp_copies.script(_disks(disks), "debian")
        done = subprocess.run(["sh", "-s"], input=text, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.pain("esp-on-md")
def test_an_update_gets_to_all_disks_and_to_the_removable_path(machine: Machine) -> None:
    loaders = {"debian/shimx64.efi": "shim 2", "debian/grubx64.efi": "grub 2", "debian/grub.cfg": "cfg"}
    machine.put({**loaders, "debian/fbx64.efi": "fb", "debian/BOOTX64.CSV": "csv", "BOOT/BOOTX64.EFI": "shim 1"})
    machine.put({"debian/grubx64.efi": "grub 1", "Microsoft/x.efi": "windows", "BOOT/grubx64.efi": "grub 1"}, "bb-1")
    assert machine.run() == (0, "")
    boot = {"BOOT/BOOTX64.EFI": "shim 2", "BOOT/grubx64.efi": "grub 2", "BOOT/grub.cfg": "cfg"}
    copied = {**loaders, **boot, "debian/fbx64.efi": "fb", "debian/BOOTX64.CSV": "csv"}
    assert machine.files("aa-1") == copied
    assert machine.files("bb-1") == {**copied, "Microsoft/x.efi": "windows"}


def test_a_grub_without_shim_is_the_loader(machine: Machine) -> None:
    machine.put({"debian/grubx64.efi": "grub"})
    assert machine.run() == (0, "")
    assert machine.files("bb-1") == {"BOOT/BOOTX64.EFI": "grub", "debian/grubx64.efi": "grub"}


def test_a_disk_that_is_gone_is_passed_over(machine: Machine) -> None:
    machine.put({"debian/grubx64.efi": "grub"})
    code, said = machine.run(3)
    assert code == 0
    assert "partition cc-1 is on no disk" in said
    assert "BOOT/BOOTX64.EFI" in machine.files("bb-1")


@pytest.mark.parametrize(
    ("own", "files", "said"),
    [
        ("", {"debian/grubx64.efi": "grub"}, "is none of the EFI system partitions that bareon made"),
        ("dd-1", {"debian/grubx64.efi": "grub"}, "is none of the EFI system partitions that bareon made"),
        ("aa-1", {"debian/grub.cfg": "cfg"}, "there is none of shimx64.efi grubx64.efi in"),
    ],
)
def test_what_is_refused_changes_nothing(machine: Machine, own: str, files: dict[str, str], said: str) -> None:
    machine.own = own
    machine.put(files)
    machine.put({"debian/grubx64.efi": "good"}, "bb-1")
    code, words = machine.run()
    assert code == 1
    assert said in words
    assert machine.files("bb-1") == {"debian/grubx64.efi": "good"}


def test_a_disk_that_cannot_be_mounted_is_a_failure_and_the_others_are_served(machine: Machine) -> None:
    machine.put({"debian/grubx64.efi": "grub"})
    (machine.place / "cc-1").mkdir()
    real = (machine.place / "programs/mount").read_text()
    (machine.place / "programs/mount").write_text(
        real.replace("#!/bin/sh\n", "#!/bin/sh\ncase $* in *bb-1*) exit 32; esac\n")
    )
    assert machine.run(3)[0] == 1
    assert machine.files("bb-1") == {}
    assert "BOOT/BOOTX64.EFI" in machine.files("cc-1")


def _found(tree: Tree) -> list[str]:
    return sorted(path.name for path in Path(tree.root).rglob("bareon-esp*"))


def test_what_is_written_and_what_a_later_run_takes_out(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/usr/lib/systemd/systemd", "")
    tree.write("/usr/local/bin/x", "")
    (tmp_path / "usr/local/sbin").symlink_to("bin")
    assert esp_copies.renew(tree, _disks(2), "debian", wanted=False) == {}
    assert _found(tree) == []
    for _ in range(2):
        assert esp_copies.renew(tree, _disks(2), "debian", wanted=True) == {"esp_copies": "2 EFI system partitions"}
    assert _found(tree) == sorted([*_NAMES, "bareon-esp.path"])
    assert "PathChanged=/boot/efi/EFI/debian\n" in str(tree.read("/etc/systemd/system/bareon-esp.path"))
    assert "ExecStart=/usr/local/bin/bareon-esp\n" in str(tree.read("/etc/systemd/system/bareon-esp.service"))
    assert (tmp_path / "usr/local/bin/bareon-esp").stat().st_mode & 0o777 == 0o755
    wanted = tmp_path / "etc/systemd/system/boot-efi.mount.wants/bareon-esp.path"
    assert wanted.resolve() == tmp_path / "etc/systemd/system/bareon-esp.path"
    esp_copies.renew(tree, _disks(1), "debian", wanted=True)
    assert _found(tree) == []


def test_an_image_without_systemd_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = Tree(str(tmp_path))
    assert esp_copies.renew(tree, _disks(2), "debian", wanted=True) == {
        "esp_copies": "none, the image has no systemd"
    }
    assert "has no systemd" in caplog.text
    assert _found(tree) == []
