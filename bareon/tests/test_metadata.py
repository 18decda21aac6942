# SPDX-License-Identifier: Apache-2.0
"""Owner, mode, ACL and labels of files that are written anew."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from bareon.errors import ActionFailed
from bareon.system import selinux
from bareon.system.metadata import LABEL
from bareon.system.tree import Tree

ACL = "system.posix_acl_access"
#: An access control list as the kernel takes it: owner, user 1000, group, mask, others.
READABLE_BY_1000 = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, 0xFFFFFFFF), (2, 4, 1000), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
)
ETC, FSTAB = b"system_u:object_r:etc_t:s0\0", b"system_u:object_r:fstab_t:s0\0"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A tree with labels, below which no other thing of this machine has one."""
    if os.geteuid():
        pytest.skip("labels are root's to set")
    tree = Tree(str(tmp_path))
    tree.write("/etc/fstab", "old")
    tree.folder("/boot/grub2")
    try:
        os.setxattr(tree.outside("/etc"), LABEL, ETC)
        os.setxattr(tree.outside("/boot"), LABEL, b"boot_t")
    except OSError:
        pytest.skip("the file system has no labels")
    return tree


def _label(tree: Tree, path: str) -> bytes | None:
    place = tree.outside(path)
    return os.getxattr(place, LABEL) if LABEL in os.listxattr(place) else None


@pytest.mark.pain("selinux-labels")
def test_field_02_a_file_that_is_written_anew_keeps_what_it_has(tree: Tree) -> None:
    place = tree.outside("/etc/fstab")
    os.chown(place, 12, 34)
    os.setxattr(place, LABEL, FSTAB)
    os.setxattr(place, "user.note", b"x")
    os.setxattr(place, ACL, READABLE_BY_1000)
    os.chmod(place, 0o640)
    tree.write("/etc/fstab", "new")
    found = os.stat(place)
    assert (tree.read("/etc/fstab"), found.st_uid, found.st_gid, found.st_mode & 0o7777) == ("new", 12, 34, 0o640)
    assert {x: os.getxattr(place, x) for x in os.listxattr(place)} == {
        LABEL: FSTAB,
        "user.note": b"x",
        ACL: READABLE_BY_1000,
    }
    tree.write("/etc/fstab", "new", 0o755)
    assert os.stat(place).st_mode & 0o777 == 0o755


def test_what_belongs_to_the_content_goes_with_it(tree: Tree) -> None:
    place = tree.outside("/etc/fstab")
    os.setxattr(place, "security.ima", b"digest")
    os.chmod(place, 0o4755)
    tree.write("/etc/fstab", "new")
    assert "security.ima" not in os.listxattr(place)
    assert os.stat(place).st_mode & 0o7777 == 0o755


@pytest.mark.pain("selinux-labels")
def test_field_02_a_new_file_has_the_label_of_its_folder(tree: Tree) -> None:
    tree.write("/etc/default/grub", "")
    tree.write("/etc/crypttab", "", 0o600)
    Path(tree.outside("/etc/link")).symlink_to("fstab")
    tree.write("/etc/link", "")
    tree.copy("/etc/fstab", "/etc/copy")
    for path in ("/etc/default", "/etc/default/grub", "/etc/crypttab", "/etc/link", "/etc/copy"):
        assert _label(tree, path) == ETC, path
    assert os.stat(tree.outside("/etc/crypttab")).st_mode & 0o777 == 0o600
    assert (os.stat(tree.outside("/etc/link")).st_mode & 0o777) == 0o644


def test_no_list_of_a_folder_s_default_is_added(tree: Tree) -> None:
    os.setxattr(tree.outside("/etc"), "system.posix_acl_default", READABLE_BY_1000)
    tree.write("/etc/fstab", "new")
    assert ACL not in os.listxattr(tree.outside("/etc/fstab"))


def test_a_full_file_system_is_no_reason_to_lose_a_label(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    os.setxattr(tree.outside("/etc/fstab"), LABEL, FSTAB)
    monkeypatch.setattr(os, "setxattr", full)
    with pytest.raises(ActionFailed, match=r"cannot write /etc/fstab .*: No space left"):
        tree.write("/etc/fstab", "new")
    monkeypatch.undo()
    assert (tree.read("/etc/fstab"), _label(tree, "/etc/fstab")) == ("old", FSTAB)


@pytest.mark.parametrize("mode", ["enforcing", "permissive", "disabled"])
def test_field_02_what_programs_wrote_gets_labels(tree: Tree, mode: str) -> None:
    tree.write(selinux.CONFIG, f"# SELINUX= can be enforcing\nSELINUX={mode}\nSELINUXTYPE=targeted\n")
    Path(tree.outside("/boot/grub2/grub.cfg")).write_text("")
    os.setxattr(tree.outside("/boot"), LABEL, b"boot_t")
    Path(tree.outside("/boot/own")).write_text("")
    os.setxattr(tree.outside("/boot/own"), LABEL, b"other")
    Path(tree.outside("/boot/link")).symlink_to("/etc/fstab")
    assert selinux.label(tree) is None
    expected = None if mode == "disabled" else b"boot_t"
    assert [_label(tree, x) for x in ("/boot/grub2", "/boot/grub2/grub.cfg")] == [expected, expected]
    assert (_label(tree, "/boot/own"), _label(tree, "/etc/fstab")) == (b"other", None)
    assert not tree.has(selinux.RELABEL)


def test_field_02_an_image_without_labels_makes_them_itself(tree: Tree) -> None:
    os.removexattr(tree.outside("/etc"), LABEL)
    tree.write(selinux.CONFIG, "SELINUX=enforcing\n")
    assert "/.autorelabel" in str(selinux.label(tree))
    assert tree.is_file(selinux.RELABEL)
