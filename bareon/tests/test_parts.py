# SPDX-License-Identifier: Apache-2.0
"""Which partition of an image is meant, and what its own fstab mounts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from bareon.drivers.deploy.ownfstab import Own, mounts
from bareon.drivers.deploy.parts import chosen, found_by_type, placed_by_type
from bareon.errors import ImageFailed
from bareon.model.image import Part
from bareon.transfer.partitions import Entry, Table
from bareon.transfer.superblock import Superblock

MIB = 1 << 20
DATA, DOS_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "0x83"
ROOT, BOOT = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "BC13C2FF-59E6-4262-A352-B275FD6F7172"
ESP, BIOS = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "21686148-6449-6E6F-744E-656564454649"
SWAP, LVM = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", "E6D6D379-F507-44C2-A23C-238F2A3DF928"


def entry(number: int, kind: str, name: str = "") -> Entry:
    return Entry(number, number * MIB, MIB, kind, f"AAAAAAAA-0000-0000-0000-{number:012}", name)


def table(*kinds: str) -> Table:
    return Table("gpt", 512, tuple(entry(number, kind) for number, kind in enumerate(kinds, 1)))


NAMED = Table("gpt", 512, (entry(1, BIOS), entry(2, DATA, "main"), entry(3, DATA, "twin"), entry(4, DATA, "twin")))


@pytest.mark.parametrize(
    ("wanted", "of", "number"),
    [
        (2, NAMED, 2),
        ("main", NAMED, 2),
        ("aaaaaaaa-0000-0000-0000-000000000003", NAMED, 3),
        ("root", table(BIOS, ESP, ROOT, DATA), 3),
        ("root", table(BIOS, DATA, SWAP), 2),
        ("root", table(DOS_DATA, "0x82"), 1),
        ("boot", table(ROOT, BOOT), 2),
        ("boot", Table("gpt", 512, (entry(1, ROOT), entry(2, DATA, "boot"))), 2),
    ],
)
def test_a_part_means_one_partition(wanted: int | str, of: Table, number: int) -> None:
    assert chosen(Part(wanted), of, {}).number == number


@pytest.mark.parametrize(
    ("wanted", "of", "said"),
    [
        (5, NAMED, "$.p.partition: no partition is 5; there are: 1 (BIOS boot, 1 MiB); 2 (data, 'main', 1 MiB"),
        ("twin", NAMED, "2 partitions are 'twin'"),
        ("Main", NAMED, "no partition is 'Main'"),
        ("root", NAMED, "3 partitions are 'root'"),
        ("root", table(ROOT, ROOT), "2 partitions are 'root'"),
        ("root", table(LVM), "no partition is 'root'; there are: 1 (LVM"),
        ("boot", NAMED, "no partition is 'boot'"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_table(wanted: int | str, of: Table, said: str) -> None:
    with pytest.raises(ImageFailed) as caught:
        chosen(Part(wanted, path="$.p"), of, {})
    assert said in str(caught.value)


def test_without_parts_the_root_is_told_by_its_type() -> None:
    root, others = found_by_type(table(BIOS, ESP, ROOT, BOOT, SWAP, LVM, DATA), {7: Superblock("crypto_LUKS")})
    assert (root.number, [x.number for x in others]) == (3, [2, 4])
    with pytest.raises(ImageFailed, match="2 of its partitions may have its root: say which by parts; there are: 1"):
        found_by_type(table(DATA, DATA), {})
    with pytest.raises(ImageFailed, match="none of its partitions has its root"):
        found_by_type(table(LVM), {})


HOME, VAR = "933AC7E1-2EB4-4F13-B844-0E14E2AEF915", "4D21B016-B534-45C2-A9FB-5C16E091FD2D"


@pytest.mark.parametrize(
    ("of", "placed"),
    [
        (table(BIOS, ESP, ROOT, BOOT, SWAP), [(3, "/"), (4, "/boot")]),
        (table(HOME, "0xef", DATA), [(3, "/"), (1, "/home")]),
        (table(DOS_DATA, "0x82"), [(1, "/")]),
        (table(ROOT, DATA), None),
        (table(ROOT, VAR), None),
        (table(ROOT, BOOT, BOOT), None),
        (table(DATA, DATA), None),
        (table(LVM), None),
    ],
)
def test_types_tell_where_partitions_belong_or_do_not(of: Table, placed: list[tuple[int, str]] | None) -> None:
    found = placed_by_type(of, {})
    assert (found and [(entry.number, point) for entry, point in found]) == placed


ENTRIES = [entry(1, ROOT, "main"), entry(2, BOOT), entry(15, ESP)]
TAGS: Mapping[Entry, Mapping[str, str]] = dict(
    zip(
        ENTRIES,
        ({"UUID": "1111-Aa", "LABEL": "a b"}, {"UUID": "2222", "TYPE": "ext4"}, {"UUID": "5A3C-1E0D"}),
        strict=True,
    )
)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("UUID=1111-aa / ext4", (1, "/", None)),
        ('LABEL="a\\040b" / ext4 defaults 0 1', (1, "/", None)),
        ("PARTUUID=aaaaaaaa-0000-0000-0000-000000000002 /boot ext4 x", (2, "/boot", None)),
        ("PARTLABEL=main / ext4 x", (1, "/", None)),
        ("/dev/sda15 /boot/efi/ vfat x", (15, "/boot/efi", None)),
        ("/dev/nvme0n1p2 /boot ext4 x", (2, "/boot", None)),
        ("/dev/disk/by-uuid/2222 /boot ext4 x", (2, "/boot", None)),
        ("UUID=1111-aa /home btrfs rw,subvol=/@home,x", (1, "/home", "@home")),
        ("UUID=1111-aa /home btrfs subvol=a\\040b", (1, "/home", "a b")),
        ("tmpfs /tmp tmpfs x", None),
        ("UUID=2222 none swap sw", None),
        ("# UUID=2222 /boot ext4 x", None),
        ("server:/a /a nfs x", None),
        ("UUID=9999 /data ext4 nofail", None),
        ("UUID=2222 /boot", None),
    ],
)
def test_a_line_of_its_fstab(line: str, found: tuple[int, str, str | None] | None) -> None:
    assert [(x.entry.number, x.point, x.subvolume) for x in mounts(line, TAGS)] == ([found] if found else [])


def test_parents_come_first_and_the_last_line_counts() -> None:
    text = (
        "UUID=5A3C-1E0D /boot/efi vfat x\nUUID=2222 /boot ext4 x\nUUID=1111-aa /boot ext4 x\nUUID=1111-aa / ext4 x\n"
    )
    assert mounts(text, TAGS) == [Own(ENTRIES[0], "/"), Own(ENTRIES[0], "/boot"), Own(ENTRIES[2], "/boot/efi")]


def test_partitions_that_need_not_be_there() -> None:
    assert mounts("UUID=9999 /boot/efi vfat x", TAGS, beside=("vfat",)) == []
    with pytest.raises(ImageFailed, match="which is none of its partitions"):
        mounts("UUID=9999 /boot ext4 x", TAGS, beside=("vfat",))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("UUID=9999 /data ext4 x", "mounts UUID=9999 at /data, which is none of its partitions"),
        ("UUID=2222 /../etc ext4 x", "where no volume can be"),
        ("UUID=2222 /a//b ext4 x", "where no volume can be"),
        ("UUID=2222 /proc/x ext4 x", "where no volume can be"),
        ("UUID=2222 //proc ext4 x", "where no volume can be"),
        ("UUID=2222 ///dev/x ext4 x", "where no volume can be"),
        ("UUID=2222 /a\0b ext4 x", "control characters"),
        ("UUID=2222 /a\\012b ext4 x", "control characters"),
        ("UUID=1111-aa /b btrfs subvol=x\0y", "control characters"),
        ("UUID=1111-aa /b btrfs subvol=x\\012y", "control characters"),
        ("UUID=1111-aa /b btrfs subvol=@\\054exec", "a comma in its name"),
        ("UUID= /data ext4 x", "which is none of its partitions"),
        ("LABEL= /data ext4 x", "which is none of its partitions"),
        ("PARTLABEL= /data ext4 x", "which is none of its partitions"),
    ],
)
def test_a_line_that_leads_nowhere(line: str, said: str) -> None:
    with pytest.raises(ImageFailed, match=said):
        mounts(line, TAGS)
