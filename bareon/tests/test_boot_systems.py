# SPDX-License-Identifier: Apache-2.0
"""Boot files as distributions have them, and what bareon must find in them. Adding a system needs no Python.

A file of ``systems/`` has these keys. ``ROOT``, ``BOOT`` and ``OLD`` stand for UUIDs: of the root file system, of
that of ``/boot``, of the root of the machine that the image was made on.

``description``
    What the system is, in a sentence.
``root``, ``boot``, ``from_image``
    The type of the root file system, ``ext4`` where it is left out; ``apart`` for a ``/boot`` of its own; true for a
    root file system that came as it is.
``kernels``, ``others``, ``links``
    Kernels by their path from ``/boot``, with the release in their header; other files in ``/boot``; links.
``files``
    Texts by path.
``asked``
    Kernel parameters of the document.
``menu``
    The file that the system's own ``grub-mkconfig`` writes on the node, with its text.
``own``
    What bareon's own menu has: a kernel, and its initramfs if there is one, in each line, the default first.
``brings``, ``warns``
    The kernel parameters that the image brings to that menu, and a warning about them.
``boots`` or ``refused``
    Of the system's own menu: kernel, initramfs and arguments of the entry that boots, or why none would.
``after``
    Texts by path as they are in the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bareon.boot import bareon_boot, deployed, single
from bareon.boot.arguments import arguments, of_image, without_root
from bareon.boot.deployed import check_system, root_words
from bareon.boot.disks import BootDisk
from bareon.boot.entries import bls, grub_cfg, uki
from bareon.boot.entries.entry import BootEntry
from bareon.boot.install import Source
from bareon.boot.installed import own_kernels
from bareon.boot.menu import Entry, configuration
from bareon.boot.platform import PC_BIOS, PC_UEFI, Platform
from bareon.boot.single import InstallGrub
from bareon.errors import ActionFailed
from bareon.model.layout import Layout
from bareon.step import Outcome
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.storage.filesystem import Filesystem, Mount, PlannedFilesystem
from bareon.system.bindings.boot_entries import CMDLINE, FOLDER, BootEntries
from bareon.system.bindings.home import Home
from bareon.system.bindings.table import bind
from bareon.system.kernel import by_version
from bareon.system.tree import Tree, holder
from bareon.tests import efiprogram
from bareon.tests.keys import known
from bareon.tools import grub, udev

HERE = Path(__file__).parent / "systems"
ROOT, BOOT = "7b1d9f1c-6a0e-4c29-9a0b-2f8d5b1f0c11", "b007b007-0000-4000-8000-000000000001"
OLD = "0d5a3c1e-1111-4222-8333-444455556666"
KEYS = (
    *("description", "root", "boot", "from_image", "kernels", "others", "links", "files", "asked", "menu"),
    *("own", "brings", "warns", "boots", "refused", "after"),
)


def load(path: Path) -> dict[str, Any]:
    text = path.read_text()
    for name, uuid in (("ROOT", ROOT), ("BOOT", BOOT), ("OLD", OLD)):
        text = text.replace(name, uuid)
    found: dict[str, Any] = yaml.safe_load(text)
    known(found, KEYS, path.name)
    return found


def _bzimage(release: str) -> bytes:
    """What is read of an x86 kernel: the header, and its version behind it."""
    return b"\0" * 0x202 + b"HdrS" + b"\0" * 8 + b"\x30\x01" + b"\0" * 0x120 + f"{release} (x@y)".encode() + b"\0"


def layout(case: dict[str, Any], *, device: str = "/dev/vda3") -> Layout:
    """The layout of a system: a disk with its root file system, and ``/boot`` where that is apart."""
    volumes = [(device, case.get("root", "ext4"), "/", ROOT)]
    volumes += [("/dev/vda2", "ext4", "/boot", BOOT)] if case.get("boot") == "apart" else []
    parts = []
    for number, (name, kind, point, uuid) in enumerate(volumes, 1):
        fresh = not case.get("from_image", False)
        wanted = Filesystem(kind, (Mount(point, images=("a",)),), from_image=not fresh)
        content = PlannedFilesystem(name, 1, kind, uuid, wanted)
        parts.append(PlannedPartition(name, 1, number, 0, "volume", f"9f6f4a37-{number}", content=content))
    return Layout("clean", "bios", (PlannedDisk("/dev/vda", 1, 512, "", tuple(parts)),))


def deployed_tree(case: dict[str, Any], root: Path) -> tuple[Tree, Layout]:
    """The tree of a system as it is on the node, bound to it."""
    planned = layout(case)
    tree = Tree(str(root), planned.tree("a"))
    for folder in ("/boot", "/usr/sbin"):
        tree.folder(folder)
    tree.write("/usr/sbin/init", "")
    for path, release in case["kernels"].items():
        place = Path(tree.root, "boot", path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.resolve().write_bytes(_bzimage(release))
        tree.write(f"/usr/lib/modules/{release}/modules.dep", "")
    for name in case.get("others", []):
        tree.write(f"/boot/{name}", "x")
    for path, text in case["files"].items():
        tree.write(path, text)
    for path, target in case.get("links", {}).items():
        Path(tree.outside(path)).symlink_to(target)
    home = Home(planned, "a", volumes=tree.mounts, there=lambda _: False)
    bind(tree, home)
    again = {path: tree.read(path) for path in case["files"]}
    bind(tree, home)
    assert {path: tree.read(path) for path in case["files"]} == again
    for _ in range(2):
        bls.add(tree, case.get("asked", "").split())
    return tree, planned


def _words(entry: BootEntry) -> str:
    return " ".join([entry.kernel, *entry.initrds, *entry.arguments])


@pytest.mark.parametrize("path", sorted(HERE.glob("*.yaml")), ids=lambda x: x.stem)
def test_what_is_found(path: Path, tmp_path: Path) -> None:
    case = load(path)
    tree, planned = deployed_tree(case, tmp_path)
    there = own_kernels(tree, "a")
    check_system(tree, "a", there)
    prefix = "" if case.get("boot") == "apart" else "/boot"
    found = [" ".join(x.removeprefix(f"{prefix}/") for x in (k.image, k.initrd) if x) for k in there]
    assert found == case["own"]
    if menu := case.get("menu"):
        ((place, text),) = menu.items()
        tree.write(place, text)
        entry = grub_cfg.default(tree, place)
        if "refused" in case:
            with pytest.raises(ActionFailed) as caught:
                deployed.check(entry, tree, planned, "a")
            assert case["refused"] in str(caught.value)
        else:
            assert deployed.check(entry, tree, planned, "a") == []
            assert _words(entry) == case["boots"]
    for place, text in case.get("after", {}).items():
        assert (tree.read(place) or "").strip() == text.strip()
        assert OLD not in str(tree.read(place))


@pytest.mark.parametrize("path", sorted(HERE.glob("*.yaml")), ids=lambda x: x.stem)
def test_bareons_own_menu(path: Path, tmp_path: Path) -> None:
    """Where the image has no GRUB, or several share the node."""
    case = load(path)
    tree, planned = deployed_tree({**case, "asked": ""}, tmp_path)
    there, root = own_kernels(tree, "a")[0], tree.mounts[0]
    brought = of_image(tree, there)
    assert " ".join(without_root(brought.words, root)) == case["brings"]
    assert brought.warnings == ((case["warns"],) if "warns" in case else ())
    named = root_words(root, planned, initramfs=there.initrd is not None)
    words = arguments(named, brought.words, root, case.get("asked", ""))
    entry = Entry("a", there.image, there.initrd, holder("/boot", tree.mounts).uuid, words)
    tree.write("/boot/bareon.cfg", configuration([entry]))
    read = grub_cfg.default(tree, "/boot/bareon.cfg")
    assert deployed.check(read, tree, planned, "a") == []
    assert read.arguments == words and _words(read) == _words(entry.read(""))
    assert OLD not in _words(read)


DEBIAN = {"kernels": {"vmlinuz-6.1": "6.1"}, "others": ["initrd.img-6.1"], "files": {}}
GOOD = BootEntry(
    "x", "/boot/grub/grub.cfg", "/boot/vmlinuz-6.1", ("/boot/initrd.img-6.1",), (f"root=UUID={ROOT}", "ro"), ROOT
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"filesystem": ""}, None),
        ({"arguments": ("root=LABEL=old", f"root=UUID={ROOT.upper()}")}, None),
        ({"arguments": ("root=/dev/disk/by-uuid/" + ROOT,)}, None),
        ({"arguments": ("root=/dev/vda3",)}, None),
        ({"arguments": ("root=PARTUUID=9f6f4a37-1",), "initrds": ()}, None),
        (
            {"arguments": (f"root=UUID={ROOT}", "root=LABEL=old")},
            f"says root=LABEL=old; the root file system is UUID={ROOT}",
        ),
        ({"arguments": (f"root=UUID={OLD}",)}, f"says root=UUID={OLD}; the"),
        ({"arguments": ("ro",)}, "names no root"),
        ({"arguments": (f"root=UUID={ROOT}", "rootfstype=xfs")}, "says rootfstype=xfs; the root file system is ext4"),
        ({"arguments": (f"root=UUID={ROOT}", "rootflags=subvol=@")}, "says rootflags=subvol=@; the root file"),
        ({"kernel": ""}, "starts no kernel"),
        ({"kernel": "/vmlinuz-6.1"}, f"names /vmlinuz-6.1 of file system {ROOT}, which is not there"),
        ({"initrds": ("/boot/initrd.img-6.1", "/boot/initrd.img-6.2")}, "names /boot/initrd.img-6.2"),
        ({"filesystem": OLD}, f"names /boot/vmlinuz-6.1 of file system {OLD}, which"),
        ({"initrds": ()}, f"has no initramfs, and the kernel alone does not find root=UUID={ROOT}"),
    ],
)
def test_an_entry_that_would_not_boot_is_named(change: dict[str, Any], reason: str | None, tmp_path: Path) -> None:
    tree, planned = deployed_tree(DEBIAN, tmp_path)
    entry = replace(GOOD, **change)
    if reason is None:
        assert deployed.check(entry, tree, planned, "a") == (
            [] if entry.initrds else ["/boot/vmlinuz-6.1 has no initramfs"]
        )
        return
    with pytest.raises(ActionFailed) as caught:
        deployed.check(entry, tree, planned, "a")
    assert str(caught.value).startswith("image 'a': the entry that boots, 'x' of /boot/grub/grub.cfg,")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("kernel", "flags", "reason"),
    [
        ("/@/boot/vmlinuz-6.1", ("rootflags=noatime,subvol=@",), None),
        ("/@/boot/vmlinuz-6.1", ("rootflags=subvol=/@",), None),
        ("/boot/vmlinuz-6.1", ("rootflags=subvol=@",), "names /boot/vmlinuz-6.1 of file system"),
        ("/@a/boot/vmlinuz-6.1", ("rootflags=subvol=@",), "names /@a/boot/vmlinuz-6.1 of file system"),
        ("/@/boot/vmlinuz-6.1", ("rootflags=subvol=@a",), "says rootflags=subvol=@a; the root is subvolume @ of"),
        ("/@/boot/vmlinuz-6.1", ("rootflags=noatime",), "says rootflags=noatime; the root is subvolume @ of"),
        ("/@/boot/vmlinuz-6.1", (), "has no rootflags; the root is subvolume @ of"),
    ],
)
def test_an_entry_names_the_subvolume_of_the_root(
    kernel: str, flags: tuple[str, ...], reason: str | None, tmp_path: Path
) -> None:
    tree, planned = deployed_tree({**DEBIAN, "root": "btrfs"}, tmp_path)
    root = tree.mounts[0]
    tree = Tree(tree.root, (replace(root, mount=replace(root.mount, subvolume="@")),))
    entry = replace(GOOD, kernel=kernel, initrds=(kernel,), arguments=(f"root=UUID={ROOT}", *flags))
    if reason is None:
        assert deployed.check(entry, tree, planned, "a") == []
        return
    with pytest.raises(ActionFailed) as caught:
        deployed.check(entry, tree, planned, "a")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("path", "target", "reason"),
    [
        ("vmlinuz-6.1", "vmlinuz-6.1.real", None),
        ("vmlinuz-6.1", "/vmlinuz-6.1.real", None),  # as GRUB takes it; the system does not
        ("vmlinuz-6.1", "/boot/vmlinuz-6.1.real", "names /vmlinuz-6.1, which is not there"),
        ("vmlinuz-6.1", "../usr/lib/vmlinuz", "names /vmlinuz-6.1, which is not there"),
        ("grub/grub.cfg", "../menu", None),
        ("grub/grub.cfg", "/etc/menu", "is behind a link out of its file system"),
    ],
)
def test_links_out_of_a_file_system_lead_nowhere(path: str, target: str, reason: str | None, tmp_path: Path) -> None:
    """A boot loader sees one file system; the system, which sees them all, would find the file."""
    tree, planned = deployed_tree({**DEBIAN, "boot": "apart"}, tmp_path)
    for place in ("/boot/grub/grub.cfg", "/boot/menu", "/etc/menu", "/usr/lib/vmlinuz"):
        tree.write(place, "x")
    kernel = tmp_path / "boot/vmlinuz-6.1"
    kernel.rename(f"{kernel}.real")
    kernel.symlink_to("vmlinuz-6.1.real")
    link = tmp_path / "boot" / path
    link.unlink()
    link.symlink_to(target)
    entry = replace(GOOD, kernel="/vmlinuz-6.1", initrds=("/initrd.img-6.1",), filesystem="")
    if reason is None:
        assert deployed.check(entry, tree, planned, "a") == []
        return
    with pytest.raises(ActionFailed) as caught:
        deployed.check(entry, tree, planned, "a")
    assert reason in str(caught.value)


@pytest.mark.pain("kernel-without-initramfs")
def test_field_04_without_an_initramfs_the_root_is_a_partition(tmp_path: Path) -> None:
    tree, planned = deployed_tree({**DEBIAN, "others": []}, tmp_path)
    root = tree.mounts[0]
    assert root_words(root, planned, initramfs=False) == "root=PARTUUID=9f6f4a37-1"
    elsewhere = replace(planned, disks=())  # the root lies on LVM, or on md
    named = root_words(root, elsewhere, initramfs=False)
    entry = replace(GOOD, initrds=(), arguments=(named,))
    with pytest.raises(ActionFailed, match=r"has no initramfs, and the kernel alone does not find root=UUID="):
        deployed.check(entry, tree, elsewhere, "a")


@pytest.mark.pain("no-system-in-it")
def test_field_13_a_system_in_a_subvolume_is_none(tmp_path: Path) -> None:
    case: dict[str, Any] = {**DEBIAN, "root": "btrfs", "boot": "apart"}
    tree, _ = deployed_tree(case, tmp_path)
    Path(tree.outside("/usr/sbin/init")).unlink()
    for path in ("/@/usr/sbin/init", "/@/etc/fstab", "/@home/u/x", "/data/y"):
        tree.write(path, "")
    with pytest.raises(ActionFailed) as caught:
        check_system(tree, "a", own_kernels(tree, "a"))
    assert "there is no system at the top of its root file system; there is one in subvolume @" in str(caught.value)
    for path in Path(tree.outside("/boot")).iterdir():
        path.unlink()
    with pytest.raises(ActionFailed, match=r"has no kernel in /boot; there is no system .* in subvolume @"):
        check_system(tree, "a", [])


@pytest.mark.parametrize(
    ("default", "found"),
    [
        ("0", "A"),
        ("1", "C"),
        ("1>1", "D"),
        ("sub>d", "D"),
        ("sub>Entry D", "D"),
        ("E", "E"),
        ("7", "A"),
        ("absent", "A"),
        ("", "A"),
        ("1>9", "C"),
        ("${saved_entry}", "D"),
    ],
)
def test_the_default_of_a_menu(default: str, found: str, tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=sub>d\n".ljust(1024, "#"))
    lines = ["load_env", f'set default="{default}"', "menuentry A { linux /A x=$x; }", "submenu 'B' --id sub {"]
    lines += ["menuentry 'Entry C' { linux /C", "}", "menuentry 'Entry D' --id=d {", "linux /D }", "}"]
    lines += ["if [ -z ${x} ] ; then", "  menuentry E { linux16 ($root)/E", "}; else menuentry Z { linux /Z; }; fi"]
    tree.write("/boot/grub/grub.cfg", "\n".join(lines))
    assert grub_cfg.default(tree, "/boot/grub/grub.cfg").kernel == f"/{found}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "/boot/grub/grub.cfg of the deployed system has no entry"),
        ("submenu x {\n}\n", "has no entry"),
        ("if true; then\n" * 50_000, "too many blocks"),
        ("menuentry x {" * 100, "too many blocks"),
        ("source /boot/grub/grub.cfg\n", "includes itself"),
        ("source /boot/grub/big\n" * 100, "larger than any menu"),
        ("set x=aaaaaaaaaa\n" + 'set x="$x$x"\n' * 60 + 'set y="' + "$x" * 100_000 + '"\n', "larger than any menu"),
        ("linux /evil root=UUID=y; boot\nmenuentry A { linux /A; }\n", "boots something before it has a menu"),
        ("load_env\nmenuentry A { linux /A $long$long }\n" + "set y=$long\n" * 300, "larger than any menu"),
    ],
)
def test_a_menu_that_cannot_be(text: str, said: str, tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/boot/grub/big", "# comment\n" * 10_000)
    tree.write("/boot/grub/grubenv", f"long={'x' * 1_000_000}\n")
    tree.write("/boot/grub/grub.cfg", text)
    with pytest.raises(ActionFailed, match=said):
        grub_cfg.default(tree, "/boot/grub/grub.cfg")


NAMED = "root=UUID=x"


@pytest.mark.parametrize(
    ("text", "kernel", "initrds", "words"),
    [
        # Only the entry that boots is carried out, and with what holds at the end of the file.
        ("menuentry A { linux /A; }\nmenuentry B { configfile /boot/grub/other.cfg }", "/A", (), ()),
        ("menuentry A { linux /A; }\nmenuentry Reload { configfile $prefix/grub.cfg }", "/A", (), ()),
        (
            "menuentry A { linux /A; }\n"
            "submenu Snapshots { menuentry S { configfile /boot/grub/grub.cfg }\n}\nset x=1\n",
            *("/A", (), ()),
        ),
        (f"menuentry A {{ linux /A $r }}\nset r={NAMED}\n", "/A", (), (NAMED,)),
        ("menuentry A { configfile /boot/grub/other.cfg }", "/other", (), ()),
        # Functions, as those of a distribution's own snippets.
        (f"function go {{ linux /A $1 {NAMED}; }}\nmenuentry A {{ go }}", "/A", (), (NAMED,)),
        # A hypervisor, as 20_linux_xen writes it.
        (
            "menuentry Xen { multiboot2 /boot/xen.gz placeholder ${xen_rm_opts}\n"
            f" module2 /vmlinuz placeholder {NAMED} ro\n module2 --nounzip /initrd.img\n}}",
            *("/vmlinuz", ("/initrd.img",), ("placeholder", NAMED, "ro")),
        ),
        # What is asked of files reads none of them.
        ("if [ -f ($root)/boot/huge ]; then menuentry A { linux /A; }; fi", "/A", (), ()),
        ("if [ -s /boot/empty ]; then menuentry B { linux /B; }; fi; menuentry A { linux /A; }", "/A", (), ()),
        ("if [ -e /boot/grub ]; then menuentry A { linux /A; }; fi", "/A", (), ()),
        ("menuentry A { linux /A; boot; linux /B; }", "/A", (), ()),
    ],
)
def test_menus_of_honest_systems(
    text: str, kernel: str, initrds: Sequence[str], words: Sequence[str], tmp_path: Path
) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/boot/empty", "")
    tree.write("/boot/grub/other.cfg", "menuentry O { linux /other; }\n")
    tree.write("/boot/grub/grub.cfg", text)
    with (tmp_path / "boot/huge").open("wb") as file:
        file.truncate(1 << 40)
    entry = grub_cfg.default(tree, "/boot/grub/grub.cfg")
    assert (entry.kernel, entry.initrds, entry.arguments) == (kernel, tuple(initrds), tuple(words))
    assert entry.certain


@pytest.mark.parametrize(
    ("searches", "found"),
    [
        ("search.fs_uuid A root hd0,gpt2", "A"),
        ("search --no-floppy --fs-uuid --set=root A; search.fs_uuid B root", "B"),
        ("search.fs_uuid B root; search --fs-uuid --set=root A", "A"),
        ("search --fs-uuid --set=root A; search --fs-uuid --set=boot B", "A"),
    ],
)
def test_the_last_search_for_the_root_counts(searches: str, found: str, tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/boot/grub/grub.cfg", f"menuentry A {{ {searches}; linux /A; }}\n")
    assert grub_cfg.default(tree, "/boot/grub/grub.cfg").filesystem == found


@pytest.mark.parametrize(
    "text", ["for x in 1 2; do menuentry $x { linux /B; }; done", "if [ 1 -lt 2 ]; then set default=1; fi", "eval a"]
)
def test_what_is_not_carried_out_makes_an_entry_uncertain(text: str, tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/boot/grub/grub.cfg", f"{text}\nmenuentry A {{ linux /A; }}\n")
    assert not grub_cfg.default(tree, "/boot/grub/grub.cfg").certain


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ("4.18.0-553.16.1.el8_10.x86_64", "4.18.0-553.el8_10.x86_64"),
        ("6.1.0-10-amd64", "6.1.0-9-amd64"),
        ("6.1.0-56-amd64", "6.1.0-56~bpo-amd64"),
        ("6.12.1-arch1-1", "6.12-arch1-1"),
    ],
)
def test_kernels_sort_as_package_managers_do(newer: str, older: str) -> None:
    assert by_version(newer) > by_version(older)


def test_options_and_entries_without_end(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write(f"{FOLDER}/a.conf", "linux /A\noptions" + " $k" * 1000 + "\n")
    tree.write(f"{FOLDER}/b.conf", "linux /B\n" + "#" * (1 << 20))
    (entry,) = bls.read(tree, {"k": "x " * 1000})
    assert (entry.kernel, len(entry.arguments)) == ("/A", 2048)


@pytest.mark.parametrize("folder", ["grub", "grub2"])
def test_options_of_an_entry_are_in_the_block_that_there_is(folder: str, tmp_path: Path) -> None:
    tree, _ = deployed_tree(DEBIAN, tmp_path)
    tree.write(f"/boot/{folder}/grubenv", "# GRUB Environment Block\nkernelopts=ro console=ttyS1\n".ljust(1024, "#"))
    tree.write(f"{FOLDER}/a.conf", "linux /boot/vmlinuz-6.1\noptions $kernelopts quiet\n")
    assert of_image(tree, own_kernels(tree, "a")[0]).words == ("ro", "console=ttyS1", "quiet")


def test_a_unified_kernel_image_is_told(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    sections = {
        ".osrel": b"ID=arch\nPRETTY_NAME='Arch Linux'\n",
        ".cmdline": b"root=UUID=x rw\0",
        ".linux": b"MZ" * 99_999,
    }
    for path, found in (("arch.efi", sections), ("shell.efi", {".text": b"x"})):
        place = Path(tree.folder("/efi/EFI/Linux"), path)
        place.write_bytes(efiprogram.program(found))
    (entry,) = uki.read(tree)
    assert (entry.title, entry.arguments, entry.source) == (
        "Arch Linux",
        ("root=UUID=x", "rw"),
        "/efi/EFI/Linux/arch.efi",
    )
    with pytest.raises(
        ActionFailed,
        match=r"no kernel in /boot; .* it has /efi/EFI/Linux/arch\.efi, which systemd-boot alone starts, on UEFI",
    ):
        check_system(tree, "a", [])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            [
                "/usr/lib/modules/6.11.8-1-default/vmlinuz",
                "/boot/efi/loader/entries/opensuse-6.11.8-1-default-1.conf",
            ],
            "it has /boot/efi/loader/entries/opensuse-6.11.8-1-default-1.conf, whose kernels lie on the EFI system",
        ),
        (
            [
                "/usr/lib/modules/6.17.1-300.fc43.x86_64/vmlinuz",
                "/usr/lib/modules/6.16.0-300.fc43.x86_64/modules.dep",
            ],
            "it has /usr/lib/modules/6.17.1-300.fc43.x86_64/vmlinuz, which lies beside its modules alone; have the",
        ),
        ([], ""),
    ],
)
def test_where_else_the_kernels_of_an_image_are_is_told(files: list[str], said: str, tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    for path in (*files, "/usr/sbin/init"):
        tree.write(path, "x")
    with pytest.raises(ActionFailed) as caught:
        check_system(tree, "a", own_kernels(tree, "a"))
    words = str(caught.value).removeprefix("image 'a' has no kernel in /boot").removeprefix("; ")
    assert words.startswith(said) and bool(words) == bool(said)


def test_parameters_of_a_document_replace_those_of_another(tmp_path: Path) -> None:
    tree, _ = deployed_tree(load(HERE / "rocky-9.yaml"), tmp_path)
    names = [f"{FOLDER}/{x}" for x in tree.names(FOLDER)]
    first = [tree.read(x) for x in (*names, "/etc/kernel/cmdline")]
    bls.add(tree, ["console=ttyS1", "quiet"])
    assert "crashkernel=1G-4G:192M quiet console=ttyS1" in str(tree.read("/etc/kernel/cmdline"))
    assert all(x.arguments[-2:] == ("quiet", "console=ttyS1") for x in bls.read(tree))
    bls.add(tree, ["console=ttyS0", "quiet"])
    # In a menu of bareon's they are not taken for the image's.
    assert "quiet" not in of_image(tree, own_kernels(tree, "a")[0]).words
    bls.add(tree, [])
    assert not any("quiet" in x.arguments or "console=ttyS0" in x.arguments for x in bls.read(tree))
    bls.add(tree, ["console=ttyS0", "quiet"])
    assert [tree.read(x) for x in (*names, "/etc/kernel/cmdline")] == first


def test_a_command_line_in_several_lines(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    entry = f"{FOLDER}/a.conf"
    tree.write(entry, "title x\nlinux /A\noptions  ro a\noptions\tb\nversion 1\n")
    tree.write(CMDLINE, "ro a\n b\n")
    bls.add(tree, ["a", "c"])
    bls.add(tree, ["c", "d"])
    assert tree.read(entry) == "title x\nlinux /A\noptions  ro\noptions\tb c d\nversion 1\n"
    assert tree.read(CMDLINE) == "ro b c d\n"


def test_a_parameter_that_the_image_has_itself_stays(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write(CMDLINE, "ro quiet\n")
    bls.add(tree, ["quiet"])
    bls.add(tree, [])
    assert tree.read(CMDLINE) == "ro quiet\n"


def test_what_makes_entries_later_has_the_parameters_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the menu is bareon's, which has them in itself."""
    case = load(HERE / "fedora-kernel-install.yaml")
    files = {**case["files"], "/etc/kernel/cmdline": f"root=UUID={OLD} ro quiet\n"}
    outcome, tree = _installed({**case, "files": files, "asked": "console=ttyS0"}, tmp_path, monkeypatch)
    assert outcome == {"grub": "ramdisk"}
    assert tree.read(CMDLINE) == f"root=UUID={ROOT} ro quiet console=ttyS0\n"
    assert f"linux /{bls.read(tree)[0].kernel.lstrip('/')} root=UUID={ROOT} ro quiet console=ttyS0" in str(
        tree.read("/boot/grub/grub.cfg")
    )


