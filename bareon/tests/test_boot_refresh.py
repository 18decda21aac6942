# SPDX-License-Identifier: Apache-2.0
"""``bareon-boot refresh``: the menu follows the kernels of an image, chosen as a deployment would choose them."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.boot import bareon_boot, info, menu
from bareon.boot.info import Listed
from bareon.boot.installed import own_kernels
from bareon.boot.menu import Entry
from bareon.boot.several import with_older_kernel
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.system.kernel import Kernel
from bareon.system.tree import Tree
from bareon.tests.test_boot_systems import HERE, deployed_tree, load

#: Entries of three images; those of the second are the ones that change. A kernel of the third is on its /boot.
FIRST = Entry(
    "Debian 12", "/boot/vmlinuz-6.1.0-9-amd64", "/boot/initrd.img-6.1.0-9-amd64", "u-1", ("root=UUID=a", "ro")
)
OURS = Entry("It's \\1 & (on /dev/vda3)", "/boot/vmlinuz-0", "/boot/initrd.img-0", "u-2", ("root=UUID=b", "x=$a'b c"))
THIRD = Entry("Third", "/boot/vmlinuz-7", None, "u-2", ("root=PARTUUID=c",), ("lvm", "xfs"))
IMAGES = [Listed(Image(x, Location(f"rsync://a/{x}")), n, None, x) for n, x in enumerate(("one", "two", "three"))]


def _menu(
    ours: Entry = OURS, older: Mapping[int, Entry] | None = None, default: int = 1, third: Entry = THIRD
) -> str:
    return menu.configuration([FIRST, ours, third], menu.once(), default=default, older=older)


@pytest.fixture
def partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "multiboot/boot/grub2"
    folder.mkdir(parents=True)
    (folder / "grub.cfg").write_text(_menu())
    (folder / "grubenv").write_text(menu.environment())
    (folder / "bareon-images").write_text(info.table(IMAGES))
    monkeypatch.setenv("BAREON_MULTIBOOT", str(folder.parents[1]))
    return folder


@pytest.fixture
def system(tmp_path: Path) -> Path:
    root = tmp_path / "system"
    for version in ("6.1.0-9-amd64", "6.1.0-10-amd64"):
        _add(root, version)
    return root


def _add(root: Path, version: str, *, initrd: bool = True, modules: bool = True) -> None:
    (root / "boot").mkdir(parents=True, exist_ok=True)
    (root / "boot" / f"vmlinuz-{version}").write_text("kernel")
    if initrd:
        (root / "boot" / f"initrd.img-{version}").write_text("initramfs")
    if modules:
        (root / "lib/modules" / version / "kernel").mkdir(parents=True)


def _remove(root: Path, version: str) -> None:
    for name in ("vmlinuz", "initrd.img"):
        (root / "boot" / f"{name}-{version}").unlink()


def _run(root: Path, image: str = "two") -> tuple[int, str]:
    words = ["sh", "-s", "--", "refresh", "--root", str(root), *(["--image", image] if image else [])]
    done = subprocess.run(words, input=bareon_boot.script(["u"]), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def _of(entry: Entry, version: str) -> Entry:
    return _starting(entry, Kernel(f"/boot/vmlinuz-{version}", f"/boot/initrd.img-{version}", version))


def _starting(entry: Entry, kernel: Kernel) -> Entry:
    return Entry(entry.title, kernel.image, kernel.initrd, entry.uuid, entry.arguments, entry.modules)


def _older(entry: Entry, version: str) -> Entry:
    return with_older_kernel(entry, Kernel(f"/boot/vmlinuz-{version}", f"/boot/initrd.img-{version}", version))


@pytest.mark.parametrize("path", sorted(HERE.glob("*.yaml")), ids=lambda x: x.stem)
def test_the_kernels_are_those_that_a_deployment_chooses(path: Path, partition: Path, tmp_path: Path) -> None:
    case = load(path)
    (tmp_path / "system").mkdir()
    tree, _ = deployed_tree(case, tmp_path / "system")
    there = own_kernels(tree, "a")
    prefix = "" if case.get("boot") == "apart" else "/boot"
    has_initrd = there[0].initrd is not None
    stale = Kernel(f"{prefix}/vmlinuz-0", f"{prefix}/initrd-0" if has_initrd else None, "0")
    ours = _starting(OURS, stale)
    older = next((x for x in there[1:] if x.initrd or not has_initrd), None)
    # A file system that a /boot apart would be on is not there, nor the one of the others.
    (partition / "grub.cfg").write_text(_menu(ours))
    code, said = _run(Path(tree.root))
    assert code == 0, said
    wanted = _starting(OURS, there[0])
    rescue = {1: with_older_kernel(wanted, older)} if older else {}
    assert (partition / "grub.cfg").read_text() == _menu(wanted, rescue)
    before = (partition / "grub.cfg").stat()
    assert "up to date" in _run(Path(tree.root))[1]
    assert (partition / "grub.cfg").stat() == before


@pytest.fixture
def mounts(tmp_path: Path, system: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of mounts in which the system is in a subvolume of a btrfs."""
    file = tmp_path / "mountinfo"
    lines = ["20 1 0:20 / / rw - btrfs /dev/none rw", f"21 1 0:30 /@b {system} rw - btrfs /dev/none rw"]
    file.write_text("".join(f"{x}\n" for x in lines))
    monkeypatch.setenv("BAREON_MOUNTS", str(file))
    return file


