# SPDX-License-Identifier: Apache-2.0
"""Boot entries and the boot order, in a folder of variables as efivarfs shows them."""

from __future__ import annotations

import contextlib
import errno
import functools
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bareon.boot import nvram
from bareon.boot.disks import BootDisk
from bareon.boot.nvram import Found, after_current, remember
from bareon.boot.platform import PC_UEFI
from bareon.errors import CommandError
from bareon.model.deployment import BootOrder
from bareon.tools import efi
from bareon.tools.efi import entries, order

A, B, OLD, OTHER = (str(uuid.UUID(int=number)) for number in range(1, 5))
DISKS = [BootDisk(f"/dev/vd{x.lower()}", f"bareon {x}", PC_UEFI, None, 1, y.upper()) for x, y in (("A", A), ("B", B))]
LOADERS = ["\\x", "\\y"]
MAC = bytes.fromhex("030b2500") + bytes(33)
# What efibootmgr 17 says then.
FULL = "Could not prepare Boot variable: No space left on device\n"
GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


def option(entry: efi.Entry) -> bytes:
    """A ``Boot####`` variable as efivarfs shows it."""
    path = MAC if entry.network else b""
    if entry.partition:
        drive = (1).to_bytes(4, "little") + bytes(16) + uuid.UUID(entry.partition).bytes_le + b"\2\2"
        path += b"\4\1\x2a\0" + drive
    if entry.loader:
        text = f"{entry.loader}\0".encode("utf-16-le")
        path += b"\4\4" + (4 + len(text)).to_bytes(2, "little") + text
    path += bytes.fromhex("7fff0400")
    head = int(entry.active).to_bytes(4, "little") + len(path).to_bytes(2, "little")
    return b"\7\0\0\0" + head + f"{entry.label}\0".encode("utf-16-le") + path


class Firmware:
    """NVRAM in a folder; ``full`` takes no entry of that disk, and there is ``room`` for so many entries.

    ``writes`` are the changes that were made.
    """

    def __init__(self, place: Path, full: str = "", room: int | None = None) -> None:
        self.place = place
        self.full = full
        self.room = room
        self.writes: list[str] = []
        self.put({0: efi.Entry("UiApp"), 7: efi.Entry("debian", OTHER, "\\d")}, 0, 7)

    def put(self, entries: Mapping[int, efi.Entry], *order: int) -> None:
        """Write entries, and the order where it is given."""
        for number, entry in entries.items():
            self.set(f"Boot{number:04X}", option(entry)[4:])
        if order:
            self.set("BootOrder", b"".join(number.to_bytes(2, "little") for number in order))

    def set(self, name: str, data: bytes) -> None:
        (self.place / f"{name}-{GUID}").write_bytes(b"\7\0\0\0" + data)

    def get(self, name: str) -> bytes:
        return (self.place / f"{name}-{GUID}").read_bytes()

    def create(self, entry_number: int, label: str, disk: str, partition: int, loader: str) -> None:
        """What efibootmgr does."""
        if disk == self.full or len(self.entries) == self.room:
            raise CommandError(["efibootmgr"], 5, "failed with exit code 5", stderr=FULL)
        assert entry_number not in entries(str(self.place))
        self.put({entry_number: efi.Entry(label, A if disk == "/dev/vda" else B, loader)})
        self.writes.append(f"create {entry_number}")

    def noted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any) -> None:
            function(*arguments, place=str(self.place))
            self.writes.append(f"{function.__name__} {arguments[0]}")

        return changed

    @property
    def order(self) -> list[int]:
        return order(str(self.place))

    @property
    def entries(self) -> dict[int, efi.Entry]:
        return entries(str(self.place))

    @property
    def labels(self) -> list[str]:
        return [self.entries[number].label for number in self.order]


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Firmware:
    """A firmware with two entries of others, and links to the partitions of two disks and of another one."""
    place, partitions = tmp_path / "efivars", tmp_path / "by-partuuid"
    place.mkdir()
    partitions.mkdir()
    for name in (A, B, OTHER):
        (partitions / name).touch()
    made = Firmware(place)
    monkeypatch.setattr(nvram, "PARTITIONS", partitions)
    monkeypatch.setattr(efi, "variables", contextlib.nullcontext)
    for name in ("entries", "order", "number", "content"):
        monkeypatch.setattr(efi, name, functools.partial(getattr(efi, name), place=str(place)))
    for name in ("delete", "put", "reorder"):
        monkeypatch.setattr(efi, name, made.noted(getattr(efi, name)))
    monkeypatch.setattr(efi, "create", made.create)
    return made