def _installed(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: Platform = PC_BIOS
) -> tuple[Outcome, Tree]:
    """What the step makes of a system; its ``grub-mkconfig`` and ``grub-install`` are played."""
    tree, planned = deployed_tree(case, tmp_path)

    @contextlib.contextmanager
    def mounted_tree(*_: object, **__: object) -> Iterator[Tree]:
        yield tree

    def mkconfig(_view: object, path: str, program: str) -> None:
        assert tree.is_file(f"/usr/sbin/{program}")
        tree.write(path, case["menu"][path])

    for path in case.get("menu", {}):
        tree.write("/usr/sbin/grub2-mkconfig" if "grub2" in path else "/usr/sbin/grub-mkconfig", "")
        tree.write("/usr/lib/grub/i386-pc/normal.mod", "")

    def installed(disks: Sequence[BootDisk], source: Source, _: str) -> Outcome:
        signed = source.signed.folder if source.signed else "nothing"
        what = f"{source.folder}, {source.modules or 'no modules'}, {signed} signed"
        return {"from": what} if disks[0].esp else {}

    monkeypatch.setattr(single, "mounted_tree", mounted_tree)
    monkeypatch.setattr(single, "install", installed)
    monkeypatch.setattr(udev, "settle", lambda: None)
    monkeypatch.setattr(grub, "mkconfig", mkconfig)
    esp = PlannedFilesystem("/dev/vda1", 1, "vfat", "ABCD-0001", Filesystem("vfat", ()))
    disk = BootDisk("/dev/vda", "bareon x", platform, esp if platform.grub else None)
    step = InstallGrub("do_bootloader", "a", planned, (disk,), case.get("asked", ""))
    return step.run(lambda *_: None), tree


