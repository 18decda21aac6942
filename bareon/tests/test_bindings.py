# SPDX-License-Identifier: Apache-2.0
"""What an image knows of the machine that it was made on, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.model.deployment import InterfaceName
from bareon.model.layout import Layout
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.storage.filesystem import Filesystem, Mount, PlannedFilesystem
from bareon.storage.kind import Decision, Policy, System
from bareon.system.bindings import block, fstab, interface
from bareon.system.bindings.crypttab import Crypttab
from bareon.system.bindings.fstab import Fstab
from bareon.system.bindings.home import Home, normal
from bareon.system.bindings.interface import Interfaces
from bareon.system.bindings.table import of_node
from bareon.system.tree import Tree

ROOT = ("ext4", "/", "u-root")


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


def test_crypttab_of_the_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "system", lambda *_: System((), ("data UUID=1 none luks",)))
    home = _kept(ROOT, elsewhere=["/dev/vdz"])
    first = str(Crypttab().bound("", "# swap anew\nswap /dev/vdz /dev/urandom swap\n", home).text)
    assert first.splitlines()[1:] == [
        "data UUID=1 none luks",
        block.END,
        "# swap anew",
        "swap /dev/vdz /dev/urandom swap",
    ]
    monkeypatch.setattr(Layout, "system", lambda *_: System((), ("new UUID=2 none luks",)))
    assert Crypttab().bound("", first, home).text == first.replace("data UUID=1", "new UUID=2")


def test_crypttab_of_another_machine() -> None:
    golden = "# <name> <device>\nluks-1 UUID=gone none luks,discard\n"
    change = Crypttab().bound("/etc/crypttab", golden, _home(_layout(ROOT)))
    assert change.text == "# <name> <device>\n# Taken out by bareon: luks-1 UUID=gone none luks,discard\n"
    assert "UUID=gone" in change.done[0]
    kept = Crypttab().bound("/etc/crypttab", golden, _kept(ROOT))
    assert (kept.text, len(kept.warnings)) == (golden, 1)
    assert Crypttab().bound("/etc/crypttab", None, _home(_layout(ROOT))).text is None


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
