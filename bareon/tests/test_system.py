# SPDX-License-Identifier: Apache-2.0
"""Files in a deployed tree: hostile images, and fstab."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bareon.boot.installed import kernels, release
from bareon.errors import ActionFailed
from bareon.model.layout import Layout
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.storage.filesystem import Filesystem, Mount, PlannedFilesystem
from bareon.system import fstab
from bareon.system.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "outside").mkdir()
    (tmp_path / "root").mkdir()
    return Tree(str(tmp_path / "root"))


def test_write_and_read(tree: Tree) -> None:
    tree.write("/etc/deep/fstab", "text\n", 0o640)
    assert tree.read("/etc/deep/fstab") == "text\n"
    assert os.stat(tree.outside("/etc/deep/fstab")).st_mode & 0o777 == 0o640
    assert tree.names("/etc/deep") == ["fstab"]
    assert tree.read("/etc/absent") is None
    assert tree.names("/absent") == []


@pytest.mark.parametrize("link", ["/", "/outside", "../outside", "../../.."])
def test_a_folder_that_is_a_link_is_refused(tree: Tree, tmp_path: Path, link: str) -> None:
    target = str(tmp_path / "outside") if link == "/outside" else link
    os.symlink(target, tree.outside("/etc"))
    with pytest.raises(ActionFailed, match="'etc' is a link, a folder is needed"):
        tree.write("/etc/fstab", "x")
    with pytest.raises(ActionFailed, match="'etc' is a link"):
        tree.folder("/etc/default")
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_file_that_is_a_link_is_replaced_not_followed(tree: Tree, tmp_path: Path) -> None:
    victim = tmp_path / "outside" / "victim"
    victim.write_text("precious")
    tree.folder("/etc")
    os.symlink(victim, tree.outside("/etc/fstab"))
    tree.write("/etc/fstab", "new")
    assert victim.read_text() == "precious"
    assert tree.read("/etc/fstab") == "new"
    assert not os.path.islink(tree.outside("/etc/fstab"))


def test_a_giant_is_not_read(tree: Tree) -> None:
    tree.write("/etc/fstab", "")
    os.truncate(tree.outside("/etc/fstab"), 1 << 40)
    with pytest.raises(ActionFailed, match="/etc/fstab of the deployed system has 1 TiB; at most 16 MiB are read"):
        tree.read("/etc/fstab")


def test_a_fifo_blocks_nobody(tree: Tree) -> None:
    tree.folder("/etc")
    os.mkfifo(tree.outside("/etc/fstab"))
    assert tree.read("/etc/fstab") is None
    tree.write("/etc/fstab", "new")
    assert tree.read("/etc/fstab") == "new"


def test_a_file_where_a_folder_is_needed(tree: Tree) -> None:
    Path(tree.outside("/etc")).write_text("")
    with pytest.raises(ActionFailed, match="'etc' is no folder"):
        tree.write("/etc/fstab", "x")


def test_links_are_resolved_inside_the_tree_for_reading(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "outside" / "secret").write_text("of the ramdisk")
    tree.write("/usr/sbin/grub-install", "inside")
    os.symlink("usr/sbin", tree.outside("/sbin"))
    os.symlink("/usr/sbin", tree.outside("/absolute"))
    os.symlink(str(tmp_path / "outside" / "secret"), tree.outside("/usr/escape"))
    os.symlink("loop", tree.outside("/loop"))
    assert tree.read("/sbin/grub-install") == "inside"
    assert tree.read("/absolute/grub-install") == "inside"
    assert tree.read("/absolute/../../../usr/sbin/grub-install") == "inside"
    assert tree.read("/usr/escape") is None
    assert tree.read("/loop") is None


def _layout(*filesystems: tuple[str, str, str], options: str = "defaults", enabled: bool = True) -> Layout:
    parts = []
    for number, (kind, point, uuid) in enumerate(filesystems, 1):
        wanted = Filesystem(kind, (Mount(point, options, enabled, ("a",)),))
        fs = PlannedFilesystem("/dev/x", 1, kind, uuid, wanted)
        parts.append(PlannedPartition("/dev/x", 1, number, 0, "volume", "", content=fs))
    return Layout("clean", "bios", (PlannedDisk("/dev/x", 1, 512, "", tuple(parts)),))


def _render(layout: Layout, image: str, existing: str = "") -> str:
    return fstab.render([*layout.tree(image), *layout.swaps(image)], existing)


def test_fstab() -> None:
    layout = _layout(
        ("swap", "swap", "u-swap"),
        ("xfs", "/srv/a b", "u-srv"),
        ("ext4", "/var/log", "u-log"),
        ("ext4", "/", "u-root"),
        ("vfat", "/boot/efi", "AB-CD"),
        ("btrfs", "/var", "u-var"),
    )
    assert _render(layout, "a").removeprefix(fstab.HEADER).splitlines() == [
        "UUID=u-root / ext4 defaults 0 1",
        "UUID=AB-CD /boot/efi vfat defaults 0 2",
        r"UUID=u-srv /srv/a\040b xfs defaults 0 0",
        "UUID=u-var /var btrfs defaults 0 0",
        "UUID=u-log /var/log ext4 defaults 0 2",
        "UUID=u-swap none swap defaults 0 0",
    ]
    assert _render(layout, "another") == fstab.HEADER


def test_fstab_disabled_is_a_comment() -> None:
    text = _render(_layout(("ext4", "/", "u"), enabled=False, options="noatime,ro"), "a")
    assert "# UUID=u / ext4 noatime,ro 0 1\n" in text


def test_foreign_lines_stay_and_ours_are_renewed() -> None:
    layout = _layout(("ext4", "/", "u-root"), ("swap", "swap", "u-swap"))
    once = _render(
        layout, "a", "# by hand\nserver:/x /mnt nfs ro 0 0\nUUID=old / ext3 defaults 0 1\ntmpfs /tmp tmpfs"
    )
    assert once.removeprefix(fstab.HEADER).splitlines() == [
        "UUID=u-root / ext4 defaults 0 1",
        "UUID=u-swap none swap defaults 0 0",
        "# by hand",
        "server:/x /mnt nfs ro 0 0",
        "tmpfs /tmp tmpfs",
    ]
    assert _render(layout, "a", once) == once


def test_kernels_are_files_with_plain_names(tree: Tree) -> None:
    evil = ("vmlinuz-9\nset default=7\n#", "vmlinuz-9 ; reboot", "vmlinuz-9 } menuentry x {", "vmlinuz-6.1²")
    for name in ("vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-10-amd64", "initrd.img-6.1.0-10-amd64", *evil):
        tree.write(f"/boot/{name}", "x") if "\n" not in name else Path(tree.outside(f"/boot/{name}")).write_text("x")
    tree.folder("/boot/vmlinuz-8")
    Path(tree.outside("/boot/vmlinuz-7")).symlink_to("nowhere")
    found = [(kernel.image, kernel.initrd) for kernel in kernels(tree)]
    assert found == [
        ("/boot/vmlinuz-6.1.0-10-amd64", "/boot/initrd.img-6.1.0-10-amd64"),
        ("/boot/vmlinuz-6.1.0-9-amd64", None),
    ]


def test_a_link_to_what_cannot_be_is_no_file(tree: Tree) -> None:
    tree.folder("/etc")
    Path(tree.outside("/etc/os-release")).symlink_to("a" * 300)
    Path(tree.outside("/etc/default")).symlink_to("b" * 300)
    assert release(tree) == {}
    assert tree.names("/etc/default") == []


def test_an_os_release_takes_no_time(tree: Tree) -> None:
    tree.write("/etc/os-release", f"ID=x\nNAME='{'x' * 6_000_000}'\n")
    assert release(tree) == {"ID": "x"}
