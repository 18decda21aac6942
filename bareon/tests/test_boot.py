# SPDX-License-Identifier: Apache-2.0
"""More than one image: what is told about them, and the script that switches between them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.boot import bareon_boot, info, menu, other_systems
from bareon.boot.disks import BootDisk, _name
from bareon.boot.info import Listed
from bareon.boot.install import _at_its_place
from bareon.boot.platform import PC_BIOS, PC_UEFI
from bareon.boot.several import InstallMultiboot, _warn_of_one_kernel
from bareon.boot.single import InstallGrub
from bareon.cmd import boot
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.plan.plan import Plan
from bareon.storage.filesystem import ESP, Filesystem, PlannedFilesystem
from bareon.storage.kind import LINUX_DATA
from bareon.system.bindings.fstab import Fstab
from bareon.system.bindings.home import Home
from bareon.system.tree import Tree
from bareon.tests.cases import HERE, load, node, plan_of
from bareon.tools import grub, mount, osprober

IMAGES = [
    Listed(
        Image("centos", Location("rsync://a/a"), image_name="centos-7.1", uuid="2a86b00d"),
        0,
        "centos",
        "CentOS (on /dev/a)",
        "ra",
    ),
    Listed(Image("tools", Location("rsync://a/b"))),
    Listed(Image("1", Location("rsync://a/c")), 1, "debian", "Debian\t12 (on /dev/b)", "rb"),
    Listed(Image("third", Location("rsync://a/d"), uuid="157636d8"), 2, "debian", "Debian 13 (on /dev/c)", "rc"),
]


@pytest.fixture
def partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a multiboot partition."""
    folder = tmp_path / "boot/grub2"
    folder.mkdir(parents=True)
    entries = [
        menu.Entry(x.title, "/vmlinuz", None, "u", ("ro", "set", "default=7")) for x in IMAGES if x.number is not None
    ]
    (folder / "grub.cfg").write_text(menu.configuration(entries, menu.once(), default=2))
    (folder / "grubenv").write_text(menu.environment())
    (folder / "bareon-images").write_text(info.table(IMAGES))
    monkeypatch.setenv("BAREON_MULTIBOOT", str(tmp_path))
    return folder


def _run(*words: str) -> tuple[int, str, str]:
    done = subprocess.run(["sh", "-s", "--", *words], input=bareon_boot.script(["u"]), capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def _default(partition: Path) -> list[str]:
    return [line for line in (partition / "grub.cfg").read_text().splitlines() if line.startswith("set default=")]


def test_what_is_told_has_the_keys_of_the_specification() -> None:
    found = info.document(IMAGES, "third", "m")
    assert found["current_element"] == 2
    assert found["multiboot_partition"] == "m"
    assert set(found) == {"elements", "current_element", "multiboot_partition"}
    assert found["elements"][0] == {
        "grub_id": 0,
        "image_name": "centos-7.1",
        "os_id": "centos",
        "image_uuid": "2a86b00d",
        "boot_name": "CentOS (on /dev/a)",
        "root_uuid": "ra",
    }
    # Whether a reader takes current_element for an index or for a grub_id, it is right.
    assert [element["grub_id"] for element in found["elements"]] == [0, 1, 2]


def test_boot_info_replaces_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "boot-info.json").symlink_to("victim")
    info.save({"elements": []}, str(tmp_path / "boot-info.json"))
    assert json.loads((tmp_path / "boot-info.json").read_text()) == {"elements": []}
    assert (tmp_path / "boot-info.json").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "victim").read_text() == "precious"
    with pytest.raises(ActionFailed, match="--boot_info_path"):
        info.save({}, str(tmp_path / "absent/boot-info.json"))


def test_list(partition: Path) -> None:
    code, out, _ = _run("list")
    assert code == 0
    assert out.splitlines() == [
        "  0  2a86b00d  centos  CentOS (on /dev/a)",
        "  -  -  tools  (cannot boot: holds no system)",
        "  1  -  1  Debian12 (on /dev/b)",
        "* 2  157636d8  third  Debian 13 (on /dev/c)",
    ]


