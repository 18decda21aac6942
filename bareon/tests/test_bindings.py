# SPDX-License-Identifier: Apache-2.0
"""What an image knows of the machine that it was made on, file by file."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.actions import copyimage
from bareon.actions.copyimage import BindSystem
from bareon.boot.single import parameters
from bareon.errors import ActionFailed
from bareon.model.deployment import InterfaceName
from bareon.model.layout import Layout
from bareon.plan.plan import Plan
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.storage.filesystem import Filesystem, Mount, PlannedFilesystem
from bareon.storage.kind import CryptDevice, Decision, Policy, System
from bareon.storage.md import PlannedArray
from bareon.system import initramfs
from bareon.system.bindings import block, crypttab, fstab, interface
from bareon.system.bindings.binding import Change
from bareon.system.bindings.crypttab import Crypttab
from bareon.system.bindings.device_map import DeviceMap
from bareon.system.bindings.devices_file import DevicesFiles, Filters
from bareon.system.bindings.fstab import Fstab
from bareon.system.bindings.home import Home, normal
from bareon.system.bindings.home import array as home_array
from bareon.system.bindings.interface import Interfaces
from bareon.system.bindings.kernel_words import KernelWords
from bareon.system.bindings.leftover import Leftovers
from bareon.system.bindings.mdadm_conf import MdadmConf
from bareon.system.bindings.multipath import Multipath
from bareon.system.bindings.resume import MARK, Resume
from bareon.system.bindings.table import bind, of_node
from bareon.system.tree import Tree
from bareon.tests.cases import HERE, load, plan_of
from bareon.tools import initramfs as initramfs_maker
from bareon.tools import lvm
from bareon.tools.sandbox import View

ROOT = ("ext4", "/", "u-root")


def _plan(name: str) -> Plan:
    return plan_of(load(HERE / "cases/plan" / f"{name}.yaml"))


def _layout(
    *filesystems: tuple[str, str, str],
    policy: Policy = "clean",
    options: str = "defaults",
    enabled: bool = True,
) -> Layout:
    decision: Decision = "create" if policy == "clean" else "keep"
    parts = []
    for number, (kind, point, uuid) in enumerate(filesystems, 1):
        wanted = Filesystem(kind, (Mount(point, options, enabled, ("a",)),))
        fs = PlannedFilesystem(f"/dev/x{number}", 1, kind, uuid, wanted, decision=decision)
        parts.append(PlannedPartition(f"/dev/x{number}", 1, number, 0, "volume", "", content=fs))
    return Layout(policy, "bios", (PlannedDisk("/dev/x", 1, 512, "", tuple(parts)),))


def _home(layout: Layout, *, elsewhere: Sequence[str] = (), former: Sequence[str] = (), there: bool = False) -> Home:
    volumes = (*layout.tree("a"), *layout.swaps("a"))
    return Home(layout, "a", frozenset(elsewhere), frozenset(former), volumes=volumes, there=lambda _: there)


def _kept(*filesystems: tuple[str, str, str], elsewhere: Sequence[str] = (), former: Sequence[str] = ()) -> Home:
    return _home(_layout(*filesystems, policy="verify"), elsewhere=elsewhere, former=former)


def _written(home: Home, existing: str | None = None) -> str:
    return str(Fstab().bound("/etc/fstab", existing, home).text)


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line not in (fstab.HEADER, block.END)]


def test_fstab() -> None:
    layout = _layout(
        ("swap", "swap", "u-swap"),
        ("xfs", "/srv/a b", "u-srv"),
        ("ext4", "/var/log", "u-log"),
        ("ext4", "/", "u-root"),
        ("vfat", "/boot/efi", "AB-CD"),
        ("btrfs", "/var", "u-var"),
    )
    assert _lines(_written(_home(layout))) == [
        "UUID=u-root / ext4 defaults 0 1",
        "UUID=AB-CD /boot/efi vfat defaults 0 2",
        r"UUID=u-srv /srv/a\040b xfs defaults 0 0",
        "UUID=u-var /var btrfs defaults 0 0",
        "UUID=u-log /var/log ext4 defaults 0 2",
        "UUID=u-swap none swap defaults 0 0",
    ]


def test_what_of_fstab_is_not_as_it_was_written() -> None:
    home = _kept(("ext4", "/", "u-root"), ("xfs", "/srv", "u-srv"))
    text = _written(home, "server:/x /x nfs ro 0 0\n")
    assert list(fstab.differences(text, home.volumes)) == []
    assert list(fstab.differences(f"{text}UUID=usb /mnt ext4 defaults 0 0\n", home.volumes)) == []
    root, srv = "UUID=u-root / ext4 defaults 0 1", "UUID=u-srv /srv xfs defaults 0 0"
    assert list(fstab.differences(text.replace(srv, f"#{srv}"), home.volumes)) == [
        f"expected the line '{srv}', found none"
    ]
    assert list(fstab.differences(text.replace("u-srv", "u-old"), home.volumes)) == [
        f"expected the line '{srv}', found none",
        f"expected no line '{srv.replace('u-srv', 'u-old')}', found it",
    ]
    assert list(fstab.differences(None, home.volumes)) == [
        f"expected the line {x!r}, found none" for x in (root, srv)
    ]


def test_the_line_of_a_volume_that_could_not_be_looked_at_may_be_any() -> None:
    home = _kept(("ext4", "/", "u-root"), ("xfs", "/srv", "u-srv"))
    root, srv = home.volumes
    unseen = (root, replace(srv, filesystem=replace(srv.filesystem, unseen=True, uuid="unknown")))
    assert list(fstab.differences(_written(home), unseen)) == []
    found = fstab.differences(_written(home).replace("/srv", "/data"), unseen)
    assert list(found) == ["expected no line 'UUID=u-srv /data xfs defaults 0 0', found it"]


def test_fstab_says_which_subvolume_is_mounted() -> None:
    home = _home(_layout(("btrfs", "/", "u-root"), options="noatime"))
    root = home.volumes[0]
    volumes = [
        replace(root, mount=replace(root.mount, point=x, subvolume=y)) for x, y in (("/", "@"), ("/a b", "@b"))
    ]
    assert _lines(_written(replace(home, volumes=tuple(volumes)))) == [
        "UUID=u-root / btrfs noatime,subvol=@ 0 0",
        r"UUID=u-root /a\040b btrfs noatime,subvol=@b 0 0",
    ]


STRANGE = (
    "a b",
    "a\\b",
    r"a\040b",
    "a#b",
    "#",
    "a'b\"c",
    "*?[x]",
    "\xe9\U0001f600",
    "a,b=c",
    "-",
    "$(id)`id`",
    "%n~",
)


@pytest.mark.parametrize("name", STRANGE)
def test_a_mount_point_is_what_libmount_reads(tmp_path: Path, name: str) -> None:
    home = _kept(ROOT, ("ext4", f"/srv/{name}", "u-srv"))
    text = _written(home)
    (tmp_path / "fstab").write_text(text)
    argv = ["findmnt", "--tab-file", str(tmp_path / "fstab"), "--json", "--list", "-o", "SOURCE,TARGET,OPTIONS"]
    rows = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)["filesystems"]
    assert [(x["source"], x["target"]) for x in rows] == [("UUID=u-root", "/"), ("UUID=u-srv", f"/srv/{name}")]
    assert _written(home, text) == text


def test_fstab_disabled_is_a_comment() -> None:
    text = _written(_home(_layout(ROOT, enabled=False, options="noatime,ro")))
    assert "# UUID=u-root / ext4 noatime,ro 0 1\n" in text


def test_an_image_brings_no_lines_to_a_root_made_anew() -> None:
    assert _lines(_written(_home(_layout(ROOT)), "UUID=golden /data xfs defaults 0 0\n")) == [
        "UUID=u-root / ext4 defaults 0 1"
    ]


def test_foreign_lines_stay_and_ours_are_renewed() -> None:
    home = _kept(ROOT, ("swap", "swap", "u-swap"))
    once = _written(home, "# by hand\nserver:/x /mnt nfs ro 0 0\nUUID=old / ext3 defaults 0 1\ntmpfs /tmp tmpfs")
    assert _lines(once) == [
        "UUID=u-root / ext4 defaults 0 1",
        "UUID=u-swap none swap defaults 0 0",
        "# by hand",
        "server:/x /mnt nfs ro 0 0",
        "tmpfs /tmp tmpfs",
    ]
    assert _written(home, once) == once


SECOND = (ROOT, ("ext4", "/srv/data", "u-new"), ("swap", "swap", "u-swap2"))
AFTER = [
    "UUID=u-root / ext4 defaults 0 1",
    "UUID=u-new /srv/data ext4 defaults 0 2",
    "UUID=u-swap2 none swap defaults 0 0",
]


@pytest.mark.pain("stale-fstab-lines")
def test_field_38_a_second_document_leaves_no_line_of_the_first() -> None:
    first = _written(_kept(ROOT, ("ext4", "/data", "u-old"), ("swap", "swap", "u-swap1"), ("xfs", "/more", "u-more")))
    added = f"{first}UUID=usb /usb ext4 nofail 0 2\n"
    change = Fstab().bound("/etc/fstab", added, _kept(*SECOND, elsewhere=["UUID=u-more", "UUID=usb"]))
    # The disk of /more is dropped, though still in the machine; that of /usb never was the document's.
    assert _lines(str(change.text)) == [*AFTER, "UUID=usb /usb ext4 nofail 0 2"]
    assert change.warnings == ()


def test_field_38_lines_of_an_earlier_version_are_known_too() -> None:
    old = "\n".join((
        fstab.HEADER,
        "UUID=u-root / ext4 defaults 0 1",
        "UUID=u-old /data ext4 defaults 0 2",
        "UUID=u-swap1 none swap defaults 0 0",
        "UUID=usb /usb ext4 nofail 0 2",
        "# by hand",
        "UUID=u-odd /odd ext4 defaults 0 2",
        "",
    ))  # fmt: skip
    change = Fstab().bound("/etc/fstab", old, _kept(*SECOND, elsewhere=["UUID=usb"]))
    kept = ["UUID=usb /usb ext4 nofail 0 2", "# by hand", "UUID=u-odd /odd ext4 defaults 0 2"]
    assert _lines(str(change.text)) == [*AFTER, *kept]
    assert change.warnings == (
        "/etc/fstab: 'UUID=u-odd /odd ext4 defaults 0 2' is kept, and the node lacks UUID=u-odd",
    )


def test_field_38_lines_of_an_installer_go_with_their_devices() -> None:
    installed = (
        "UUID=U-SWAP1 none swap sw 0 0\nUUID=u-root /mnt/bind ext4 defaults 0 0\nUUID=u-two /two ext4 ro 0 0\n"
    )
    home = _kept(*SECOND, former=["UUID=u-swap1", "UUID=u-root", "UUID=u-old"], elsewhere=["UUID=u-two"])
    assert _lines(_written(home, installed)) == [*AFTER, "UUID=u-two /two ext4 ro 0 0"]


def test_a_swap_area_outside_of_the_layout_stays() -> None:
    home = _kept(ROOT, ("swap", "swap", "u-swap"), elsewhere=["UUID=other"])
    text = "UUID=other swap swap defaults 0 0\nUUID=old swap swap defaults 0 0\n"
    assert _lines(_written(home, text)) == [
        "UUID=u-root / ext4 defaults 0 1",
        "UUID=u-swap none swap defaults 0 0",
        "UUID=other swap swap defaults 0 0",
    ]


def test_a_subvolume_of_the_layouts_btrfs_stays_mounted() -> None:
    home = _kept(("btrfs", "/", "u-root"))
    added = "UUID=u-root /home btrfs subvol=@home,noatime 0 0"
    once = _written(home, f"UUID=u-root / btrfs subvol=@ 0 0\n{added}\n")
    assert _lines(once) == ["UUID=u-root / btrfs defaults 0 0", added]
    assert _written(home, once) == once


def test_a_line_that_somebody_put_into_the_block_stays() -> None:
    home = _kept(ROOT)
    first = _written(home).replace("0 1\n", "0 1\nserver:/x\t/mnt nfs ro 0 0\n")
    assert _lines(_written(home, first)) == ["UUID=u-root / ext4 defaults 0 1", "server:/x\t/mnt nfs ro 0 0"]


@pytest.mark.parametrize(
    ("name", "lacking"),
    [
        ("UUID=U-ROOT", False),
        ("/dev/disk/by-uuid/u-root", False),
        ("/dev/x1", False),
        ("LABEL=here", False),
        ("LABEL=gone", True),
        ("UUID=gone", True),
        ('UUID="gone"', True),
        ("PARTUUID=gone", True),
        ("/dev/disk/by-id/ata-GOLDEN", True),
        ("/dev/mapper/golden-root", True),
        ("/dev/zram0", False),
        ("/dev/sr0", False),
        ("tmpfs", False),
        ("server:/dev/x", False),
    ],
)
def test_what_the_node_lacks(name: str, *, lacking: bool) -> None:
    assert _home(_layout(ROOT), elsewhere=["LABEL=here"]).lacks(name) == lacking


def test_what_the_ramdisk_sees_is_there_unless_it_was_replaced() -> None:
    home = _home(_layout(ROOT), former=["UUID=old"], there=True)
    assert (home.lacks("UUID=gone"), home.lacks("UUID=old"), normal("UUID=")) == (False, True, None)


@pytest.mark.parametrize("name", [f"/dev/{'x' * 300}", f"UUID={'x' * 5000}", "/dev/\0", "UUID=\udce9"])
def test_a_name_that_cannot_be_is_not_there(name: str) -> None:
    assert Home(_layout(ROOT), "a").lacks(name)


def test_crypttab_of_the_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "system", lambda *_: System((), (CryptDevice("data", "/dev/vda2", "1", ("luks",)),)))
    home = _kept(ROOT, elsewhere=["/dev/vdz"])
    first = str(Crypttab().bound("", "# swap anew\nswap /dev/vdz /dev/urandom swap\n", home).text)
    assert first.splitlines()[1:] == [
        "data UUID=1 none luks,initramfs",
        block.END,
        "# swap anew",
        "swap /dev/vdz /dev/urandom swap",
    ]
    monkeypatch.setattr(Layout, "system", lambda *_: System((), (CryptDevice("new", "/dev/vda2", "2", ("luks",)),)))
    assert Crypttab().bound("", first, home).text == first.replace("data UUID=1", "new UUID=2")


def test_crypttab_names_what_has_no_uuid_by_its_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = _layout(ROOT)
    part = replace(layout.disks[0].partitions[0], guid="C0FFEE")
    layout = replace(layout, disks=(replace(layout.disks[0], partitions=(part,)),))
    swap = CryptDevice("swap0", part.device, None, ("swap",), "/dev/urandom")
    monkeypatch.setattr(Layout, "system", lambda *_: System((), (swap, replace(swap, name="b", device="/dev/os/b"))))
    assert layout.crypttab("a") == (
        "b /dev/os/b /dev/urandom swap,initramfs",
        "swap0 PARTUUID=c0ffee /dev/urandom swap,initramfs",
    )


def test_what_a_system_makes_at_each_start(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = _layout(ROOT, ("ext4", "/tmp", "u-tmp"), ("swap", "swap", "u-swap"))
    at_start = property(lambda fs: None if fs.uuid == "u-root" else f"/dev/mapper/{fs.uuid}")
    monkeypatch.setattr(PlannedFilesystem, "mapped_at_start", at_start)
    assert [x.point for x in layout.tree("a")] == ["/"]
    assert [x.point for x in layout.made_at_start("a")] == ["/tmp"]
    home = replace(_home(layout), volumes=(*layout.tree("a"), *layout.swaps("a"), *layout.made_at_start("a")))
    assert _written(home).splitlines()[1:4] == [
        "UUID=u-root / ext4 defaults 0 1",
        "/dev/mapper/u-swap none swap defaults 0 0",
        "/dev/mapper/u-tmp /tmp ext4 defaults 0 0",
    ]
    assert home.swap is None


def test_crypttab_of_another_machine() -> None:
    golden = "# <name> <device>\nluks-1 UUID=gone none luks,discard\n"
    change = Crypttab().bound("/etc/crypttab", golden, _home(_layout(ROOT)))
    assert change.text == "# <name> <device>\n# Taken out by bareon: luks-1 UUID=gone none luks,discard\n"
    assert "UUID=gone" in change.done[0]
    kept = Crypttab().bound("/etc/crypttab", golden, _kept(ROOT))
    assert (kept.text, len(kept.warnings)) == (golden, 1)
    assert Crypttab().bound("/etc/crypttab", None, _home(_layout(ROOT))).text is None


def test_crypttab_of_an_earlier_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "system", lambda *_: System((), (CryptDevice("data", "/dev/vda2", "1", ("luks",)),)))
    old = f"{crypttab.HEADER}\ndata UUID=0 none luks\nwas UUID=old none luks\nhand /dev/vdz /etc/key luks\n"
    home = _kept(ROOT, elsewhere=["/dev/vdz"], former=["UUID=old"])
    change = Crypttab().bound("/etc/crypttab", old, home)
    assert str(change.text).splitlines()[1:] == [
        "data UUID=1 none luks,initramfs",
        block.END,
        "hand /dev/vdz /etc/key luks",
    ]


def test_names_of_interfaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "eth0").mkdir()
    (tmp_path / "eth0/address").write_text("52:54:00:00:00:01\n")
    monkeypatch.setattr(interface, "SYS", tmp_path)
    golden = 'ATTR{address}=="52:54:00:00:00:01", NAME="a"\nATTR{address}=="52:54:00:99:99:99", NAME="b"\n'
    change = Interfaces().bound(interface.RULES, golden, _home(_layout(ROOT)))
    assert str(change.text).splitlines()[1].startswith("# Taken out by bareon: ATTR")
    assert len(change.done) == 1
    kept = Interfaces().bound(interface.RULES, golden, _kept(ROOT))
    assert (kept.text, len(kept.warnings)) == (golden, 1)
    named = replace(_home(_layout(ROOT)), interfaces=(InterfaceName("52:54:00:00:00:01", "lan"),))
    ours = Interfaces().bound(interface.RULES, golden, named).text
    assert 'NAME="lan"' in str(ours)
    replaced = Interfaces().bound(interface.RULES, golden, replace(_kept(ROOT), interfaces=named.interfaces))
    assert (replaced.text, len(replaced.warnings)) == (ours, 2)
    again = Interfaces().bound(interface.RULES, ours, replace(_kept(ROOT), interfaces=named.interfaces))
    assert again == Change(ours)
    # A second document that names none.
    assert Interfaces().bound(interface.RULES, ours, _kept(ROOT)).text is None


def test_no_image_brings_what_is_the_nodes_own_to_a_kept_root() -> None:
    assert {"/etc/fstab", "/etc/crypttab", interface.RULES} <= set(of_node())


def test_a_file_is_removed_and_a_link_not_followed(tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "root/etc/fstab").symlink_to("../../victim")
    tree = Tree(str(tmp_path / "root"))
    tree.remove("/etc/fstab")
    tree.remove("/etc/fstab")
    assert (tmp_path / "victim").read_text() == "precious"
    assert tree.names("/etc") == []


def test_a_folder_that_is_a_link_is_followed_inside_the_tree(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/boot/grub2/device.map", "(hd0) /dev/gone\n")
    Path(tree.outside("/boot/grub")).symlink_to("/boot/grub2")
    bind(tree, _home(_layout(ROOT)))
    assert tree.names("/boot/grub2") == []


def test_etc_itself_must_be_a_folder(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    Path(tree.outside("/etc")).symlink_to("/")
    with pytest.raises(ActionFailed, match="'etc' is a link, a folder is needed"):
        bind(tree, _home(_layout(ROOT)))
    assert tree.names("/") == ["etc"]


@pytest.mark.pain("waits-for-resume")
def test_field_49_resume() -> None:
    place, golden = "/etc/initramfs-tools/conf.d/resume", "RESUME=UUID=0d5a3c1e-1111\n"
    swap = _home(_layout(ROOT, ("swap", "swap", "u-swap")))
    change = Resume().bound(place, golden, swap)
    assert change.text == f"{MARK}\nRESUME=UUID=u-swap\n"
    assert change.done == (f"{place}: RESUME is UUID=u-swap, since the node lacks UUID=0d5a3c1e-1111",)
    assert Resume().bound(place, change.text, swap) == Change(change.text)
    # Swap is made anew, then there is none.
    anew = Resume().bound(place, change.text, _kept(ROOT, ("swap", "swap", "u-new"), former=["UUID=u-swap"]))
    assert anew.text == f"{MARK}\nRESUME=UUID=u-new\n"
    assert Resume().bound(place, anew.text, _kept(ROOT)).text == f"{MARK}\nRESUME=none\n"


@pytest.mark.parametrize("value", ["none", "auto", "", "/dev/x2", "/dev/zram0"])
def test_a_resume_that_names_nothing_strange_stays(value: str) -> None:
    home = _home(_layout(ROOT, ("swap", "swap", "u-swap")))
    assert Resume().bound("/x", f"RESUME={value}\n", home) == Change(f"RESUME={value}\n")


def test_a_comment_is_no_part_of_resume() -> None:
    home = _home(_layout(ROOT, ("swap", "swap", "u-swap")), elsewhere=["UUID=there"])
    text = "RESUME=UUID=there # the second disk\n"
    assert Resume().bound("/x", text, home) == Change(text)


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("quiet resume=UUID=gone resume_offset=17 splash", "quiet resume=UUID=u-swap splash"),
        ("resume=UUID=u-swap resume_offset=17", "resume=UUID=u-swap resume_offset=17"),
        ("rd.lvm.lv=rhel/root rd.lvm.lv=rhel/swap rhgb", "rhgb"),
        ("rd.lvm.vg=rhel rd.lvm.vg=there", "rd.lvm.vg=there"),
        ("rd.lvm.lv=there/lv rd.auto", "rd.lvm.lv=there/lv rd.auto"),
        ("a rd.md.uuid=c0ffee00:00004000:80000000:00000001", "a"),
        ("rd.md.uuid=dead0000:00000000:00000000:00000001", "rd.md.uuid=dead0000:00000000:00000000:00000001"),
        ("rd.luks.uuid=luks-1234 rd.luks.name=1234=root quiet", "quiet"),
        (
            "rd.luks.uuid=luks-c0 rd.luks.uuid=c0ffee-1 rd.luks.uuid=c0ffee-2",
            "rd.luks.uuid=luks-c0 rd.luks.uuid=c0ffee-1",
        ),
        ("root=LABEL=cloudimg-rootfs ro console=ttyS0", "ro console=ttyS0"),
        ("root=/dev/x2", ""),
        ("root=UUID=u-root root=/dev/x1", "root=UUID=u-root root=/dev/x1"),
        ("root=ZFS=rpool/ROOT quiet root=/dev/nfs", "quiet"),
        ("rootflags=noatime,subvol=@ quiet", "rootflags=noatime quiet"),
        ("rootflags=subvol=root quiet", "quiet"),
        ("rootflags=noatime", "rootflags=noatime"),
        ("cryptdevice=UUID=1234:root", ""),
        ("my.resume=UUID=gone $(resume) resume=$X", "my.resume=UUID=gone $(resume) resume=$X"),
    ],
)
def test_words_of_another_machine_are_taken_out_of_the_parameters(words: str, left: str) -> None:
    known = ["/dev/there/lv", "UUID=c0ffee-1", home_array("dead0000-0000-0000-0000-000000000001")]
    home = _home(_layout(ROOT, ("swap", "swap", "u-swap")), elsewhere=known)
    for name in ("GRUB_CMDLINE_LINUX", "export GRUB_CMDLINE_LINUX_DEFAULT"):
        for quote in ('"', "'"):
            change = KernelWords().bound("/etc/default/grub", f"A=b\n{name}={quote}{words}{quote}\n", home)
            assert change.text == f"A=b\n{name}={quote}{left}{quote}\n"
            assert KernelWords().bound("/etc/default/grub", change.text, home) == Change(change.text)


@pytest.mark.parametrize("policy", ["clean", "verify"])
def test_the_subvolume_of_the_layout_is_the_roots(policy: Policy) -> None:
    home = _home(_layout(("btrfs", "/", "u-root"), policy=policy))
    root = home.volumes[0]
    home = replace(home, volumes=(replace(root, mount=replace(root.mount, subvolume="@")),))
    words = "rootflags=noatime,subvol=@ rootflags=subvol=/@ rootflags=subvol=@home rootflags=subvolid=7,noatime"
    change = KernelWords().bound("/etc/default/grub", f'GRUB_CMDLINE_LINUX="{words}"\n', home)
    left = "rootflags=noatime,subvol=@ rootflags=subvol=/@ rootflags=noatime"
    assert change.text == f'GRUB_CMDLINE_LINUX="{left}"\n'


def test_field_03_words_on_further_lines_and_of_additions_are_looked_at() -> None:
    text = (
        'GRUB_CMDLINE_LINUX="a \\\n root=LABEL=gone b"\nGRUB_CMDLINE_LINUX+=" root=UUID=gone c"\nX="root=/dev/gone"\n'
    )
    change = KernelWords().bound("/etc/default/grub", text, _home(_layout(ROOT)))
    assert change.text == 'GRUB_CMDLINE_LINUX="a \\\n b"\nGRUB_CMDLINE_LINUX+=" c"\nX="root=/dev/gone"\n'
    assert len(change.done) == 2


def test_settings_of_grub_that_name_another_machines_root() -> None:
    text = (
        "GRUB_FORCE_PARTUUID=gone\nGRUB_DEVICE_UUID=u-root\nGRUB_DEVICE=/dev/vg/gone\nGRUB_DISABLE_LINUX_UUID=true\n"
    )
    change = KernelWords().bound("/etc/default/grub", text, _home(_layout(ROOT)))
    assert str(change.text).splitlines() == [
        "# Taken out by bareon: GRUB_FORCE_PARTUUID=gone",
        "GRUB_DEVICE_UUID=u-root",
        "# Taken out by bareon: GRUB_DEVICE=/dev/vg/gone",
        "GRUB_DISABLE_LINUX_UUID=true",
    ]
    assert (len(change.done), len(change.warnings)) == (2, 1)


def test_what_the_document_says_of_the_parameters_is_left_alone() -> None:
    text = "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX \"'root=/dev/gone'  # bareon\n"
    assert KernelWords().bound("/etc/default/grub", text, _home(_layout(ROOT))) == Change(text)


def _with_lvm(home: Home) -> Home:
    layout = _plan("lvm-on-raid").layout
    return replace(home, layout=replace(layout, policy=home.layout.policy), image="debian")


SYSTEM_DEVICES = "VERSION=1.1.1\nIDTYPE=sys_wwid IDNAME=naa.600 DEVNAME=/dev/sda3 PVID=9dRH PART=3\n"


@pytest.mark.pain("lvm-of-another-machine")
def test_field_33_a_devices_file_of_another_machine_is_removed() -> None:
    place = "/etc/lvm/devices/system.devices"
    change = DevicesFiles().bound(place, SYSTEM_DEVICES, _with_lvm(_home(_layout(ROOT))))
    assert (change.text, len(change.done)) == (None, 1)
    assert DevicesFiles().bound(place, SYSTEM_DEVICES, _home(_layout(ROOT))) == Change(SYSTEM_DEVICES)
    assert "/etc/lvm/devices/*.devices" in of_node()


@pytest.mark.pain("lvm-of-another-machine")
def test_field_33_a_filter_that_hides_a_physical_volume_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[tuple[Sequence[str], Sequence[str]]] = []

    def passes(patterns: Sequence[str], devices: Sequence[str]) -> bool:
        judged.append((patterns, devices))
        return '"a|^/dev/sda|"' not in patterns

    monkeypatch.setattr(lvm, "passes", passes)
    home = _with_lvm(_home(_layout(ROOT)))
    text = 'devices {\n\t# filter = [ "r|a|" ]\n\tglobal_filter = [ "a|^/dev/sda|",\n # all else\n "r|.*|" ]\n'
    text += '\tfilter = [ "r|/dev/zd.*|" ]\n}\n'
    change = Filters().bound("/etc/lvm/lvm.conf", text, home)
    assert str(change.text).splitlines() == [
        "devices {",
        '\t# filter = [ "r|a|" ]',
        '# Taken out by bareon: \tglobal_filter = [ "a|^/dev/sda|",',
        "# Taken out by bareon:  # all else",
        '# Taken out by bareon:  "r|.*|" ]',
        '\tfilter = [ "r|/dev/zd.*|" ]',
        "}",
    ]
    assert judged[0] == (['"a|^/dev/sda|"', '"r|.*|"'], home.physical_volumes)
    assert home.physical_volumes
    assert Filters().bound("/etc/lvm/lvm.conf", change.text, home) == Change(change.text)


def test_a_filter_in_single_quotes_and_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Sequence[str]] = []
    monkeypatch.setattr(lvm, "passes", lambda patterns, _: judged.append(patterns))
    text = "filter = [ 'a|/dev/gone|', # not \"b\"\n 'r|.*|' ]\n"
    change = Filters().bound("/etc/lvm/lvm.conf", text, _with_lvm(_home(_layout(ROOT))))
    assert judged == [["'a|/dev/gone|'", "'r|.*|'"]]
    assert len(change.done) == 1


def test_a_filter_without_end_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lvm, "passes", lambda *_: False)
    text = "filter = [ " + '"a|x|" , ' * 20_000
    assert Filters().bound("/etc/lvm/lvm.conf", text, _with_lvm(_home(_layout(ROOT)))) == Change(text)


def test_arrays_of_another_machine() -> None:
    layout = _plan("raid1-root").layout
    home = replace(_home(_layout(ROOT)), layout=layout, image="debian")
    plain = "HOMEHOST <system>\n"
    assert MdadmConf().bound("/x", plain, home) == Change(plain)
    golden = "ARRAY /dev/md/0 metadata=1.2 UUID=c0ffee00:00004000:80000000:00000001"
    text = f"{plain}{golden}\n   name=golden:0\nMAILADDR root\n"
    change = MdadmConf().bound("/x", text, home)
    assert str(change.text).splitlines() == [
        "HOMEHOST <system>",
        f"# Taken out by bareon: {golden}",
        "# Taken out by bareon:    name=golden:0",
        "MAILADDR root",
        "# Written by bareon: the arrays of this node.",
        *layout.mdadm_conf(),
        block.END,
    ]
    assert len(layout.mdadm_conf()) == len(layout.aggregates)
    assert MdadmConf().bound("/x", change.text, home) == Change(change.text)
    kept = MdadmConf().bound("/x", text, _kept(ROOT))
    assert (kept.text, len(kept.warnings)) == (text, 1)


@pytest.mark.parametrize("more", ["auto=yes", "bitmap=/b", "container=/dev/md127", "devices=/dev/vda1,/dev/vdb1"])
def test_an_array_is_known_whatever_follows_its_uuid(more: str) -> None:
    uuid = "c0ffee00:00004000:80000000:00000001"
    text = f"ARRAY /dev/md/0 UUID={uuid} {more}\n"
    assert MdadmConf().bound("/x", text, _home(_layout(ROOT), elsewhere=[home_array(uuid)])).text == text


def test_names_of_files_are_shown_as_they_may_be_and_few_devices_are_looked_for(tmp_path: Path) -> None:
    tree, asked = Tree(str(tmp_path)), list[str]()
    tree.write("/etc/initramfs-tools/conf.d/a\n\x1b[31m", "RESUME=UUID=gone\n")
    assert bind(tree, _home(_layout(ROOT))).done[0].startswith("/etc/initramfs-tools/conf.d/a\\n\\x1b[31m: RESUME")
    home = replace(_home(_layout(ROOT)), there=lambda name: bool(asked.append(name)))
    change = Leftovers().bound("/x", "".join(f"/dev/sda{number}\n" for number in range(5000)), home)
    assert (len(change.warnings), len(asked)) == (20, 20)


def test_names_of_multipath() -> None:
    text = "# Multipath bindings\nmpatha 3600224801234567890abcdef12345678\n"
    assert Multipath().bound("/etc/multipath/bindings", text, _home(_layout(ROOT))).text is None
    assert Multipath().bound("/etc/multipath/bindings", text, _kept(ROOT)) == Change(text)
    assert Multipath().bound("/etc/multipath/wwids", "# none\n", _home(_layout(ROOT))) == Change("# none\n")


def test_a_list_of_disks_of_another_machine_is_not_grubs() -> None:
    text = "(hd0)\t/dev/disk/by-id/ata-GOLDEN\n"
    assert DeviceMap().bound("/boot/grub/device.map", text, _home(_layout(ROOT))).text is None
    assert DeviceMap().bound("/boot/grub/device.map", text, _kept(ROOT)) == Change(text)
    assert len(Leftovers().bound("/boot/grub/device.map", text, _kept(ROOT)).warnings) == 1


def test_what_is_left_is_told() -> None:
    text = (
        "root=UUID=gone ro\n# UUID=comment\noptions root=/dev/mapper/rhel-root resume=LABEL=SWAP rd.lvm.lv=rhel/x\n"
    )
    change = Leftovers().bound("/etc/kernel/cmdline", text, _home(_layout(ROOT)))
    assert change == Change(
        text,
        (),
        tuple(
            f"/etc/kernel/cmdline names {name}, which the node lacks"
            for name in ("UUID=gone", "/dev/mapper/rhel-root", "LABEL=SWAP", "/dev/rhel/x")
        ),
    )


def _image(tmp_path: Path) -> Tree:
    tree = Tree(str(tmp_path))
    tree.write("/etc/fstab", "UUID=golden / xfs defaults 0 0\n")
    tree.write("/etc/crypttab", "luks UUID=golden none luks\n", 0o600)
    tree.write("/etc/default/grub", 'GRUB_CMDLINE_LINUX="resume=UUID=golden quiet"\n')
    tree.write("/etc/initramfs-tools/conf.d/resume", "RESUME=UUID=golden\n")
    tree.write("/etc/multipath/bindings", "mpatha 3600\n")
    tree.write("/etc/kernel/cmdline", "root=UUID=golden\n")
    tree.write("/etc/kdump.conf", "ext4 UUID=golden\n")
    tree.write("/lib/modules/6.1/modules.dep", "")
    tree.write("/boot/initrd.img-6.1", "golden")
    return tree


def _files(tree: Tree) -> dict[str, tuple[str, int]]:
    found = (path for path in Path(tree.root).rglob("*") if path.is_file())
    return {str(path): (path.read_text(), path.stat().st_mode) for path in found}


def test_a_second_and_third_run_change_nothing(tmp_path: Path) -> None:
    tree, layout = _image(tmp_path), _layout(ROOT, ("swap", "swap", "u-swap"))
    first = bind(tree, _home(layout))
    copied = ["/etc/crypttab", "/etc/initramfs-tools/conf.d/resume", "/etc/multipath/bindings"]
    assert first.stale == copied
    assert first.warnings == ["/etc/kdump.conf names UUID=golden, which the node lacks"]
    assert "root=UUID=u-root" in str(tree.read("/etc/kernel/cmdline"))
    files = _files(tree)
    for policy in ("clean", "verify"):
        again = bind(tree, _home(replace(_layout(ROOT, ("swap", "swap", "u-swap"), policy="verify"), policy=policy)))
        assert (again.stale, again.done, _files(tree)) == ([], [], files)


def test_only_initial_ramdisks_of_kernels_with_modules_are_the_images(tmp_path: Path) -> None:
    tree = _image(tmp_path)
    tree.write("/boot/initrd.img-6.12", "another image's")
    tree.write("/boot/initrd.img-5.10", "of a kernel that was removed")
    tree.folder("/lib/modules/5.10/updates")
    assert initramfs.initial_ramdisks(tree) == [initramfs.InitialRamdisk("/boot/initrd.img-6.1", "6.1")]
    assert (initramfs.maker(tree), initramfs.is_dracut(tree)) == (None, False)
    tree.write("/usr/bin/dracut", "")
    assert (initramfs.maker(tree), initramfs.is_dracut(tree)) == ("dracut", True)
    tree.write("/usr/sbin/update-initramfs", "")
    assert initramfs.maker(tree) == "update-initramfs"


@pytest.mark.pain("dracut-and-arrays")
def test_field_32_dracut_is_told_what_root_lies_on(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    raid, group = _plan("raid1-root").layout, _plan("lvm-on-raid").layout
    assert parameters("quiet", tree, raid, "debian") == "quiet"
    tree.write("/usr/bin/dracut", "")
    uuids = {x.name: x.uuid for x in raid.aggregates if isinstance(x, PlannedArray)}
    assert parameters("quiet", tree, raid, "debian") == f"quiet rd.md.uuid={uuids['root']}"
    assert parameters("quiet", tree, _plan("multiboot").layout, "b") == "quiet rd.lvm.lv=os/b"
    root = next(x for x in group.filesystems() if x.wanted.point == "/")
    (member,) = (x.uuid for x in group.aggregates if isinstance(x, PlannedArray))
    assert group.system(root).kernel_arguments == ("rd.lvm.lv=os/root", f"rd.md.uuid={member}")
    tree.write("/etc/default/grub", 'GRUB_CMDLINE_LINUX="resume=UUID=x"\n')
    resumed = parameters("quiet", tree, raid, "debian").split()
    assert len(resumed) == 2 + ("swap" in uuids)


def test_words_in_words_take_no_time() -> None:
    text = f'GRUB_CMDLINE_LINUX="{"root=" * 1_000_000}$"\n'
    assert KernelWords().bound("/etc/default/grub", text, _home(_layout(ROOT))) == Change(text)
    assert Leftovers().bound("/etc/kernel/cmdline", text, _home(_layout(ROOT))).warnings == ()


@pytest.mark.parametrize("program", ["update-initramfs", "dracut", None])
def test_an_initramfs_with_copies_is_made_again_once(
    program: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tree, layout = _image(tmp_path), _layout(ROOT)
    made: list[tuple[str, ...]] = []
    if program:
        tree.write(f"/usr/sbin/{program}", "")

    @contextlib.contextmanager
    def mounted_tree(*_: object, **__: object) -> Iterator[Tree]:
        yield Tree(str(tmp_path), layout.tree("a"))

    def remake(_: View, *words: str) -> None:
        made.append(words)
        os.utime(tree.outside("/boot/initrd.img-6.1"))

    monkeypatch.setattr(copyimage, "mounted_tree", mounted_tree)
    monkeypatch.setattr(initramfs_maker, "remake", remake)
    fresh = BindSystem("do_copyimage", _home(layout))
    outcome = fresh.run(lambda *_: None)
    command = (program, "/boot/initrd.img-6.1", "6.1")
    assert made == ([command] if program else [])
    copies = "/etc/crypttab, /etc/initramfs-tools/conf.d/resume, /etc/multipath/bindings"
    assert copies in str(outcome["initramfs" if program else "warnings"])
    assert "/etc/kdump.conf names UUID=golden" in caplog.text
    if not program:
        return
    kept = BindSystem("do_copyimage", _home(_layout(ROOT, policy="verify")))
    assert "initramfs" not in kept.run(lambda *_: None)
    assert len(made) == 1
    # The image brings its own again, though none of the files.
    tree.write("/boot/initrd.img-6.1", "golden, again")
    assert kept.run(lambda *_: None)["initramfs"] == f"made anew by {program}, as it has copies of files of this node"
    assert made == [command] * 2
    # A run that ended too early is made good.
    initramfs.to_be_made(tree)
    assert "initramfs" in kept.run(lambda *_: None)
    assert "initramfs" not in kept.run(lambda *_: None)
    # Of another machine that bareon has deployed.
    assert (fresh.run(lambda *_: None), tree.read(initramfs.RECORD)) == ({"warnings": outcome["warnings"]}, None)


def test_an_initramfs_that_must_be_made_again_without_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, layout = _image(tmp_path), _layout(ROOT)
    tree.write("/usr/sbin/update-initramfs", "")
    made: list[tuple[str, ...]] = []
    monkeypatch.setattr(copyimage, "mounted_tree", lambda *_, **__: contextlib.nullcontext(tree))
    monkeypatch.setattr(initramfs_maker, "remake", lambda _, *words: made.append(words))
    fresh = BindSystem("do_copyimage", _home(layout), programs=False)
    kept = BindSystem("do_copyimage", _home(_layout(ROOT, policy="verify")), programs=False)
    told = "update-initramfs of the image would have to make the initramfs anew.*--image_programs none forbids it"
    for step in (fresh, kept):  # a later run does not take it for done
        with pytest.raises(ActionFailed, match=told):
            step.run(lambda *_: None)
    assert made == []
    assert "initramfs" in replace(kept, programs=True).run(lambda *_: None)
    assert len(made) == 1
