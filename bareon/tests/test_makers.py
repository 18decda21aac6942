# SPDX-License-Identifier: Apache-2.0
"""What makes the initramfs of an image: which program, what its settings lack, and what it is shown and told."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bareon.storage.disk import Driver
from bareon.storage.kind import System
from bareon.system import initramfs
from bareon.system.bindings.binding import Result
from bareon.system.bindings.home import Home
from bareon.system.bindings.maker_settings import MakerSettings
from bareon.system.carried import Needs
from bareon.system.makers import initramfs_tools, mkinitcpio, mkinitfs, table
from bareon.system.makers.maker import END, HEADER, appended, others
from bareon.system.tree import Tree
from bareon.tests.cases import HERE, load, plan_of
from bareon.tools import initramfs as programs
from bareon.tools.sandbox import View

AHCI, NVME = Driver("ahci", "pci:v1"), Driver("nvme", "pci:v2")
LVM_ON_MD = Needs.of(System(modules=("dm_mod", "raid1", "ext4"), programs=(("lvm",), ("mdadm",))), [AHCI])
SPREAD = Needs.of(System(modules=("btrfs",), programs=(("btrfs",),)), [AHCI])
PLAIN = Needs.of(System(modules=("ext4",)), [AHCI])
DEP = """\
kernel/drivers/ata/ahci.ko.gz: kernel/drivers/ata/libahci.ko.gz
kernel/drivers/nvme/host/nvme.ko.gz:
kernel/drivers/md/dm-mod.ko.gz:
kernel/drivers/md/raid1.ko.gz:
kernel/fs/ext4/ext4.ko.gz:
"""


def _tree(place: Path, files: Mapping[str, str]) -> Tree:
    tree = Tree(str(place))
    for path, text in files.items():
        tree.write(path, text)
    return tree


HOOKS = ("base", "block", "filesystems", "lvm2", "mdadm_udev", "encrypt", "btrfs")
ARCH = dict.fromkeys(["/usr/bin/mkinitcpio", *(f"/usr/lib/initcpio/install/{x}" for x in HOOKS)], "")
CONF = "HOOKS=(base udev autodetect microcode modconf kms keyboard block filesystems fsck)\n"


@pytest.mark.parametrize(
    ("files", "needs", "lines"),
    [
        ({"mkinitcpio.conf": CONF}, PLAIN, {}),
        ({"mkinitcpio.conf": CONF}, LVM_ON_MD, {"mkinitcpio.conf": ["HOOKS+=(lvm2 mdadm_udev)"]}),
        ({"mkinitcpio.conf": CONF.replace("block", "block mdadm_udev lvm2")}, LVM_ON_MD, {}),
        ({"mkinitcpio.conf": CONF.replace(" block", "")}, PLAIN, {"mkinitcpio.conf": ["HOOKS+=(block)"]}),
        # A comment is no hook, and an array may have several lines.
        (
            {"mkinitcpio.conf": "#HOOKS=(base lvm2)\nHOOKS=(\n  base block # lvm2\n  filesystems\n)\n"},
            LVM_ON_MD,
            {"mkinitcpio.conf": ["HOOKS+=(lvm2 mdadm_udev)"]},
        ),
        # As it was written once: added to an array it would be one hook of that name.
        (
            {"mkinitcpio.conf": 'HOOKS="base udev block filesystems"\n'},
            LVM_ON_MD,
            {"mkinitcpio.conf": ['HOOKS+=" lvm2 mdadm_udev"']},
        ),
        # Drop-ins come after; what sets all hooks anew takes back what stands before.
        (
            {"mkinitcpio.conf": CONF, "mkinitcpio.conf.d/a.conf": "HOOKS+=(lvm2)\n"},
            LVM_ON_MD,
            {"mkinitcpio.conf": ["HOOKS+=(mdadm_udev)"]},
        ),
        (
            {"mkinitcpio.conf": CONF, "mkinitcpio.conf.d/a.conf": "HOOKS=(base block filesystems)\n"},
            LVM_ON_MD,
            {"mkinitcpio.conf.d/a.conf": ["HOOKS+=(lvm2 mdadm_udev)"]},
        ),
        ({"mkinitcpio.conf": CONF}, SPREAD, {"mkinitcpio.conf": ["HOOKS+=(btrfs)"]}),
        # Whose hooks nobody can read, nobody changes.
        ({"mkinitcpio.conf": "HOOKS=($(my-hooks))\n"}, LVM_ON_MD, {}),
        ({"mkinitcpio.conf": "MODULES=()\n"}, LVM_ON_MD, {}),
    ],
)
def test_hooks_of_mkinitcpio(
    files: Mapping[str, str], needs: Needs, lines: Mapping[str, Sequence[str]], tmp_path: Path
) -> None:
    tree = _tree(tmp_path, {**ARCH, **{f"/etc/{x}": text for x, text in files.items()}})
    assert table.of(tree) == mkinitcpio.MAKER
    assert mkinitcpio.MAKER.lines(tree, needs) == {f"/etc/{x}": found for x, found in lines.items()}


def test_a_hook_that_the_image_does_not_have_is_not_asked_for(tmp_path: Path) -> None:
    """mkinitcpio would fail; what is missing then is told when its initramfs has been looked into."""
    files = {x: text for x, text in ARCH.items() if not x.endswith("mdadm_udev")}
    tree = _tree(tmp_path, {**files, "/etc/mkinitcpio.conf": CONF})
    assert mkinitcpio.MAKER.lines(tree, LVM_ON_MD) == {"/etc/mkinitcpio.conf": ["HOOKS+=(lvm2)"]}


ALPINE = {
    "/sbin/mkinitfs": "",
    "/lib/modules/6.6.58-0-lts/modules.dep": DEP,
    **{
        f"/etc/mkinitfs/features.d/{name}": text
        for name, text in {
            "ata.modules": "kernel/drivers/ata\n",
            "base.modules": "kernel/drivers/block/loop*\n",
            "base.files": "/bin/busybox\n/sbin/nlplug-findfs\n",
            "ext4.modules": "kernel/fs/ext4\n",
            "a-rescue.modules": "# all\n\nkernel/fs/*/*.ko*\n",
            "lvm.modules": "kernel/drivers/md/dm-mod.ko*\nkernel/drivers/md/dm-raid.ko*\n",
            "lvm.files": "/sbin/lvm\n",
            "nvme.modules": "kernel/drivers/nvme\n",
            "raid.modules": "kernel/drivers/md/raid*\n",
            "raid.files": "/sbin/mdadm\n/etc/mdadm.conf\n",
        }.items()
    },
}


@pytest.mark.parametrize(
    ("conf", "needs", "line"),
    [
        ('features="ata base ext4"', PLAIN, None),
        ('features="ata base ext4 lvm raid"', LVM_ON_MD, None),
        ('features="ata base"', PLAIN, 'features="$features ext4"'),
        ('features="base"', LVM_ON_MD, 'features="$features lvm raid ext4 ata"'),
        # What has it, however it is called.
        ("features='base a-rescue'", Needs((NVME,), ("ext4",)), 'features="$features nvme"'),
        ('features="base ata"\nfeatures="$features ext4"', PLAIN, None),
        # A driver that the kernel does not have is no matter of a feature.
        ("features=base", Needs((Driver("mpt3sas", "pci:v3"),)), None),
        # Whose features nobody can read, nobody changes.
        ("features=$(my-features)", PLAIN, None),
    ],
)
def test_features_of_mkinitfs(conf: str, needs: Needs, line: str | None, tmp_path: Path) -> None:
    tree = _tree(tmp_path, {**ALPINE, mkinitfs.CONF: f"{conf}\n"})
    assert table.of(tree) == mkinitfs.MAKER
    assert mkinitfs.MAKER.lines(tree, needs) == ({mkinitfs.CONF: [line]} if line else {})


@pytest.mark.parametrize("name", ["$(id)", "`id`", 'a"b', "a b", "a;b", "a\nb", "\u00e9", ""])
def test_no_name_of_a_file_is_a_word_of_the_shell(name: str, tmp_path: Path) -> None:
    files = {x: text for x, text in ALPINE.items() if "ext4" not in x and "rescue" not in x}
    odd = {f"/etc/mkinitfs/features.d/{name}.modules": "kernel/fs/ext4\n"}
    tree = _tree(tmp_path, {**files, **odd, mkinitfs.CONF: "features=base\n"})
    assert mkinitfs.MAKER.lines(tree, PLAIN) == {mkinitfs.CONF: ['features="$features ata"']}


def test_programs_that_are_called_alike_are_none(tmp_path: Path) -> None:
    assert table.of(_tree(tmp_path, {"/usr/bin/mkinitfs": "", "/usr/bin/mkinitcpio": ""})) is None


DEBIAN = {"/usr/sbin/update-initramfs": "", "/lib/modules/6.1/modules.dep": DEP}
LIST, MAIN = "/etc/initramfs-tools/modules", initramfs_tools.CONF
DROP_IN, PACKAGE = "/etc/initramfs-tools/conf.d/{}", "/usr/share/initramfs-tools/conf.d/{}"


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ({MAIN: "MODULES=most\n"}, []),
        ({MAIN: "MODULES=dep\n"}, []),
        ({MAIN: "MODULES=list\n"}, ["ahci", "dm_mod", "raid1", "ext4"]),
        ({MAIN: "MODULES=netboot\n", LIST: "# ahci\next4\n"}, ["ahci", "dm_mod", "raid1"]),
        ({MAIN: "MODULES='list'\n", LIST: "dm-mod param=1\nraid1\next4\nahci\n"}, []),
        (
            {MAIN: "MODULES=most\n", DROP_IN.format("modules"): "export MODULES=list\n", LIST: "ahci\next4\nraid1"},
            ["dm_mod"],
        ),
        ({MAIN: "MODULES=list\n", DROP_IN.format("zz"): "MODULES=most\n"}, []),
        # Not read: names of this kind, and a package's file that one in /etc has the place of.
        ({MAIN: "MODULES=most\n", DROP_IN.format("x.dpkg-old"): "MODULES=list\n"}, []),
        ({MAIN: "MODULES=most\n", DROP_IN.format("a"): "X=1\n", PACKAGE.format("a"): "MODULES=list\n"}, []),
    ],
)
def test_the_list_of_initramfs_tools(files: Mapping[str, str], lines: Sequence[str], tmp_path: Path) -> None:
    tree = _tree(tmp_path, {**DEBIAN, **files})
    assert [x for found in initramfs_tools.MAKER.lines(tree, LVM_ON_MD).values() for x in found] == lines


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        ({MAIN: "MODULES=most\n"}, {}),
        ({MAIN: "MODULES=list\n"}, {}),
        ({MAIN: "# MODULES=dep\nMODULES=dep # small\nX=1\n"}, {MAIN: "# MODULES=dep\nMODULES=most # small\nX=1\n"}),
        (
            {MAIN: "MODULES=most\n", DROP_IN.format("driver-policy"): 'MODULES="dep"\n'},
            {DROP_IN.format("driver-policy"): "MODULES=most\n"},
        ),
        ({PACKAGE.format("raspi"): "export MODULES=dep\n"}, {PACKAGE.format("raspi"): "export MODULES=most\n"}),
    ],
)
def test_nothing_goes_by_a_machine_that_is_not_seen(
    files: Mapping[str, str], shown: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dep reads sysfs, of which there is none in the sandbox: it would fail there."""
    tree = _tree(tmp_path, {**DEBIAN, **files, "/boot/initrd.img-6.1": "x"})
    made: list[tuple[View, Sequence[str]]] = []
    monkeypatch.setattr(programs, "run_inside", lambda view, argv, **_: made.append((view, argv)))
    initramfs.remake(tree)
    ((view, argv),) = made
    assert (dict(view.files), list(argv)) == (dict(shown), ["update-initramfs", "-u", "-k", "6.1"])