@pytest.mark.parametrize(
    ("image", "number"),
    [("centos", 0), ("2a86b00d", 0), ("centos-7.1", 0), ("ra", 0), ("0", 0), ("1", 1), ("third", 2), ("157636d8", 2)],
)
def test_switch(partition: Path, image: str, number: int) -> None:
    before = (partition / "grub.cfg").read_text()
    assert _run("switch", "third", "--once")[0] == 0
    code, out, _ = _run("switch", image)
    assert code == 0
    assert f"* {number}  " in out
    assert _default(partition) == [f"set default={number}"]
    assert (partition / "grub.cfg").read_text() == before.replace("\nset default=2\n", f"\nset default={number}\n")
    assert "next_entry" not in (partition / "grubenv").read_text()


def test_once(partition: Path) -> None:
    (partition / "grubenv").write_text("# GRUB Environment Block\nother=kept\nnext_entry=1\n".ljust(1024, "#"))
    code, out, _ = _run("switch", "--once", "centos")
    assert code == 0
    assert "> 0  " in out
    assert "* 2  " in out
    assert _default(partition) == ["set default=2"]
    block = (partition / "grubenv").read_bytes()
    assert len(block) == 1024
    assert block.rstrip(b"#") == b"# GRUB Environment Block\nother=kept\nnext_entry=0\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "usage"),
        (["nonsense"], 2, "usage"),
        (["switch"], 2, "which image"),
        (["switch", "absent"], 2, "there is no image 'absent'"),
        (["switch", "tools"], 2, "image 'tools' cannot boot"),
        (["switch", "-"], 2, "no option -"),
        (["switch", "3"], 2, "there is no image '3'"),
        (["switch", "centos", "third"], 2, "one image"),
        (["switch", "centos", "--ever"], 2, "no option --ever"),
        (["list", "more"], 2, "no arguments"),
    ],
)
def test_what_is_refused_changes_nothing(partition: Path, words: list[str], code: int, said: str) -> None:
    before = {path: path.read_bytes() for path in partition.iterdir()}
    found, _, err = _run(*words)
    assert (found, said in err) == (code, True), err
    assert {path: path.read_bytes() for path in partition.iterdir()} == before


