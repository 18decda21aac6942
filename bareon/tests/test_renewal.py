# SPDX-License-Identifier: Apache-2.0
"""The entry of one image renewed in the menu of several: all else stays, the default too."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.boot import bareon_boot, info, menu
from bareon.boot.menu import Entry
from bareon.boot.renewal import _text, kernels, numbers
from bareon.boot.several import Found, with_older_kernel
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.system.kernel import Kernel

NAMES = ("one", "two", "three")
OLD = [Entry(f"{x} (on /dev/{x})", "/boot/vmlinuz-1", "/boot/initrd.img-1", f"u-{x}", ("ro",)) for x in NAMES]
NEW = Entry("two", "/boot/vmlinuz-3", "/boot/initrd.img-3", "u-new", ("root=UUID=new", "x=$a'b c"), ("lvm",))
OLDER = Kernel("/boot/vmlinuz-2", "/boot/initrd.img-2", "2")
LISTED = [
    Found(f"/dev/{x}", f"r-{x}", None, x, entry, {}, "vmlinuz", f"/dev/{x}").listed(
        Image(x, Location(f"rsync://a/{x}"), uuid=f"i-{x}"), n
    )
    for n, (x, entry) in enumerate(zip(NAMES, OLD, strict=True))
]


def _older(*which: int) -> Mapping[int, Entry]:
    return {n: with_older_kernel(OLD[n], Kernel("/boot/vmlinuz-0", None, "0")) for n in which}


@pytest.fixture
def partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "multiboot/boot/grub2"
    folder.mkdir(parents=True)
    (folder / "grubenv").write_text(menu.environment())
    (folder / "bareon-images").write_text(info.table(LISTED))
    monkeypatch.setenv("BAREON_MULTIBOOT", str(folder.parents[1]))
    return folder


def _renew(
    tmp_path: Path, found: Found, image: str = "two", listed: info.Listed | None = None
) -> subprocess.CompletedProcess[str]:
    """Renew the entry of an image; add it where ``listed`` is one that the list has not."""
    place = tmp_path / "new"
    place.mkdir(exist_ok=True)
    command = "add" if listed else "renew"
    listed = listed or found.listed(LISTED[1].image, 1)
    (place / "entry").write_text(_text(found, listed.title))
    if found.older:
        (place / "older").write_text(_text(found, listed.title, older=True))
    (place / "listed").write_text(info.table([listed]))
    words = ["sh", "-s", "--", command, image, str(place)]
    return subprocess.run(words, input=bareon_boot.script(["u"]), capture_output=True, text=True)


@pytest.mark.parametrize(
    ("before", "default", "older", "after", "then"),
    [
        ((), 0, None, (), 0),
        ((), 2, OLDER, (1,), 2),
        ((0, 1, 2), 1, OLDER, (0, 1, 2), 1),
        ((0, 1, 2), 5, None, (0, 2), 4),
        ((0, 2), 4, OLDER, (0, 1, 2), 5),
    ],
)
def test_the_entry_alone_is_another_one(
    partition: Path,
    tmp_path: Path,
    before: tuple[int, ...],
    default: int,
    older: Kernel | None,
    after: tuple[int, ...],
    then: int,
) -> None:
    (partition / "grub.cfg").write_text(menu.configuration(OLD, menu.once(), default=default, older=_older(*before)))
    found = Found("/dev/new", "r-new", None, "Two 13", NEW, {}, "vmlinuz", "/dev/new", older)
    done = _renew(tmp_path, found)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    entry = NEW.called("Two 13 (on /dev/new)")
    wanted = {**_older(*after), **({1: with_older_kernel(entry, older)} if older else {})}
    entries = [OLD[0], entry, OLD[2]]
    assert (partition / "grub.cfg").read_text() == menu.configuration(
        entries, menu.once(), default=then, older=wanted
    )
    table = [LISTED[0], found.listed(LISTED[1].image, 1), LISTED[2]]
    assert (partition / "bareon-images").read_text() == info.table(table)
    files = {x.name: x.stat().st_ino for x in partition.iterdir()}
    assert _renew(tmp_path, found).returncode == 0
    assert {x.name: x.stat().st_ino for x in partition.iterdir()} == files  # again is nothing


def test_the_document_is_that_of_the_renewal_or_none(partition: Path, tmp_path: Path) -> None:
    (partition / "grub.cfg").write_text(menu.configuration(OLD, menu.once()))
    found = Found("/dev/new", "r-new", None, "Two", NEW, {}, "vmlinuz", "/dev/new")
    document, given = partition / "bareon-input.json", tmp_path / "new/document"
    given.parent.mkdir()
    for text in ("{}\n", '{"a": 1}\n'):
        given.write_text(text)
        assert _renew(tmp_path, found).returncode == 0
        assert (document.read_text(), document.stat().st_mode & 0o777) == (text, 0o600)
    assert (partition / "bareon-input.json.old").read_text() == "{}\n"
    given.unlink()
    assert _renew(tmp_path, found).returncode == 0
    assert not list(partition.glob("bareon-input*"))


ADDED = Found("/dev/four", "r-four", None, "Four", NEW, {}, "vmlinuz", "/dev/four", OLDER)
FOUR = ADDED.listed(Image("four", Location("rsync://a/four"), uuid="i-four"), 3)


@pytest.mark.parametrize(
    ("before", "default", "older", "then"),
    [((), 0, None, 0), ((), 2, OLDER, 2), ((0, 2), 1, OLDER, 1), ((0, 1, 2), 4, OLDER, 5), ((1,), 3, None, 4)],
)
def test_the_entry_of_another_image_is_added(
    partition: Path, tmp_path: Path, before: tuple[int, ...], default: int, older: Kernel | None, then: int
) -> None:
    """Behind those of all images, whose numbers stay, and before the older kernels, which a default follows."""
    old = menu.configuration(OLD, menu.once(), default=default, older=_older(*before))
    (partition / "grub.cfg").write_text(old)
    (partition / "bareon-images").write_text(info.table([*LISTED, replace(FOUR, number=None)]))  # of no system before
    found = replace(ADDED, older=older)
    done = _renew(tmp_path, found, "four", FOUR)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    entry = NEW.called(FOUR.title)
    more = {3: with_older_kernel(entry, older)} if older else {}
    wanted = menu.configuration([*OLD, entry], menu.once(), default=then, older={**_older(*before), **more})
    assert (partition / "grub.cfg").read_text() == wanted
    assert (partition / "grub.cfg.old").read_text() == old
    assert (partition / "bareon-images").read_text() == info.table([*LISTED, FOUR])


def test_an_entry_that_a_power_cut_left_out_of_the_list_is_not_added_twice(partition: Path, tmp_path: Path) -> None:
    (partition / "grub.cfg").write_text(menu.configuration(OLD, menu.once(), older=_older(1)))
    listed = (partition / "bareon-images").read_text()
    assert _renew(tmp_path, ADDED, "four", FOUR).returncode == 0
    once = (partition / "grub.cfg").read_text()
    (partition / "bareon-images").write_text(listed)
    done = _renew(tmp_path, ADDED, "four", FOUR)
    assert (done.returncode, done.stderr) == (0, "")
    assert (partition / "grub.cfg").read_text() == once
    assert (partition / "bareon-images").read_text() == info.table([*LISTED, FOUR])


def test_a_number_that_was_taken_meanwhile_is_not_given_again(partition: Path, tmp_path: Path) -> None:
    text = menu.configuration([*OLD, OLD[0].called("another")], menu.once())
    (partition / "grub.cfg").write_text(text)
    (partition / "bareon-images").write_text(info.table([*LISTED, info.Listed(LISTED[0].image, 3, None, "another")]))
    done = _renew(tmp_path, ADDED, "four", FOUR)
    assert (done.returncode, done.stderr) == (6, "bareon-boot: the menu was changed meanwhile\n")
    assert (partition / "grub.cfg").read_text() == text


def test_a_menu_that_is_not_as_bareon_writes_it_stays(partition: Path, tmp_path: Path) -> None:
    text = menu.configuration(OLD, menu.once()).replace("menuentry '", 'menuentry "')
    (partition / "grub.cfg").write_text(text)
    done = _renew(tmp_path, Found("/dev/new", "r-new", None, "Two", NEW, {}, "vmlinuz", "/dev/new"))
    assert (done.returncode, done.stderr) == (6, "bareon-boot: entry 1 of grub.cfg is not as bareon writes them\n")
    assert (partition / "grub.cfg").read_text() == text
    assert (
        _renew(tmp_path, Found("/dev/new", "r-new", None, "Two", NEW, {}, "vmlinuz", "/dev/new"), "four").returncode
        == 2
    )


def test_what_the_menu_says_of_the_images() -> None:
    assert numbers(info.table([*LISTED, info.Listed(LISTED[0].image)])) == {"one": 0, "two": 1, "three": 2}
    assert numbers("x\n\t\n-\ta\n99999\tb\n") == {}
    shared = [OLD[0], Entry("b", "/vmlinuz-9", None, "u-one", ())]
    text = menu.configuration(shared, older=_older(0))
    assert kernels(text, "u-one", 1) == {"/boot/vmlinuz-1", "/boot/vmlinuz-0"}
    assert kernels(text, "u-one", 0) == {"/vmlinuz-9", "/boot/vmlinuz-0"}
    assert kernels(text, "u", 1) == set()