@pytest.mark.pain("boot-order")
def test_firmware_that_takes_no_entry_is_told_and_ends_nothing(firmware: Firmware) -> None:
    firmware.full = "/dev/vda"
    assert remember(DISKS[1:], LOADERS[:1]) == {"nvram": "1 entry"}
    said = str(remember(DISKS, LOADERS)["nvram"])
    full = "the firmware's memory is full, and bareon takes out no entry but its own"
    assert said.startswith(f"1 of 2 entries, the rest is EFI/BOOT/BOOTX64.EFI; {full} (efibootmgr failed with")
    assert "Could not prepare Boot variable: No space left on device" in said
    assert firmware.labels == ["bareon B", "UiApp", "debian"]


def test_entries_that_are_right_stay_as_they_are(firmware: Firmware) -> None:
    assert remember(DISKS, LOADERS) == {"nvram": "2 entries"}
    assert firmware.labels == ["bareon A", "bareon B", "UiApp", "debian"]
    assert firmware.writes == ["create 1", "create 2", "reorder [1, 2, 0, 7]"]
    remember(DISKS, LOADERS)
    assert len(firmware.writes) == 3
    firmware.put({}, 7, 2, 1, 0)  # somebody else came first
    remember(DISKS, LOADERS)
    assert firmware.labels == ["bareon A", "bareon B", "debian", "UiApp"]
    assert len(firmware.writes) == 4


@pytest.mark.pain("boot-order")
def test_entries_of_an_earlier_run_are_replaced(firmware: Firmware) -> None:
    firmware.put(
        {
            1: efi.Entry("bareon A", A, "\\of another image"),
            2: efi.Entry("bareon A", OLD, "\\x"),
            3: efi.Entry("bareon C", OLD, "\\y"),  # of a disk that was taken out of the machine
        },
        *(0, 7, 1, 2, 3),
    )
    remember(DISKS[:1], LOADERS[:1])
    assert [firmware.entries[x] for x in firmware.order] == [
        efi.Entry("bareon A", A, "\\x"),
        efi.Entry("UiApp"),
        efi.Entry("debian", OTHER, "\\d"),  # not bareon's to judge
    ]
    assert sorted(firmware.entries) == [0, 1, 7]


EARLIER = efi.Entry("bareon A", OLD, "\\x")


def test_an_earlier_entry_is_there_until_the_new_one_is(firmware: Firmware) -> None:
    firmware.put({1: EARLIER}, 0, 7, 1)
    remember(DISKS[:1], LOADERS[:1])
    assert firmware.writes == ["create 2", "put 1", "delete 2", "reorder [1, 0, 7]"]


def test_an_earlier_entry_makes_room_for_the_new_one(firmware: Firmware) -> None:
    firmware.put({1: EARLIER}, 0, 7, 1)
    firmware.room = 3
    assert remember(DISKS[:1], LOADERS[:1]) == {"nvram": "1 entry"}
    assert firmware.entries[1] == efi.Entry("bareon A", A, "\\x")


@pytest.mark.parametrize("wanted", ["first", "unchanged"])
def test_an_earlier_entry_outlasts_a_memory_that_is_full(firmware: Firmware, wanted: BootOrder) -> None:
    firmware.put({1: EARLIER}, 0, 7, 1)
    before = firmware.get("Boot0001")
    firmware.full = "/dev/vda"
    assert str(remember(DISKS, LOADERS, wanted)["nvram"]).startswith("1 of 2 entries")
    assert firmware.get("Boot0001") == before
    assert [firmware.entries[x].label for x in (0, 1, 2, 7)] == ["UiApp", "bareon A", "bareon B", "debian"]