@pytest.mark.parametrize("evil", ["0/;1e touch HERE;s/a/b", "$(touch HERE)", "0\ntouch HERE", "1 1", "x"])
def test_a_number_in_the_list_of_images_is_a_number(partition: Path, evil: str, tmp_path: Path) -> None:
    """Root of each deployed image can write to the list, and whoever switches is root of another system."""
    images = partition / "bareon-images"
    lines = images.read_text().splitlines()
    there = evil.replace("HERE", str(tmp_path / "made"))
    lines[0] = "\t".join([there, *lines[0].split("\t")[1:]])
    images.write_text("\n".join(lines) + "\n")
    before = (partition / "grub.cfg").read_text(), (partition / "grubenv").read_text()
    for words in (["switch", "centos"], ["switch", "--once", "centos"]):
        code, _, err = _run(*words)
        assert code in (2, 6) and ("damaged" in err or "there is no image" in err)
    assert ((partition / "grub.cfg").read_text(), (partition / "grubenv").read_text()) == before
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("place", ["grub.cfg.new", "grubenv.new"])
def test_nothing_is_written_through_a_link(partition: Path, tmp_path: Path, place: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for target in (victim, tmp_path / "none"):
        (partition / place).symlink_to(target)
        assert _run("switch", "centos")[0] == 0
    assert victim.read_text() == "precious" and not (tmp_path / "none").exists()
    assert _default(partition) == ["set default=0"]


@pytest.mark.parametrize("place", ["..", ".", "grub.cfg", "grubenv", "bareon-images"])
def test_no_link_is_followed(partition: Path, tmp_path: Path, place: str) -> None:
    path = Path(os.path.normpath(partition / place))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    for words in (["list"], ["switch", "centos"]):
        code, out, err = _run(*words)
        assert code == 4 and "there is a link on the boot loader's partition: /boot" in err and not out


def test_a_grub_cfg_without_its_line_is_left_alone(partition: Path) -> None:
    (partition / "grub.cfg").write_text("menuentry 'x' {\n}\n")
    code, _, err = _run("switch", "centos")
    assert code == 6
    assert "no line 'set default='" in err
    assert (partition / "grub.cfg").read_text() == "menuentry 'x' {\n}\n"


def test_the_command_of_the_ramdisk_is_the_same_script(partition: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if os.geteuid():
        pytest.skip("the lock is root's")
    assert boot.main(["switch", "centos"]) == 0
    assert _default(partition) == ["set default=0"]
    assert boot.main(["switch", "absent"]) == 2
    assert boot.main(["--help"]) == 0
    assert "usage: bareon-boot list" in capfd.readouterr().out


def test_the_list_of_images_does_not_move_a_cursor(partition: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Root of each deployed image can write to the partition that it lies on."""
    if os.geteuid():
        pytest.skip("the lock is root's")
    images = partition / "bareon-images"
    images.write_text(images.read_text().replace("CentOS", "Cent\x1b[2J\x9bOS"))
    assert boot.main(["list"]) == 0
    assert "Cent[2J\\x9bOS" in (out := capfd.readouterr().out)
    assert all(line.isprintable() for line in out.split("\n"))


def test_names_of_os_prober() -> None:
    output = "/dev/vda3:Debian GNU/Linux 12 (bookworm):Debian:linux\n/dev/vda1@/EFI/x:Windows:Windows:efi\n"
    assert osprober.parse(output)["/dev/vda3"] == "Debian GNU/Linux 12 (bookworm)"
    assert osprober.parse("") == {}


def _plan(name: str) -> Plan:
    return plan_of(load(HERE / "cases/plan" / f"{name}.yaml"))


def test_a_disk_has_a_name_that_firmware_can_show() -> None:
    """It is a word of efibootmgr's, and what a disk says of itself may be anything."""
    disk = node("two-disks").disks[0]
    for serial, name in (("QM\xe9\x1b[2J\n\u202e00001", "QM__[2J__00001"), ("x" * 100, "x" * 64)):
        assert _name(replace(disk, serial=serial)) == name


def test_one_image_mounts_the_first_esp_and_several_do_not() -> None:
    layout = _plan("uefi-boot-loader").layout
    fs = layout.mounted_esp("a")
    assert fs
    assert fs.device == "/dev/vda1"
    line = f"UUID={fs.uuid} /boot/efi vfat umask=0077,nofail 0 2\n"
    assert line in str(Fstab().bound("", None, Home(layout, "a", volumes=(*layout.tree("a"), fs))).text)
    assert _plan("multiboot-uefi").layout.mounted_esp("a") is None
    assert _plan("root-and-swap").layout.mounted_esp("a") is None


def test_field_48_the_esp_of_the_input_is_the_one_that_boots() -> None:
    plan = _plan("field-48-own-esp")
    table = plan.layout.disks[0].partitions[1]
    assert (table.type_guid, table.name, table.role) == (ESP, "firmware", "esp")
    assert isinstance(table.content, PlannedFilesystem)
    assert table.content.wanted.fat32
    step = plan.steps[-1]
    assert isinstance(step, InstallGrub)
    assert [(x.device, x.number, x.esp and x.esp.device) for x in step.disks] == [
        ("/dev/vda", 2, "/dev/vda2"),
        ("/dev/vdb", 1, "/dev/vdb1"),
    ]
    # It is in fstab as the input says, and no other one beside it.
    assert plan.layout.mounted_esp("a") is None
    assert [x.device for x in plan.layout.tree("a") if x.point == "/boot/efi"] == ["/dev/vda2"]
    # One file system cannot be mounted twice at one place: GRUB finds it where the tree has it.
    tree = Tree("/nowhere", plan.layout.tree("a"))
    held = [isinstance(_at_its_place(x.esp, tree), contextlib.nullcontext) for x in step.disks if x.esp]
    assert held == [True, False]
    assert _plan("field-48-own-esp-on-bios").layout.disks[0].partitions[1].type_guid == LINUX_DATA


def _shared_boot(tmp_path: Path, modules: dict[str, list[str]]) -> tuple[InstallMultiboot, dict[str, Tree]]:
    """The last step of a plan with two images, and their trees with one /boot, in which are kernels 6.1 and 6.12."""
    step = _plan("field-31-shared-boot").steps[-1]
    assert isinstance(step, InstallMultiboot)
    trees = {}
    for image, releases in modules.items():
        trees[image] = tree = Tree(str(tmp_path / image), step.layout.tree(image))
        Path(tree.root).mkdir()
        tree.write("/usr/sbin/init", "")
        for release in ("6.1", "6.12"):
            tree.write(f"/boot/vmlinuz-{release}", "kernel")
            tree.write(f"/boot/initrd.img-{release}", "initramfs")
        for release in releases:
            tree.write(f"/usr/lib/modules/{release}/modules.dep", "")
    return step, trees


@pytest.mark.pain("kernel-of-another-image")
def test_field_31_each_entry_has_its_own_kernel(tmp_path: Path) -> None:
    step, trees = _shared_boot(tmp_path, {"deb12": ["6.1"], "deb13": ["6.12"]})
    found = [step._found(image, trees) for image in trees]
    assert [(x.entry.kernel, x.entry.initrd) for x in found if x] == [
        ("/vmlinuz-6.1", "/initrd.img-6.1"),
        ("/vmlinuz-6.12", "/initrd.img-6.12"),
    ]


def test_field_31_a_tree_without_modules_has_no_kernel_of_another(tmp_path: Path) -> None:
    step, trees = _shared_boot(tmp_path, {"deb12": ["6.1", "6.12"], "deb13": []})
    found = step._found("deb12", trees)
    assert found and found.older and (found.entry.kernel, found.older.image) == ("/vmlinuz-6.12", "/vmlinuz-6.1")
    assert step._found("deb13", trees) is None


def test_titles_are_what_the_images_say_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, trees = _shared_boot(tmp_path, {"deb12": ["6.1"], "deb13": ["6.12"]})
    trees["deb12"].write("/etc/os-release", "PRETTY_NAME='Debian 12: bookworm'\n")
    systems = {image: step._found(image, trees) for image in trees}
    there = {image: found for image, found in systems.items() if found}
    read = {found.device: "a line of the ramdisk's /etc/shadow" for found in there.values()}
    monkeypatch.setattr(osprober, "systems", lambda: read)
    assert other_systems.probed({image: found.device for image, found in there.items()}) == {"os_prober": "2 of 2"}
    titles = [x.title.partition(" (on ")[0] for x in step._listed(systems)]
    assert titles == ["Debian 12: bookworm", "deb13"]


def test_esps_are_mounted_while_os_prober_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that no image has mounted, to be read alone: it takes many times as long with what is not mounted."""
    there: list[str] = []

    @contextlib.contextmanager
    def mounted(device: str, place: str, *, kind: str, options: str) -> Iterator[None]:
        assert (kind, options, Path(place).is_dir()) == ("vfat", "ro", True)
        there.append(device)
        yield
        there.remove(device)

    monkeypatch.setattr(other_systems, "PLACE", str(tmp_path))
    monkeypatch.setattr(mount, "mounted", mounted)
    esps = [PlannedFilesystem(f"/dev/vd{x}1", 1, "vfat", "A-1", Filesystem("vfat", ())) for x in "abc"]
    disks = [BootDisk(f"/dev/vd{x}", "x", PC_UEFI, esp) for x, esp in zip("abc", esps, strict=True)]
    with other_systems.esps_mounted([*disks, BootDisk("/dev/vdd", "x", PC_BIOS)], {"/dev/vdb1"}):
        assert there == ["/dev/vda1", "/dev/vdc1"]
    assert there == []


def test_field_31_one_kernel_for_two_images_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    step, trees = _shared_boot(tmp_path, {"deb12": ["6.1"], "deb13": ["6.1"]})
    _warn_of_one_kernel({image: found.entry for image in trees if (found := step._found(image, trees))})
    assert "images deb12, deb13 share /vmlinuz-6.1 and its initramfs" in caplog.text


def test_what_can_be_known_before_is_refused_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    step = _plan("multiboot").steps[-1]
    assert isinstance(step, InstallMultiboot)
    monkeypatch.setattr(grub, "has_modules", lambda target: target == "i386-pc")
    replace(step, boot_info=str(tmp_path / "info.json")).preflight()
    with pytest.raises(UnsuitableNode, match="boot_info_path"):
        replace(step, boot_info=str(tmp_path / "absent/info.json")).preflight()
    uefi = _plan("multiboot-uefi").steps[-1]
    with pytest.raises(UnsuitableNode, match="no GRUB for x86_64-efi"):
        uefi.preflight()


def test_modules_for_a_kernel_on_a_logical_volume() -> None:
    layout = _plan("multiboot").layout
    assert layout.system(layout.tree("b")[0].filesystem).grub_modules == ("xfs", "lvm")
    assert layout.system(layout.tree("a")[0].filesystem).grub_modules == ("ext2",)
    stacked = _plan("lvm-on-raid").layout
    volume = stacked.aggregates[-1].devices[0].content
    assert isinstance(volume, PlannedFilesystem)
    assert stacked.system(volume).grub_modules[1:4] == ("lvm", "mdraid1x", "diskfilter")
