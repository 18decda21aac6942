# SPDX-License-Identifier: Apache-2.0
"""What the stand-in for grub-probe answers, by the shell that runs it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bareon.boot.grub_probe import Volume, paths, script, stand_ins, volumes
from bareon.system.sandbox import view
from bareon.system.tree import Tree
from bareon.tests.cases import HERE, load, plan_of

Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Runs the script for a system whose root is the temporary folder ``root``, with ``boot`` a volume of its own."""
    root = tmp_path / "root"
    (root / "boot/grub").mkdir(parents=True)
    (root / "usr").mkdir()
    (root / "usr/font.pf2").touch()
    (root / "boot/unifont").symlink_to(root / "usr/font.pf2")
    found = [
        Volume(
            str(root),
            ("/dev/mapper/os-root", "/dev/os/root", "/dev/disk/by-uuid/r-uuid"),
            "xfs",
            "r-uuid",
            "it's a label",
            abstraction=("diskfilter", "mdraid1x", "lvm"),
        ),
        Volume(f"{root}/boot", ("/dev/vda2", "/dev/disk/by-uuid/b-uuid"), "ext2", "b-uuid", partuuid="b-guid"),
    ]
    program = tmp_path / "grub-probe"
    program.write_text(script(found))

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(["/bin/sh", program, *words], cwd=root / "boot", capture_output=True, text=True)
        assert not (done.returncode and done.stdout)
        return done.returncode, done.stdout or done.stderr

    return run


@pytest.mark.parametrize(
    ("target", "root", "boot"),
    [
        ("device", "/dev/mapper/os-root\n", "/dev/vda2\n"),
        ("fs", "xfs\n", "ext2\n"),
        ("fs_uuid", "r-uuid\n", "b-uuid\n"),
        ("fs_label", "it's a label\n", "\n"),
        ("partuuid", "\n", "b-guid\n"),
        ("partmap", "gpt\n", "gpt\n"),
        ("abstraction", "diskfilter\nmdraid1x\nlvm\n", ""),
        ("compatibility_hint", "", ""),
        ("hints_string", "", ""),
        ("cryptodisk_uuid", "", ""),
    ],
)
def test_what_grub_mkconfig_asks(ask: Ask, tmp_path: Path, target: str, root: str, boot: str) -> None:
    for device in ("/dev/mapper/os-root", "/dev/os/root", "/dev/disk/by-uuid/r-uuid"):
        assert ask("--device", device, f"--target={target}") == (0, root)
    assert ask("-t", target, "-d", "/dev/vda2") == (0, boot)
    assert ask(f"--target={target}", f"{tmp_path}/root") == (0, root)
    assert ask(f"--target={target}", f"{tmp_path}/root/usr/font.pf2") == (0, root)
    for path in (f"{tmp_path}/root/boot", f"{tmp_path}/root/boot/grub", ".", "grub/"):
        assert ask(f"--target={target}", path) == (0, boot)


def test_a_path_is_where_its_links_lead(ask: Ask, tmp_path: Path) -> None:
    assert ask("--target=fs", f"{tmp_path}/root/boot/unifont") == (0, "xfs\n")


def test_without_a_target_it_is_the_file_system(ask: Ask) -> None:
    assert ask("--device", "/dev/vda2") == (0, "ext2\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target=fs", "/absent"), "there is no /absent"),
        (("--target=fs", "/proc/version"), "is on no device"),
        (("--target=fs", "/dev/null"), "is on no device"),
        (("--device", "/dev/vdb1"), "/dev/vdb1 is no device of this image"),
        (("--device", "/dev/vda*"), "/dev/vda* is no device of this image"),
        (("--device", "/dev/vda2", "--target=drive"), "does not know drive of /dev/vda2"),
        (("--device", "/dev/vda2", "--target=device; id"), "does not know device; id"),
        (("--device", "/dev/vda2", "/dev/os/root"), "more than one device or path"),
        (("--device-map=x", "/"), "no option --device-map=x here"),
        ((), "there is no "),
    ],
)
def test_anything_else_is_an_error(ask: Ask, words: tuple[str, ...], said: str) -> None:
    code, text = ask(*words)
    assert code == 1
    assert text.startswith("grub-probe: error: ")
    assert said in text


def test_volumes_of_a_layout() -> None:
    layout = plan_of(load(HERE / "cases/plan/lvm-on-raid.yaml")).layout
    (root,) = volumes([x for fs in layout.filesystems() for x in fs.mounts], layout)
    assert (root.point, root.fs, root.partuuid) == ("/", "xfs", "")
    assert root.names[:2] == ("/dev/mapper/os-root", "/dev/os/root")
    # As grub-probe of GRUB 2.06 names them.
    assert root.abstraction == ("diskfilter", "mdraid1x", "lvm")
    layout = plan_of(load(HERE / "cases/plan/multiboot.yaml")).layout
    plain = next(x for x in volumes(layout.tree("a"), layout) if x.point == "/")
    part = next(x for x in layout.disks[0].partitions if x.device == plain.names[0])
    assert (plain.partuuid, plain.abstraction, plain.fs) == (part.guid.lower(), (), "ext2")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        *(("", "/@\n"), ("/usr/font.pf2", "/@/usr/font.pf2\n"), ("/boot", "\n"), ("/boot/grub", "/grub\n")),
        *(("/boot/font", "/@/usr/font.pf2\n"), ("/home/", "/@home\n"), ("/absent", "")),
    ],
)
def test_a_path_begins_at_the_top_of_its_file_system(path: str, found: str, tmp_path: Path) -> None:
    for folder in ("boot/grub", "usr", "home"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "usr/font.pf2").touch()
    (tmp_path / "boot/font").symlink_to("../usr/font.pf2")
    mounts = [("", "/@"), ("/boot", ""), ("/home", "/@home")]
    there = [Volume(f"{tmp_path}{point}", ("/dev/vda3",), "btrfs", "u", above=above) for point, above in mounts]
    program = tmp_path / "grub-mkrelpath"
    program.write_text(paths(there))
    done = subprocess.run(["/bin/sh", program, f"{tmp_path}{path}"], capture_output=True, text=True)
    assert (done.stdout, bool(done.returncode)) == (found, not found)
    assert "/usr/bin/grub-mkrelpath" in stand_ins(there)
    assert "/usr/bin/grub-mkrelpath" not in stand_ins([Volume("/", ("/dev/vda3",), "btrfs", "u")])


def test_each_program_of_the_image_has_a_stand_in(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/usr/bin/grub2-probe", "real")
    (tmp_path / "usr/sbin").symlink_to("bin")
    (tmp_path / "sbin").symlink_to("usr/sbin")
    found = view(tree, stand_ins([Volume("/", ("/dev/vda2",), "ext2", "u")])).files
    assert list(found) == ["/usr/bin/grub2-probe"]
    assert found["/usr/bin/grub2-probe"].startswith("#!/bin/sh\n")
