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

    def run(self, disks: int = 2, folder: str = "debian", token: str = "") -> tuple[int, str]:
        (self.place / "own").write_text(f"{self.own}\n")
        environment = {
            "PATH": f"{self.place}/programs:{os.environ['PATH']}",
            "OWN": str(self.place / "own"),
            "BAREON_ESP": str(self.place / "aa-1"),
            "BAREON_DEVICES": str(self.place),
            "BAREON_SETTLE": "0",
        }
        text = esp_copies.script(_disks(disks), folder, token)
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


#: What an EFI system partition with systemd-boot has, from the folder of EFI.
ENTRIES = {
    "systemd/systemd-bootx64.efi": "loader",
    "Linux/debian-6.3.efi": "unified",
    "../loader/loader.conf": "default debian-*.conf",
    "../loader/random-seed": "of this partition alone",
    "../loader/entries/debian-6.2.conf": "linux /debian/6.2/linux",
    "../loader/entries/other.conf": "efi /EFI/other.efi",
    "../debian/6.2/linux": "kernel 6.2",
    "../debian/6.2/initrd.img": "initramfs 6.2",
}


@pytest.mark.parametrize("broken", ["cp", "mv"])
def test_a_partition_that_is_full_keeps_no_other_from_its_copy(machine: Machine, broken: str) -> None:
    (machine.place / "cc-1").mkdir()
    machine.put({"debian/grubx64.efi": "grub"})
    full = f'case $(readlink -f "${{3:-$2}}") in */bb-1/*) exit 1 ;; esac; exec /bin/{broken} "$@"'
    machine._program(broken, full)
    code, said = machine.run(3)
    assert (code, {*said.splitlines()}) == (1, {"bareon-esp: partition bb-1 has not got all of the boot loader"})
    assert machine.files("cc-1") == machine.files("aa-1")
    assert machine.files("bb-1") == {}


def _systemd_boot(machine: Machine) -> tuple[int, str]:
    return machine.run(folder="systemd", token="debian")


def _all(machine: Machine, disk: str) -> dict[str, str]:
    top = machine.place / disk
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


def test_kernels_of_systemd_boot_get_to_all_disks_and_go_from_them(machine: Machine) -> None:
    machine.put(ENTRIES)
    old = {"../loader/entries/debian-6.1.conf": "linux /debian/6.1/linux", "../debian/6.1/linux": "kernel 6.1"}
    mine = {"../loader/entries/windows.conf": "efi /x", "../loader/random-seed": "mine", "Linux/mine.efi": "mine"}
    machine.put({**old, **mine, "Linux/debian-6.1.efi": "old", "../debian/6.2/linux.new": "cut off"}, "bb-1")
    assert _systemd_boot(machine) == (0, "")
    assert _all(machine, "bb-1") == {
        "EFI/BOOT/BOOTX64.EFI": "loader",
        "EFI/Linux/debian-6.3.efi": "unified",
        "EFI/Linux/mine.efi": "mine",
        "EFI/systemd/systemd-bootx64.efi": "loader",
        "debian/6.2/initrd.img": "initramfs 6.2",
        "debian/6.2/linux": "kernel 6.2",
        "loader/entries/debian-6.2.conf": "linux /debian/6.2/linux",
        "loader/entries/windows.conf": "efi /x",
        "loader/loader.conf": "default debian-*.conf",
        "loader/random-seed": "mine",
    }
    assert not (machine.place / "bb-1/debian/6.1").exists()
    assert "loader/random-seed" in _all(machine, "aa-1")


def test_an_entry_of_systemd_boot_does_not_come_without_its_kernel(machine: Machine) -> None:
    machine.put(ENTRIES)
    machine._program("cp", 'case $1 in *initrd.img) : >"$2"; exit 1 ;; esac; exec /bin/cp "$@"')
    code, said = _systemd_boot(machine)
    assert code == 1
    assert "partition bb-1 has not got all of the entries" in said
    there = _all(machine, "bb-1")
    assert "loader/entries/debian-6.2.conf" not in there
    assert not [x for x in there if x.endswith(".new")]


def test_a_partition_without_entries_of_the_system_is_not_followed(machine: Machine) -> None:
    machine.put({"systemd/systemd-bootx64.efi": "loader", "../loader/entries/other.conf": "efi /x"})
    machine.put({"../loader/entries/debian-6.1.conf": "linux /x", "../debian/6.1/linux": "kernel 6.1"}, "bb-1")
    before = _all(machine, "bb-1")
    code, said = _systemd_boot(machine)
    assert code == 1
    assert "there is no entry of debian in" in said
    assert _all(machine, "bb-1") == before


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
    esp_copies.renew(tree, _disks(2), "systemd", "debian", wanted=True)
    text = str(tree.read("/etc/systemd/system/bareon-esp.path"))
    watched = [x.removeprefix("PathChanged=/boot/efi/") for x in text.split("\n") if x.startswith("PathChanged=")]
    assert watched == ["EFI/systemd", "EFI/Linux", "loader/entries"]
    esp_copies.renew(tree, _disks(1), "debian", wanted=True)
    assert _found(tree) == []


def test_an_image_without_systemd_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = Tree(str(tmp_path))
    assert esp_copies.renew(tree, _disks(2), "debian", wanted=True) == {
        "esp_copies": "none, the image has no systemd"
    }
    assert "has no systemd" in caplog.text
    assert _found(tree) == []