@pytest.mark.parametrize(
    ("kernel", "found"),
    [
        ("/@b/boot/vmlinuz-0", "/@b/boot/vmlinuz-6.1.0-10-amd64"),
        ("/boot/vmlinuz-0", "/boot/vmlinuz-6.1.0-10-amd64"),
        ("/vmlinuz-0", "/vmlinuz-6.1.0-10-amd64"),
        ("/@bc/boot/vmlinuz-0", "/vmlinuz-6.1.0-10-amd64"),
        ("/@b/vmlinuz-0", "/@b/vmlinuz-6.1.0-10-amd64"),
    ],
)
def test_a_kernel_in_a_subvolume_keeps_it_in_its_path(
    partition: Path, system: Path, mounts: Path, kernel: str, found: str
) -> None:
    (partition / "grub.cfg").write_text(_menu(_starting(OURS, Kernel(kernel, "/initrd-0", "0"))))
    code, said = _run(system)
    assert code == 0, said
    assert f"  linux {found} root=UUID=b" in (partition / "grub.cfg").read_text()


@pytest.mark.parametrize(("inside", "number"), [("/@a", 0), ("/@b", 1), ("/@", None), ("/", None)])
def test_images_in_one_btrfs_are_told_apart(
    partition: Path, system: Path, mounts: Path, inside: str, number: int | None
) -> None:
    names = (("one", "@a"), ("two", "@b"))
    entries = [
        Entry(x, f"/{y}/boot/vmlinuz-0", "/i", "u", ("root=UUID=same", f"rootflags=subvol={y},noatime"))
        for x, y in names
    ]
    (partition / "grub.cfg").write_text(menu.configuration(entries, menu.once(), default=1))
    (partition / "bareon-images").write_text(info.table([replace(x, root_uuid="same") for x in IMAGES[:2]]))
    mounts.write_text(mounts.read_text().replace("/@b", inside))
    text = bareon_boot.script(["u"]).replace("is_on() {", "is_on() { return 0; }\nis_really_on() {")
    words = ["sh", "-s", "--", "refresh", "--root", str(system)]
    done = subprocess.run(words, input=text, capture_output=True, text=True)
    lines = (partition / "grub.cfg").read_text().split("\n")
    changed = [n for n, (_, y) in enumerate(names) if any(f"/{y}/boot/vmlinuz-6.1.0-10" in x for x in lines)]
    if number is None:
        assert (done.returncode, changed) == (4, []), done.stderr
    else:
        assert (done.returncode, changed) == (0, [number]), done.stderr


def test_versions_sort_as_those_of_a_deployment(partition: Path, tmp_path: Path) -> None:
    chance = random.Random(20)
    versions = {
        "".join(
            chance.choice(("6", "06", "10", "9", ".", "-", "~", "rc1", "amd", "amd64", "+", "el8_1", ".old", "debug"))
            for _ in range(chance.randint(2, 7))
        ).lstrip(".-")
        for _ in range(14)
    } - {""}
    root = tmp_path / "system"
    for version in sorted(versions):
        _add(root, version)
    tree = Tree(str(root))
    for _ in range(len(versions) - 1):
        first, second = own_kernels(tree, "two")[:2]
        assert _run(root)[0] == 0
        assert f"{first.image}, older kernel {second.image}\n" in _run(root)[1]
        (root / f"boot/{first.name}").unlink()


