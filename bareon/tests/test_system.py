# SPDX-License-Identifier: Apache-2.0
"""Files in a deployed tree: hostile images, and fstab."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.boot.installed import check_usr, own_kernels, release
from bareon.boot.single import _check_default, _odd
from bareon.errors import ActionFailed
from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.system.initramfs import with_modules
from bareon.system.kernel import Kernel, kernels
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


def _bzimage(release: str) -> str:
    """What a boot loader reads of an x86 kernel: the header, and its version behind it."""
    return "\0" * 0x202 + "HdrS" + "\0" * 8 + "\x30\x01" + "\0" * 0x120 + f"{release} (builder@host) #1 SMP\0"


def _with_kernels(tree: Tree, names: Iterable[str], modules: Iterable[str], usr: str = "") -> None:
    for name in names:
        tree.write(f"/boot/vmlinuz-{name}", "kernel")
        tree.write(f"/boot/initrd.img-{name}", "initramfs")
    for name in modules:
        tree.write(f"{usr}/lib/modules/{name}/modules.dep", "")


def test_a_kernel_put_aside_is_not_the_newest(tree: Tree) -> None:
    for name in ("6.1", "6.1.old", "6.1.dpkg-new", "6.0.rpmsave", "0-rescue-abc"):
        tree.write(f"/boot/vmlinuz-{name}", "x")
    tree.write("/boot/vmlinuz-6.2-generic.efi.signed", _bzimage("6.2-generic"))
    tree.write("/boot/initrd.img-6.2-generic", "")
    assert [x.name for x in kernels(tree)] == ["vmlinuz-6.2-generic.efi.signed", "vmlinuz-6.1", "vmlinuz-6.1.old"]
    assert kernels(tree)[0].initrd == "/boot/initrd.img-6.2-generic"


@pytest.mark.parametrize(
    ("kernel", "initramfs"),
    [
        ("vmlinuz-lts", "initramfs-lts"),
        ("vmlinuz-virt", "initramfs-virt"),
        ("vmlinuz-6.6.58-desktop-1.mga9", "initrd-6.6.58-desktop-1.mga9.img"),
        ("vmlinuz-6.6", "initrd-6.6.gz"),
        ("vmlinuz-6.4.0-150600.21-default", "initrd-6.4.0-150600.21-default"),
        ("vmlinuz-5.14.0-427.el9.x86_64", "initramfs-5.14.0-427.el9.x86_64.img"),
        ("vmlinuz-linux-zen", "initramfs-linux-zen.img"),
        ("kernel-6.6.58-gentoo-dist", "initramfs-6.6.58-gentoo-dist.img"),
        ("kernel-genkernel-x86_64-6.6.58-gentoo", "initramfs-genkernel-x86_64-6.6.58-gentoo"),
        ("vmlinuz-6.6.58-gentoo-x86_64", "initramfs-6.6.58-gentoo-x86_64.img"),
        ("Image-6.6", "initrd-6.6"),
    ],
)
@pytest.mark.pain("kernel-without-initramfs")
def test_field_04_names_of_kernels_and_their_initramfs(tree: Tree, kernel: str, initramfs: str) -> None:
    for name in (kernel, initramfs, f"config-{kernel}", f"System.map-{kernel}", f".{kernel}.hmac", "vmlinux-6.6.gz"):
        tree.write(f"/boot/{name}", "x")
    assert [(x.name, x.initrd) for x in kernels(tree)] == [(kernel, f"/boot/{initramfs}")]


def test_odd_kernels_are_not_the_first(tree: Tree) -> None:
    odd = [
        "6.13~rc2-amd64",
        "6.12.0-0.rc3.20241001.fc42",
        "6.11.9-300.fc41.x86_64+debug",
        "6.11-debug",
        "0-rescue-ab",
    ]
    for name in (*odd, "6.11.4-301.fc41.x86_64", "6.1.0-archive1"):
        tree.write(f"/boot/vmlinuz-{name}", "x")
    assert [(x.release, x.odd) for x in kernels(tree)] == [
        ("6.11.4-301.fc41.x86_64", False),
        ("6.1.0-archive1", False),
        *((x, True) for x in odd[:-1]),
    ]
    for x in kernels(tree):
        Path(tree.outside(f"/boot/{x.name}")).unlink()
    assert [x.release for x in kernels(tree)] == ["0-rescue-ab"]


def test_a_kernel_that_a_link_leads_to_elsewhere_is_none(tree: Tree) -> None:
    tree.write("/usr/lib/modules/6.4/vmlinuz", "x")
    tree.folder("/boot")
    Path(tree.outside("/boot/vmlinuz-6.4")).symlink_to("../usr/lib/modules/6.4/vmlinuz")
    root, boot = (PlannedFilesystem(f"/dev/vda{x}", 1, "ext4", "u", Filesystem("ext4")) for x in (3, 4))
    whole = Tree(tree.root, (Mounted(root, Mount("/")),))
    apart = Tree(tree.root, (Mounted(root, Mount("/")), Mounted(boot, Mount("/boot"))))
    assert [x.name for x in kernels(whole)] == ["vmlinuz-6.4"]
    assert kernels(apart) == []


def test_a_boot_loader_finds_a_kernel_from_the_top_of_its_file_system() -> None:
    fs = PlannedFilesystem("/dev/vda3", 1, "btrfs", "u", Filesystem("btrfs"))
    found = Kernel("/boot/vmlinuz-6.4", "/boot/initrd.img-6.4", "6.4")
    inside = found.from_top(Mounted(fs, Mount("/", subvolume="@a")))
    assert (inside.image, inside.initrd) == ("/@a/boot/vmlinuz-6.4", "/@a/boot/initrd.img-6.4")
    assert found.from_top(Mounted(fs, Mount("/"))) == found


def test_field_31_a_kernel_belongs_to_the_image_that_has_its_modules(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    _with_kernels(tree, ["6.1.0-40-amd64", "6.12.41-amd64"], ["6.1.0-40-amd64"])
    assert [x.name for x in kernels(tree)] == ["vmlinuz-6.12.41-amd64", "vmlinuz-6.1.0-40-amd64"]
    assert [(x.image, x.initrd) for x in own_kernels(tree, "deb12")] == [
        ("/boot/vmlinuz-6.1.0-40-amd64", "/boot/initrd.img-6.1.0-40-amd64")
    ]
    assert "image deb12: kernels in /boot that are not its own: vmlinuz-6.12.41-amd64" in caplog.text


def test_a_kernel_whose_header_has_no_release_goes_by_its_name(tree: Tree) -> None:
    _with_kernels(tree, [], ["6.1"])
    tree.write("/boot/vmlinuz-6.1", "")
    Path(tree.outside("/boot/vmlinuz-6.1")).write_bytes(b"other " * 85 + b"1234HdrS" + b"\0" * 300)
    assert [x.release for x in own_kernels(tree, "a")] == ["6.1"]


def test_field_31_modules_of_a_merged_usr(tree: Tree) -> None:
    _with_kernels(tree, ["6.1", "6.12"], ["6.12"], usr="/usr")
    assert [x.release for x in own_kernels(tree, "a")] == ["6.12"]
    Path(tree.outside("/lib")).symlink_to("usr/lib")
    assert with_modules(tree) == {"6.12"}


def test_field_31_what_a_removed_package_leaves_is_no_modules(tree: Tree) -> None:
    _with_kernels(tree, ["6.1", "6.12"], ["6.1"])
    tree.folder("/lib/modules/6.12/updates/dkms")
    assert [x.release for x in own_kernels(tree, "a")] == ["6.1"]


def test_field_31_kernels_without_any_modules_are_kept(tree: Tree) -> None:
    _with_kernels(tree, ["6.1", "6.12"], [])
    tree.folder("/lib/modules")
    assert [x.release for x in own_kernels(tree, "a")] == ["6.12", "6.1"]
    assert [x.release for x in own_kernels(tree, "a", {"/boot/vmlinuz-6.12"})] == ["6.1"]


def test_field_31_modules_of_other_kernels_only(tree: Tree) -> None:
    _with_kernels(tree, ["6.12"], ["6.1"])
    with pytest.raises(
        ActionFailed, match=r"no kernel .* modules it has: found vmlinuz-6\.12, and modules of 6\.1 are"
    ):
        own_kernels(tree, "deb12")


@pytest.mark.parametrize(
    ("content", "release"), [("linux", None), ("", None), (_bzimage("6.9.1-arch1-1"), "6.9.1-arch1-1")]
)
def test_field_31_a_kernel_says_itself_which_it_is(tree: Tree, content: str, release: str | None) -> None:
    tree.write("/boot/vmlinuz-linux", content)
    tree.write("/boot/initramfs-linux.img", "")
    tree.write("/usr/lib/modules/6.9.1-arch1-1/modules.order", "")
    assert kernels(tree)[0].release == (release or "linux")
    if release:
        assert own_kernels(tree, "arch")[0].initrd == "/boot/initramfs-linux.img"


def test_field_31_the_default_of_the_image_s_own_grub(tree: Tree) -> None:
    _with_kernels(tree, ["6.1", "6.12"], ["6.1"])
    own = own_kernels(tree, "a")
    with pytest.raises(ActionFailed, match=r"'a' would boot vmlinuz-6\.12, the newest .* no modules of 6\.12"):
        _check_default(tree, "a", own)
    tree.write("/etc/default/grub", "GRUB_DEFAULT=saved\n")
    _check_default(tree, "a", own)
    tree.write("/etc/default/grub", "GRUB_DEFAULT=0\n")
    tree.write("/lib/modules/6.12/modules.dep", "")
    _check_default(tree, "a", own_kernels(tree, "a"))


def test_an_odd_kernel_is_no_default_that_nobody_chose(tree: Tree) -> None:
    _with_kernels(tree, ["6.1", "6.2-rc1"], ["6.1", "6.2-rc1"])
    own = own_kernels(tree, "a")
    assert _odd(tree, "a", "/boot/vmlinuz-6.1", own) == []
    for settings, environment in (("", ""), ("GRUB_DEFAULT=saved\n", "next_entry=\n")):
        tree.write("/etc/default/grub", settings)
        tree.write("/boot/grub/grubenv", environment)
        with pytest.raises(
            ActionFailed, match=r"'a' would boot vmlinuz-6\.2-rc1, which .* it has vmlinuz-6\.1: take"
        ):
            _odd(tree, "a", "/boot/vmlinuz-6.2-rc1", own)
    tree.write("/boot/grub/grubenv", "saved_entry=6.2\n")
    assert _odd(tree, "a", "/boot/vmlinuz-6.2-rc1", own) == [
        "it would boot vmlinuz-6.2-rc1, which is for debugging, rescue or tests, though it has vmlinuz-6.1;"
        " so its settings choose"
    ]
    assert _odd(tree, "a", "/boot/vmlinuz-6.2-rc1", own[1:]) == []


def _usr_apart(tree: Tree) -> Tree:
    tree.write("/usr/lib/systemd/systemd", "")
    for name in ("lib", "sbin"):
        Path(tree.outside(f"/{name}")).symlink_to(f"usr/{name}")
    tree.folder("/usr/sbin")
    Path(tree.outside("/usr/sbin/init")).symlink_to("/lib/systemd/systemd")
    fs = PlannedFilesystem("/dev/vda3", 1, "ext4", "u", Filesystem("ext4"))
    return Tree(tree.root, (Mounted(fs, Mount("/")), Mounted(fs, Mount("/usr"))))


def test_field_42_usr_apart_needs_an_initramfs(tree: Tree) -> None:
    _with_kernels(tree, ["6.1"], [])
    kernel = kernels(tree)[0]
    apart = _usr_apart(tree)
    check_usr(apart, "a", kernel)
    check_usr(tree, "a", replace(kernel, initrd=None))  # one volume for all
    with pytest.raises(ActionFailed, match=r"'a' would not come up: its init .* vmlinuz-6\.1 has no initramfs"):
        check_usr(apart, "a", replace(kernel, initrd=None))
    Path(tree.outside("/sbin")).unlink()
    tree.write("/sbin/init", "")  # /usr is not merged
    check_usr(apart, "a", replace(kernel, initrd=None))


@pytest.mark.parametrize("hooks", ["base udev fsck", "base udev fsck usr", "base systemd"])
def test_field_42_usr_apart_with_an_initramfs_of_mkinitcpio(tree: Tree, hooks: str) -> None:
    _with_kernels(tree, ["6.1"], [])
    apart = _usr_apart(tree)
    tree.write("/usr/bin/mkinitcpio", "")
    tree.write("/etc/mkinitcpio.conf", f"MODULES=()\n#HOOKS=(usr)\nHOOKS=({hooks})\n")
    if hooks == "base udev fsck":
        with pytest.raises(ActionFailed, match=r"HOOKS in its mkinitcpio\.conf has no usr"):
            check_usr(apart, "arch", kernels(tree)[0])
    else:
        check_usr(apart, "arch", kernels(tree)[0])


def test_a_link_to_what_cannot_be_is_no_file(tree: Tree) -> None:
    tree.folder("/etc")
    Path(tree.outside("/etc/os-release")).symlink_to("a" * 300)
    Path(tree.outside("/etc/default")).symlink_to("b" * 300)
    assert release(tree) == {}
    assert tree.names("/etc/default") == []


def test_an_os_release_takes_no_time(tree: Tree) -> None:
    tree.write("/etc/os-release", f"ID=x\nNAME='{'x' * 6_000_000}'\n")
    assert release(tree) == {"ID": "x"}