@pytest.mark.parametrize(
    ("files", "boot", "told"),
    [
        (
            {**ARCH, mkinitcpio.CONF: CONF, "/usr/lib/modules/6.11.7-arch1-1/modules.dep": DEP},
            "initramfs-6.11.7-arch1-1.img",
            "mkinitcpio -k 6.11.7-arch1-1 -g /boot/initramfs-6.11.7-arch1-1.img -S autodetect -n",
        ),
        (
            {**ALPINE, mkinitfs.CONF: "features=base\n"},
            "initramfs-6.6.58-0-lts",
            "mkinitfs -o /boot/initramfs-6.6.58-0-lts 6.6.58-0-lts",
        ),
    ],
)
def test_what_a_maker_is_told(
    files: Mapping[str, str], boot: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").symlink_to("usr/lib")
    files = {x.replace("/lib/modules", "/usr/lib/modules").replace("/usr/usr", "/usr"): y for x, y in files.items()}
    tree = _tree(tmp_path, {**files, f"/boot/{boot}": "x"})
    made: list[str] = []
    monkeypatch.setattr(programs, "run_inside", lambda _, argv, **__: made.append(" ".join(argv)))
    initramfs.remake(tree)
    assert made == [told]
    assert not initramfs.is_dracut(tree)


def test_lines_of_bareon_are_renewed_and_taken_out(tmp_path: Path) -> None:
    layout = plan_of(load(HERE / "cases/plan/drivers-of-root.yaml")).layout
    home = Home(layout, "a")
    tree = _tree(tmp_path, {**ARCH, mkinitcpio.CONF: CONF})
    results = []
    for _ in range(3):
        result = Result()
        MakerSettings().apply(tree, home, result)
        results.append((result.done, result.stale))
    line = "HOOKS+=(lvm2 mdadm_udev)"
    done = [f"{mkinitcpio.CONF}: {line}, for the initramfs"]
    assert results == [(done, [mkinitcpio.CONF]), ([], []), ([], [])]
    assert tree.read(mkinitcpio.CONF) == f"{CONF}{HEADER}\n{line}\n{END}\n"
    plain = Home(layout, "of a root that lies on nothing")
    MakerSettings().apply(tree, plain, Result())
    assert tree.read(mkinitcpio.CONF) == CONF
    # No file is made that nothing is written to.
    MakerSettings().apply(tree, plain, Result())
    assert not tree.has(LIST)


@pytest.mark.parametrize("conf", [CONF, 'HOOKS="base udev block filesystems"\n'])
def test_shells_read_what_was_added(conf: str, tmp_path: Path) -> None:
    """mkinitcpio makes an array of one word by splitting it."""
    layout = plan_of(load(HERE / "cases/plan/drivers-of-root.yaml")).layout
    tree = _tree(tmp_path, {**ARCH, **ALPINE, mkinitcpio.CONF: conf, mkinitfs.CONF: "features=base\n"})
    MakerSettings().apply(tree, Home(layout, "a"), Result())
    read = f". {tree.outside(mkinitcpio.CONF)}; read -ra all <<<${{HOOKS[*]}}; printf '%s ' ${{all[@]}}"
    hooks = subprocess.run(["bash", "-c", read], check=True, capture_output=True, text=True).stdout.split()
    assert hooks[-2:] == ["lvm2", "mdadm_udev"]
    Path(tree.outside("/usr/bin/mkinitcpio")).unlink()
    MakerSettings().apply(tree, Home(layout, "a"), Result())
    argv = ["sh", "-c", f". {tree.outside(mkinitfs.CONF)}; echo $features"]
    features = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert features == "base ext4 lvm raid\n"
    # Of another program that the image has no more, nothing is left.
    assert tree.read(mkinitcpio.CONF) == conf


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a\n", "a\n"),
        (f"a\n{HEADER}\nx\n{END}\nb\n", "a\nb\n"),
        # Without the end nobody knows which lines are whose: none is lost.
        (f"a\n{HEADER}\nx\nb\n", "a\nx\nb\n"),
    ],
)
def test_whose_a_line_is(text: str, rest: str) -> None:
    assert others(text) == rest
    assert appended(text, ["y"]) == f"{rest}{HEADER}\ny\n{END}\n"
    assert appended("a", ["y"]) == f"a\n{HEADER}\ny\n{END}\n"
    assert (appended(None, []), appended("a", [])) == (None, "a")