@pytest.mark.parametrize(
    ("built_in", "maker", "outcome"),
    [
        ("blscfg\0", True, {"grub": "image", "from": "/boot/grub2, no modules, fedora signed"}),
        ("", True, {"grub": "ramdisk", "from": "/boot/grub, no modules, fedora signed"}),
        ("blscfg\0", False, {"grub": "ramdisk", "from": "/boot/grub, no modules, fedora signed"}),
    ],
)
def test_a_signed_grub_that_reads_entries_has_the_menu_of_its_image(
    built_in: str, *, maker: bool, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Fedora brings it for UEFI, with all modules in it: a menu of bareon's would not follow its kernels."""
    case = load(HERE / "fedora-41.yaml")
    case["files"]["/boot/efi/EFI/fedora/grubx64.efi"] = f"MZ\0/EFI/fedora\0{built_in}"
    if not maker:
        del case["menu"]
    found, tree = _installed(case, tmp_path, monkeypatch, PC_UEFI)
    assert found == outcome
    assert tree.is_file("/boot/grub2/grub.cfg") == (outcome["grub"] == "image")


@pytest.mark.parametrize(("name", "whose"), [("rocky-9", "image"), ("debian-12", "image"), ("alpine", "ramdisk")])
@pytest.mark.pain("root-of-another-machine")
def test_field_01_the_step_leaves_what_boots(
    name: str, whose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = load(HERE / f"{name}.yaml")
    tree = Tree(str(tmp_path))
    for path in ("/usr/bin/dpkg", "/etc/kernel/postrm.d/zz-other"):
        tree.write(path, "")
    bareon_boot.install(tree, ["u"])  # as one of several images, by an earlier document
    assert tree.names("/etc/kernel/postrm.d") == ["zz-bareon-boot", "zz-other"]
    outcome, tree = _installed(case, tmp_path, monkeypatch)
    assert outcome == {"grub": whose}
    assert tree.names("/etc/kernel/postrm.d") == ["zz-other"] and not tree.names("/etc/kernel/postinst.d")
    assert not tree.has(bareon_boot.PLACE)
    if name == "rocky-9":
        assert OLD not in "".join(str(tree.read(f"{FOLDER}/{x}")) for x in tree.names(FOLDER))


@pytest.mark.parametrize(("name", "said"), [("label", "says root=LABEL=img-rootfs"), ("rocky-9", "names /vmlinuz-5")])
@pytest.mark.pain("root-of-another-machine")
def test_field_23_a_menu_of_another_machine_is_no_success(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BootEntries, "files", ())  # so that the entries stay as they came
    with pytest.raises(ActionFailed, match=f"image 'a': the entry that boots, .* {said}"):
        _installed(load(HERE / f"{name}.yaml"), tmp_path, monkeypatch)