def test_an_earlier_entry_outlasts_a_program_that_is_missing(
    firmware: Firmware, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise CommandError(["efibootmgr"], None, "is not installed")

    firmware.put({1: EARLIER}, 0, 7, 1)
    monkeypatch.setattr(efi, "create", refuse)
    remember(DISKS[:1], LOADERS[:1])
    assert firmware.entries[1] == EARLIER
    assert "delete 1" not in firmware.writes


def test_an_entry_that_firmware_switched_off_is_made_anew(firmware: Firmware) -> None:
    firmware.put({1: efi.Entry("bareon A", A, "\\x", active=False)}, 0, 1, 7)
    remember(DISKS[:1], LOADERS[:1])
    assert firmware.entries[1].active
    assert firmware.order == [1, 0, 7]


@pytest.mark.pain("equal-serials")
def test_disks_with_one_serial_number_have_an_entry_each(firmware: Firmware) -> None:
    disks = [replace(disk, label="bareon A") for disk in DISKS]
    for _ in range(2):
        assert remember(disks, LOADERS) == {"nvram": "2 entries"}
        assert [firmware.entries[x].partition for x in firmware.order] == [A, B, None, OTHER]
    assert len(firmware.writes) == 3


def test_a_full_memory_is_told_from_what_else_a_firmware_refuses(
    firmware: Firmware, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(efi, "create", refused)
    said = str(remember(DISKS, LOADERS)["nvram"])
    assert said == "0 of 2 entries, the rest is EFI/BOOT/BOOTX64.EFI ([Errno 5] Input/output error)"


def test_a_full_memory_keeps_the_entries_of_others(firmware: Firmware) -> None:
    """Among them two of one label, one that leads nowhere, and one without any path; bareon's that is gone goes."""
    others = {
        1: efi.Entry("debian", OLD, "\\d"),
        2: efi.Entry("debian", OTHER, "\\d"),
        3: efi.Entry("Linux"),
        4: efi.Entry("", OTHER, None),
    }
    firmware.put({**others, 5: efi.Entry("bareon Z", OLD, "\\x")}, *range(8))
    before = {number: firmware.get(f"Boot{number:04X}") for number in (0, 1, 2, 3, 4, 7)}
    firmware.full = "/dev/vdb"
    remember(DISKS, LOADERS)
    assert {number: firmware.get(f"Boot{number:04X}") for number in before} == before
    assert {x.label for x in firmware.entries.values()} == {"UiApp", "debian", "Linux", "", "bareon A"}
    assert "reorder" in firmware.writes[-1]


@pytest.mark.parametrize(
    "path",
    [
        b"",  # none at all
        bytes.fromhex("7fff0400"),  # the end alone
        bytes.fromhex("0404"),  # cut short
        bytes.fromhex("04010400"),  # a partition that is too short to name one
        bytes.fromhex("0404ffff"),  # a length behind the end
        bytes.fromhex("04040000"),  # a length of nothing, which would be read for ever
    ],
)
def test_an_entry_without_a_path_to_speak_of(path: bytes) -> None:
    head = (1).to_bytes(4, "little") + len(path).to_bytes(2, "little")
    found = efi.entry(b"\7\0\0\0" + head + "Hard Drive\0".encode("utf-16-le") + path)
    assert found == efi.Entry("Hard Drive")
    assert not found.network


def test_the_word_length_of_a_firmware(tmp_path: Path) -> None:
    place = tmp_path / "fw_platform_size"
    assert efi.bits(str(place)) is None
    for text, bits in (("32\n", 32), ("64\n", 64), ("\n", None), ("128\n", None)):
        place.write_text(text)
        assert efi.bits(str(place)) == bits


def test_nothing_is_gone_where_nobody_knows_the_partitions(
    firmware: Firmware, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(nvram, "PARTITIONS", tmp_path / "absent")
    firmware.put({1: efi.Entry("bareon C", OLD, "\\y")})
    remember(DISKS[:1], LOADERS[:1])
    assert "bareon C" in [x.label for x in firmware.entries.values()]


#: An order with all that firmware may leave in one: what does not exist, what is named twice, what is switched off.
FOREIGN = {
    0x21: efi.Entry("PXE", network=True),
    0x22: efi.Entry("Medium", OTHER, "\\vmlinuz"),
    0x23: efi.Entry("off", OTHER, "\\z", active=False),
}
ORDER = (0, 0x23, 2, 0x22, 0x21, 2, 7)


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        ("first", [1, 3, *ORDER]),
        ("after-current", [0x22, 1, 3, 0, 0x23, 2, 0x21, 2, 7]),
        ("unchanged", list(ORDER)),
    ],
)
@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.pain("boot-order")
def test_the_order_of_others_after_three_runs(
    firmware: Firmware, wanted: BootOrder, order: list[int], *, anew: bool
) -> None:
    firmware.put(FOREIGN, *ORDER)
    firmware.set("BootCurrent", b"\x22\0")
    firmware.set("BootNext", b"\4\0")
    foreign = {number: firmware.get(f"Boot{number:04X}") for number in firmware.entries}
    for _ in range(3):
        told = remember(DISKS, LOADERS, wanted)
        assert told["nvram"] == "2 entries"
        assert firmware.order == order
        # 2 is free, but named by the order; 4 is named as what comes next.
        assert sorted(firmware.entries) == sorted({*foreign, 1, 3})
        assert {number: firmware.get(f"Boot{number:04X}") for number in foreign} == foreign
        assert firmware.get("BootNext") == b"\7\0\0\0\4\0"
        if anew:  # as after another partition table
            firmware.put({1: efi.Entry("bareon A", OLD, "\\x"), 3: efi.Entry("bareon B", OLD, "\\x")})
    orders = [x for x in firmware.writes if x.startswith("reorder")]
    assert len(orders) == (wanted != "unchanged")


def test_what_the_report_says_of_the_order(firmware: Firmware) -> None:
    firmware.put({**FOREIGN, 0x24: efi.Entry("a\x1b[31m" + "b" * 90)}, 0x24, *ORDER, 0x22)
    assert remember(DISKS, LOADERS, "unchanged") == {
        "nvram": "2 entries",
        "boot_order": f"0024 a\\x1b[31m{'b' * 31}, 0000 UiApp, 0023 off (inactive), 0002 (no such entry),"
        " 0022 Medium, 0021 PXE, 0002 (no such entry), 0007 debian, and 1 more",
    }


@pytest.mark.parametrize(
    ("current", "others", "expected"),
    [
        (7, [0, 7, 9], [7, 1, 3, 0, 9]),
        (None, [0, 7, 9], [1, 3, 0, 7, 9]),  # nothing of a network
        (None, [0, 0x21, 0x25, 7, 0x26], [0x21, 0x25, 1, 3, 0, 7, 0x26]),
        (8, [0, 7, 0x21], [0x21, 1, 3, 0, 7]),  # firmware made it for the moment: it is not in the order
        (9, [9, 0x21, 7], [9, 1, 3, 0x21, 7]),  # in the order, but not there any more
        (4, [0x21, 4, 7], [0x21, 1, 3, 4, 7]),  # bareon's own, of another disk
        (1, [0x21, 7], [0x21, 1, 3, 7]),  # bareon's own, of this one
        (7, [7, 0, 7], [7, 1, 3, 0]),
    ],
)
def test_what_started_the_ramdisk_comes_first(current: int | None, others: list[int], expected: list[int]) -> None:
    network = efi.Entry("PXE", network=True)
    known = {0: efi.Entry("UiApp"), 4: efi.Entry("bareon C"), 7: efi.Entry("debian")}
    known |= dict.fromkeys((0x21, 0x25, 0x26), network)
    assert after_current(others, [1, 3], Found((), known), current) == expected


def test_an_entry_that_an_unchanged_order_names_keeps_its_number(firmware: Firmware) -> None:
    firmware.put({5: efi.Entry("bareon A", OLD, "\\x"), 6: efi.Entry("bareon C", OLD, "\\x")}, 7, 5, 6, 0)
    firmware.put({8: efi.Entry("bareon A", A, "\\x")})
    remember(DISKS[:1], LOADERS[:1], "unchanged")
    assert firmware.order == [7, 5, 6, 0]
    assert firmware.entries[5] == efi.Entry("bareon A", A, "\\x")
    assert sorted(firmware.entries) == [0, 5, 6, 7]


def test_an_order_that_firmware_changes_by_itself(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(entry_number: int, *arguments: Any) -> None:
        firmware.create(entry_number, *arguments)
        firmware.put({}, entry_number, *firmware.order)

    monkeypatch.setattr(efi, "create", create)
    remember(DISKS, LOADERS, "unchanged")
    assert firmware.order == [0, 7]


def test_a_firmware_that_keeps_its_order(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efi, "reorder", lambda _: None)
    assert remember(DISKS, LOADERS) == {
        "nvram": "2 entries",
        "boot_order": "the firmware did not keep what was asked for: 0000 UiApp, 0007 debian",
    }

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(efi, "reorder", refuse)
    assert remember(DISKS, LOADERS, "after-current")["boot_order"] == (
        "cannot be written (Read-only file system): 0000 UiApp, 0007 debian"
    )


def test_a_node_without_any_variables(firmware: Firmware) -> None:
    for path in firmware.place.iterdir():
        path.unlink()
    remember(DISKS, LOADERS, "unchanged")
    assert firmware.order == []
    remember(DISKS, LOADERS)
    assert firmware.get("BootOrder") == b"\7\0\0\0\0\0\1\0"


def test_variables_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise CommandError(["mount"], 32, "failed with exit code 32", stderr="unknown filesystem type")

    monkeypatch.setattr(efi, "variables", refuse)
    assert set(remember(DISKS, LOADERS)) == {"nvram"}
    told = remember(DISKS, LOADERS, "unchanged")
    assert str(told["nvram"]).startswith("0 of 2 entries, the rest is EFI/BOOT")
    assert str(told["boot_order"]).startswith("not known (")


def test_a_variable_of_others_that_cannot_be_read(firmware: Firmware) -> None:
    (firmware.place / f"Boot0001-{GUID}").symlink_to("/proc/self/mem")  # EIO
    assert firmware.entries[1] == efi.Entry("")
    assert remember(DISKS, LOADERS) == {"nvram": "2 entries"}
    assert firmware.order == [2, 3, 0, 7]


def test_numbers_in_small_letters_and_attributes_of_a_vendor(tmp_path: Path) -> None:
    place = str(tmp_path)
    lower, order = tmp_path / f"Boot00ab-{GUID}", tmp_path / f"BootOrder-{GUID}"
    lower.write_bytes(option(efi.Entry("x")))
    order.write_bytes(bytes.fromhex("07000080 ab00 01"))
    assert list(efi.entries(place)) == efi.order(place) == [0xAB]
    efi.delete(0xAB, place)
    assert not lower.exists()
    efi.reorder([1, 0xAB], place)
    assert order.read_bytes() == bytes.fromhex("07000000 0100 ab00")


@pytest.mark.parametrize(
    ("nodes", "network"),
    [
        (MAC, True),
        (bytes.fromhex("02010c00d041030a00000000 010106000002") + MAC, True),  # behind a card of PCI
        (bytes.fromhex("03180a00") + b"http:/", True),
        (MAC + bytes.fromhex("03130500 00"), False),  # iSCSI
        (MAC + bytes.fromhex("04030400"), False),
        (b"", False),
    ],
)
def test_what_starts_from_a_network(nodes: bytes, *, network: bool) -> None:
    head = (1).to_bytes(4, "little") + len(nodes).to_bytes(2, "little")
    assert efi.entry(b"\7\0\0\0" + head + b"X\0\0\0" + nodes).network == network


@pytest.mark.parametrize(("data", "found"), [("06000000 2200", 0x22), ("06000000", None), ("06000000 220000", None)])
def test_what_started_this_system(tmp_path: Path, data: str, found: int | None) -> None:
    assert efi.number("BootCurrent", str(tmp_path)) is None
    (tmp_path / f"BootCurrent-{GUID}").write_bytes(bytes.fromhex(data))
    assert efi.number("BootCurrent", str(tmp_path)) == found
    (tmp_path / f"BootNext-{GUID}").symlink_to("/proc/self/mem")  # EIO
    assert efi.number("BootNext", str(tmp_path)) is None