def test_an_upgrade_and_a_removal(partition: Path, system: Path) -> None:
    ten = _of(OURS, "6.1.0-10-amd64")
    before = _older(FIRST, "6.0"), _older(THIRD, "5")
    (partition / "grub.cfg").write_text(_menu(older={0: before[0], 2: before[1]}))
    assert _run(system)[0] == 0
    now = _menu(ten, {0: before[0], 1: _older(ten, "6.1.0-9-amd64"), 2: before[1]})
    assert (partition / "grub.cfg").read_text() == now
    _add(system, "6.1.0-11-amd64")
    assert _run(system)[0] == 0
    eleven = _of(OURS, "6.1.0-11-amd64")
    now = _menu(eleven, {0: before[0], 1: _older(eleven, "6.1.0-10-amd64"), 2: before[1]})
    assert (partition / "grub.cfg").read_text() == now
    for version in ("6.1.0-11-amd64", "6.1.0-9-amd64"):
        _remove(system, version)
        assert _run(system)[0] == 0
    assert (partition / "grub.cfg").read_text() == _menu(ten, {0: before[0], 2: before[1]})


@pytest.mark.parametrize(
    ("had", "versions", "default", "moved"),
    [
        ((0, 2), ("1", "2"), 0, 0),
        ((0, 2), ("1", "2"), 3, 3),
        ((0, 2), ("1", "2"), 4, 5),
        ((0, 1, 2), ("1", "2"), 4, 4),
        ((0, 1, 2), ("2",), 3, 3),
        ((0, 1, 2), ("2",), 4, 1),
        ((0, 1, 2), ("2",), 5, 4),
        ((), ("1", "2"), 2, 2),
    ],
)
def test_the_default_stays_the_same_entry(
    had: tuple[int, ...], versions: tuple[str, ...], default: int, moved: int, partition: Path, tmp_path: Path
) -> None:
    for version in versions:
        _add(tmp_path / "system", version)
    entries = (FIRST, OURS, THIRD)
    (partition / "grub.cfg").write_text(_menu(older={n: _older(entries[n], "0") for n in had}, default=default))
    assert _run(tmp_path / "system")[0] == 0
    assert f"\nset default={moved}\n" in (partition / "grub.cfg").read_text()


def test_the_default_moves_in_a_line_that_people_have_edited(partition: Path, system: Path) -> None:
    (partition / "grub.cfg").write_text(_menu(older={2: _older(THIRD, "0")}, default=3).replace("=3\n", "=3 \n"))
    assert _run(system)[0] == 0
    assert "\nset default=4\n" in (partition / "grub.cfg").read_text()


@pytest.mark.parametrize("name", ["initrd", "a;reboot", "a$(b)", "a'b", 'a"{'])
def test_no_name_of_a_file_is_a_word_of_grub(name: str, partition: Path, tmp_path: Path) -> None:
    root = tmp_path / "other"
    for path in ("loader/entries", "id/6.1"):
        (root / "boot" / path).mkdir(parents=True)
    (root / "lib/modules/6.1/kernel").mkdir(parents=True)
    for file in ("linux", name):
        (root / "boot/id/6.1" / file).write_text("x")
    entry = root / "boot/loader/entries/id-6.1.conf"
    entry.write_text(f"title x\nlinux /id/6.1/linux\ninitrd /id/6.1/{name}\n")
    code, said = _run(root)
    written = f"/{name}\n" in (partition / "grub.cfg").read_text()
    assert (code, written) == ((0, True) if name == "initrd" else (4, False)), said


def test_a_kernel_whose_initramfs_is_not_made_yet_waits(partition: Path, system: Path) -> None:
    _add(system, "6.1.0-11-amd64", initrd=False)
    code, said = _run(system)
    assert code == 0 and "/boot/vmlinuz-6.1.0-11-amd64 has no initramfs" in said
    assert "linux /boot/vmlinuz-6.1.0-10-amd64 " in (partition / "grub.cfg").read_text()
    (system / "boot/initrd.img-6.1.0-11-amd64").write_text("made")
    assert _run(system)[0] == 0
    assert "linux /boot/vmlinuz-6.1.0-11-amd64 " in (partition / "grub.cfg").read_text()


def test_kernels_of_another_image_on_one_boot_stay_its_own(partition: Path, tmp_path: Path) -> None:
    for version in ("6", "7"):
        _add(tmp_path / "system", version, modules=False)
    assert _run(tmp_path / "system")[0] == 0
    assert (partition / "grub.cfg").read_text() == _menu(_of(OURS, "6"))
    _add(tmp_path / "system", "5")
    assert _run(tmp_path / "system")[0] == 0
    assert (partition / "grub.cfg").read_text() == _menu(_of(OURS, "5"))


@pytest.mark.parametrize("link", ["/etc/vmlinuz", "../../../outside"])
def test_no_kernel_lies_outside_of_the_system(link: str, partition: Path, system: Path) -> None:
    (system.parent / "outside").write_text("kernel")
    _add(system, "9")
    (system / "boot/vmlinuz-9").unlink()
    (system / "boot/vmlinuz-9").symlink_to(link)
    assert _run(system)[0] == 0
    assert "vmlinuz-9" not in (partition / "grub.cfg").read_text().replace("vmlinuz-9-", "")


@pytest.mark.parametrize(
    ("change", "image", "code", "said"),
    [
        ("none", "", 4, "none of the images"),
        ("none", "absent", 2, "no image 'absent'"),
        ("no kernel", "two", 4, "no kernel in"),
        ("no modules", "two", 4, "no kernel in"),
        ("by hand", "two", 6, "not as bareon writes"),
        ("no default", "two", 6, "no line 'set default='"),
    ],
)
def test_what_cannot_be_refreshed_stays(
    change: str, image: str, code: int, said: str, partition: Path, system: Path
) -> None:
    config = partition / "grub.cfg"
    if change == "no kernel":
        shutil.rmtree(system / "boot")
        (system / "boot").mkdir()
    elif change == "no modules":
        for path in (system / "lib/modules").iterdir():
            path.rename(path.with_name(f"{path.name}-of-another"))
    elif change == "by hand":
        config.write_text(config.read_text().replace("  linux ", "\tlinux\t"))
    elif change == "no default":
        config.write_text(config.read_text().replace("set default=1\n", ""))
    before = {path.name: path.read_bytes() for path in partition.iterdir()}
    found, text = _run(system, image)
    assert (found, said in text) == (code, True), text
    assert {path.name: path.read_bytes() for path in partition.iterdir()} == before


def test_the_former_menu_is_there_until_the_new_one_is(partition: Path, system: Path) -> None:
    former = (partition / "grub.cfg").stat().st_ino
    assert _run(system)[0] == 0
    assert (partition / "grub.cfg.old").stat().st_ino == former
    assert (partition / "grub.cfg.old").read_text() == _menu()


@pytest.mark.parametrize(
    ("programs", "hooks"),
    [
        (
            ("/usr/bin/dpkg", "/usr/sbin/update-initramfs"),
            (
                "kernel/postinst.d/zz-bareon-boot",
                "kernel/postrm.d/zz-bareon-boot",
                "initramfs/post-update.d/bareon-boot",
            ),
        ),
        (("/usr/bin/kernel-install",), ("kernel/install.d/99-bareon-boot.install",)),
        (("/sbin/new-kernel-pkg",), ("kernel/postinst.d/zz-bareon-boot",)),
        (("/sbin/apk",), ()),
    ],
)
def test_an_image_gets_the_hooks_that_it_calls(
    programs: tuple[str, ...], hooks: tuple[str, ...], tmp_path: Path
) -> None:
    tree = Tree(str(tmp_path))
    for program in programs:
        tree.write(program, "")
    bareon_boot.install(tree, ["u-u"])
    found = {str(x.relative_to(tmp_path / "etc")) for x in (tmp_path / "etc").rglob("*") if x.is_file()}
    assert found == set(hooks)
    assert all((tmp_path / "etc" / x).stat().st_mode & 0o777 == 0o755 for x in hooks)
    assert (tmp_path / "usr/local/sbin/bareon-boot").read_text() == bareon_boot.script(["u-u"])


def test_the_script_follows_a_folder_that_is_a_link(tmp_path: Path) -> None:
    """Fedora 42 has /usr/local/sbin lead to bin."""
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/sbin").symlink_to("bin")
    bareon_boot.install(Tree(str(tmp_path)), ["u"])
    assert (tmp_path / "usr/local/bin/bareon-boot").read_text() == bareon_boot.script(["u"])


@pytest.mark.parametrize(("code", "wanted"), [(0, 0), (4, 0), (6, 6), (None, 0)])
def test_a_hook_fails_where_the_menu_could_not_be_written(code: int | None, wanted: int, tmp_path: Path) -> None:
    """On a copy of the system, which has no menu, packages of kernels can be installed."""
    tree = Tree(str(tmp_path))
    tree.write("/usr/bin/dpkg", "")
    bareon_boot.install(tree, ["u"])
    program = tmp_path / "bareon-boot"
    if code is not None:
        program.write_text(f'#!/bin/sh\necho "$@"\nexit {code}\n')
        program.chmod(0o755)
    hook = (tmp_path / "etc/kernel/postinst.d/zz-bareon-boot").read_text().replace(bareon_boot.PLACE, str(program))
    done = subprocess.run(["sh", "-s", "--", "6.1", "/boot/vmlinuz-6.1"], input=hook, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (wanted, "", "" if code is None else "refresh\n")
