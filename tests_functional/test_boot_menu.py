# SPDX-License-Identifier: Apache-2.0
"""``bareon-boot`` on real file systems: whose entry it changes, and what a power cut leaves of menu and document.

No virtual machine: the file systems are on loop devices of this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from bareon.boot import at_hand, bareon_boot, info, menu, removal
from bareon.boot.info import Listed
from bareon.boot.menu import Entry
from bareon.boot.removal import RemoveEntries, State
from bareon.boot.renewal import numbers
from bareon.errors import UnsuitableNode
from bareon.model.image import Image
from bareon.model.layout import Layout
from bareon.model.location import Location
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.storage.filesystem import Filesystem, PlannedFilesystem
from bareon.tools import udev
from building.process import run
from tests_functional.bench import loop

BLOCK = 4096
#: The programs between which the disk is looked at: all that the script changes it by, and what writes it back.
CHANGING = ("rm", "ln", "mv", "sync", "mount", "umount")
#: The document beside the menu as it was, and as a renewal has it; both have more than one block.
DOCUMENTS = tuple("".join(f"{word} {number} {'z' * 90}\n" for number in range(60)) for word in ("before", "after"))


@dataclass(frozen=True)
class Node:
    """The file with the boot loader's partition, and two systems, each mounted from a file system of its own.

    UUIDs are of this node alone: tests run side by side on one machine.
    """

    multiboot: Path
    uuid: str
    systems: Sequence[Path]
    roots: Sequence[str]

    @property
    def script(self) -> str:
        return bareon_boot.script([self.uuid])


def config(roots: Sequence[str]) -> str:
    """A menu of two images that has more than one block."""
    words = tuple(f"word{number}={'x' * 90}" for number in range(60))
    entries = [Entry(f"System {n}", "/boot/vmlinuz-0", "/boot/initrd.img-0", x, words) for n, x in enumerate(roots)]
    return menu.configuration(entries, menu.once())


@contextmanager
def mounted(device: Path, point: Path) -> Iterator[Path]:
    point.mkdir(parents=True, exist_ok=True)
    run(["mount", device, point], timeout=30)
    try:
        yield point
    finally:
        run(["umount", point], timeout=30)


@contextmanager
def file_system(file: Path, name: str, *options: str) -> Iterator[Path]:
    with file.open("wb") as disk:
        disk.truncate(8 << 20)
    run(["mkfs.ext4", "-q", "-F", "-b", str(BLOCK), "-U", name, *options, file], timeout=30)
    with loop.attached(file) as device:
        yield device


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node with a menu of kernel 0, whose systems have kernels 1 and 2."""
    file, name, *roots = tmp_path / "multiboot", *(str(uuid.uuid4()) for _ in range(3))
    with ExitStack() as stack:
        device = stack.enter_context(file_system(file, name))
        with mounted(device, tmp_path / "filling") as place:
            folder = place / "boot/grub2"
            folder.mkdir(parents=True)
            (folder / "grub.cfg").write_text(config(roots))
            (folder / "grubenv").write_text(menu.environment())
            (folder / "bareon-input.json").write_text(DOCUMENTS[0])
            images = [Listed(Image(f"i{n}", Location("rsync://a/a")), n, None, "x", x) for n, x in enumerate(roots)]
            (folder / "bareon-images").write_text(info.table(images))
        systems = [stack.enter_context(_system(tmp_path / f"system{n}", x)) for n, x in enumerate(roots)]
        yield Node(file, name, systems, roots)


@contextmanager
def _system(place: Path, name: str) -> Iterator[Path]:
    with file_system(place.with_suffix(".disk"), name) as device, mounted(device, place) as root:
        (root / "boot").mkdir()
        for version in ("1", "2"):
            (root / "lib/modules" / version / "kernel").mkdir(parents=True)
            for kind in ("vmlinuz", "initrd.img"):
                (root / f"boot/{kind}-{version}").write_text("x")
        yield root


def refresh(root: Path, script: str) -> tuple[int, str]:
    return _started("refresh", "--root", str(root), script=script, cache=root.with_suffix(".blkid"))


def _started(*words: str, script: str, cache: Path) -> tuple[int, str]:
    # Without udev mount(8) goes by libblkid's cache, which believes for two seconds what was on a loop device before.
    environment = {**os.environ, "BLKID_FILE": str(cache)}
    command = ["sh", "-s", "--", *words]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=120, env=environment)
    return done.returncode, done.stdout + done.stderr


def test_copies_of_a_menu_are_kept_alike(node: Node, tmp_path: Path) -> None:
    """Two partitions with one menu: each is written, one is away, and learns of it when it is there again."""
    other, name, cache = tmp_path / "copy", str(uuid.uuid4()), tmp_path / "blkid"
    uuids = [node.uuid, name]
    script = bareon_boot.script(uuids)
    with loop.attached(node.multiboot) as device, mounted(device, tmp_path / "filling") as place:
        folder = place / "boot/grub2"
        (folder / "bareon-copies").write_text("".join(f"{x}\n" for x in uuids))
        with file_system(other, name) as second, mounted(second, tmp_path / "filling-copy") as there:
            shutil.copytree(folder, there / "boot/grub2")
    late = f"UUID={name}"
    with loop.attached(other):
        code, said = _started("switch", "i1", script=script, cache=cache)
        assert code == 0 and f"the copy of the menu on {late} has been written" in said
    assert "\nset default=1\n" in menu_on(other) == menu_on(node.multiboot)
    before = other.read_bytes()
    code, said = _started("switch", "i0", script=script, cache=cache)
    assert code == 0 and f"the copy of the menu on {late} is missing" in said
    assert other.read_bytes() == before and menu_on(other) != menu_on(node.multiboot)
    with loop.attached(other):
        code, said = _started("list", script=script, cache=cache)
        assert code == 0 and f"the copy of the menu on {late} is not like" in said and "* 0" in said
        code, said = refresh(node.systems[1], script)
        assert code == 0 and f"the copy of the menu on {late} has been written" in said
    assert menu_on(other) == menu_on(node.multiboot)
    assert "\nset default=0\n" in menu_on(other) and "\n# Change 3.\n" in menu_on(other)
    assert not list(Path("/run").glob("bareon-boot.*/boot")), "a copy is still mounted"


def test_a_menu_that_can_be_read_in_part_is_not_written_to_the_other(tmp_path: Path) -> None:
    files, uuids = [tmp_path / "first", tmp_path / "second"], [str(uuid.uuid4()) for _ in range(2)]
    for file, name in zip(files, uuids, strict=True):
        made = file_system(file, name, "-O", "^extent,^64bit")
        with made as device, mounted(device, file.with_suffix(".point")) as place:
            folder = place / "boot/grub2"
            folder.mkdir(parents=True)
            (folder / "grub.cfg").write_text(config(uuids) + f"# {'x' * 100}\n" * 500)
            (folder / "grubenv").write_text(menu.environment())
            images = [Listed(Image(f"i{n}", Location("rsync://a/a")), n, None, "x") for n in range(2)]
            (folder / "bareon-images").write_text(info.table(images))
            (folder / "bareon-copies").write_text("".join(f"{x}\n" for x in uuids))
    # Behind the blocks that the inode names itself the first is one that no disk has.
    command = ["debugfs", "-R", "stat /boot/grub2/grub.cfg", str(files[0])]
    stat = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    found = re.search(r"\(IND\):([0-9]+)", stat)
    assert found, stat
    with files[0].open("r+b") as disk:
        disk.seek(int(found[1]) * BLOCK)
        disk.write(b"\xff" * 4)
    before, script, cache = menu_on(files[1]), bareon_boot.script(uuids), tmp_path / "blkid"
    with loop.attached(files[0]):
        code, said = _started("switch", "i1", script=script, cache=cache)
        assert code == 4 and f"the menu on UUID={uuids[0]} cannot be read" in said
        with loop.attached(files[1]):
            code, said = _started("switch", "i1", script=script, cache=cache)
    assert code == 0 and f"the copy of the menu on UUID={uuids[0]} has been written" in said
    wanted = before.replace("set default=0", "set default=1")
    assert re.sub(r"^# Change 1\.\n", "", menu_on(files[1]), flags=re.M) == wanted
    assert menu_on(files[0]) == menu_on(files[1])


def menu_on(file: Path) -> str:
    """What GRUB would read, which knows no journal: nor does debugfs look into it."""
    command = ["debugfs", "-c", "-R", "cat /boot/grub2/grub.cfg", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def test_a_system_changes_its_own_entry(node: Node) -> None:
    code, said = refresh(node.systems[1], node.script)
    assert (code, said) == (0, "the menu has been changed: /boot/vmlinuz-2, older kernel /boot/vmlinuz-1\n")
    kernels = re.findall(r"^  linux (\S+)", menu_on(node.multiboot), re.M)
    assert kernels == ["/boot/vmlinuz-0", "/boot/vmlinuz-2", "/boot/vmlinuz-1"]
    before = node.multiboot.read_bytes()
    assert "up to date" in refresh(node.systems[1], node.script)[1]
    assert node.multiboot.read_bytes() == before


def test_links_lead_to_the_system_that_is_meant(node: Node) -> None:
    """One to its root does not have the system around the link start its kernels, nor does a /boot on another one."""
    first, second = node.systems
    (first / "link").symlink_to(second)
    code, said = refresh(first / "link", node.script)
    assert code == 0, said
    kernels = ["/boot/vmlinuz-0", "/boot/vmlinuz-2", "/boot/vmlinuz-1"]
    assert re.findall(r"^  linux (\S+)", menu_on(node.multiboot), re.M) == kernels
    shutil.rmtree(first / "boot")
    (first / "boot").symlink_to(second / "boot")
    code, said = refresh(first, node.script)
    assert code == 4 and "is not on the file system that GRUB reads kernels from" in said
    assert re.findall(r"^  linux (\S+)", menu_on(node.multiboot), re.M) == kernels


def test_a_system_that_is_none_of_the_images_changes_nothing(node: Node, tmp_path: Path) -> None:
    before = menu_on(node.multiboot)
    with _system(tmp_path / "other", str(uuid.uuid4())) as root:
        code, said = refresh(root, node.script)
    assert code == 4 and "none of the images" in said
    assert menu_on(node.multiboot) == before


def test_a_boot_that_is_not_mounted_changes_nothing(node: Node, tmp_path: Path) -> None:
    with loop.attached(node.multiboot) as device, mounted(device, tmp_path / "filling") as place:
        path = place / "boot/grub2/grub.cfg"
        path.write_text(path.read_text().replace(f"--set=root {node.roots[1]}", f"--set=root {node.roots[0]}"))
    before = menu_on(node.multiboot)
    code, said = refresh(node.systems[1], node.script)
    assert code == 4 and "/boot is not on the file system that GRUB reads kernels from" in said
    assert menu_on(node.multiboot) == before


def written(node: Node, folder: Path, command: str) -> list[str]:
    """The words that have another entry in the place of the first image's (``renew``), or behind all (``add``)."""
    folder.mkdir()
    words = tuple(f"other{number}={'y' * 90}" for number in range(60))
    entry = Entry("System anew", "/boot/vmlinuz-1", "/boot/initrd.img-1", node.roots[0], words)
    (folder / "entry").write_text("\n".join(menu.written(entry)) + "\n")
    number = 0 if command == "renew" else 2
    image = Listed(Image(f"i{number}", Location("rsync://a/a")), number, None, "anew", node.roots[0])
    (folder / "listed").write_text(info.table([image]))
    (folder / "document").write_text(DOCUMENTS[1])
    return [command, image.image.name, str(folder)]


@pytest.mark.parametrize(("command", "entries"), [("refresh", 3), ("renew", 2), ("add", 3)])
def test_a_power_cut_leaves_the_old_or_the_new_menu(node: Node, tmp_path: Path, command: str, entries: int) -> None:
    """At any command of the script, whatever the order in which blocks reach the disk then; so with the document."""
    old = menu_on(node.multiboot)
    root = ["refresh", "--root", str(node.systems[0])]
    words = root if command == "refresh" else written(node, tmp_path / "new", command)
    found = states([node.multiboot], tmp_path, words, node.script)
    new = menu_on(node.multiboot)
    assert new != old == config(node.roots) and new.count("menuentry ") == entries
    journal = {int(x) for x in run(["debugfs", "-R", "blocks <8>", node.multiboot], timeout=30).stdout.split()}
    assert {path.name[3:] for path in found} >= {"mount", "ln", "sync", "mv", "umount"}
    disks = [path / node.multiboot.name for path in found]
    seen = {on_disk(disk) for disk in disks}
    for before, after in pairwise(disks):
        seen |= _cuts(before, after, journal, tmp_path / "cut")
    renewals = {(new, DOCUMENTS[0])} if command == "refresh" else {(old, DOCUMENTS[1]), (new, DOCUMENTS[1])}
    assert seen == {(old, DOCUMENTS[0]), *renewals}


def states(disks: Sequence[Path], place: Path, words: Sequence[str], script: str) -> list[Path]:
    """Run the script; return a folder for each of its commands, in their order, with the disks as it left them."""
    folder, shims = place / "states", place / "shims"
    (folder / "00-start").mkdir(parents=True)
    shims.mkdir()
    for name in CHANGING:
        program = shims / name
        program.write_text(
            f'#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n{name} "$@"\ncode=$?\n'
            f'place={folder}/$(ls {folder} | wc -l | sed "s/^.$/0&/")-{name}\nmkdir $place\n'
            f"cp {' '.join(map(str, disks))} $place\nexit $code\n"
        )
        program.chmod(0o755)
    for disk in disks:
        shutil.copy(disk, folder / "00-start")
    script = script.replace("\nPATH=", f"\nPATH={shims}:", 1)
    code, said = _started(*words, script=script, cache=place / "blkid")
    assert code == 0, said
    return sorted(folder.iterdir())


def test_a_power_cut_leaves_a_document_that_counts(node: Node, tmp_path: Path) -> None:
    """Beside two copies of a menu, as a system that starts then reads it; and the same command makes them alike."""
    other, uuids = tmp_path / "copy", [node.uuid, str(uuid.uuid4())]
    script, words = bareon_boot.script(uuids), written(node, tmp_path / "new", "renew")
    with ExitStack() as stack:
        device = stack.enter_context(loop.attached(node.multiboot))
        second = stack.enter_context(file_system(other, uuids[1]))
        with mounted(device, tmp_path / "filling") as place, mounted(second, tmp_path / "filling-copy") as there:
            folder = place / "boot/grub2"
            (folder / "bareon-copies").write_text("".join(f"{x}\n" for x in uuids))
            shutil.copytree(folder, there / "boot/grub2")
        found = states([node.multiboot, other], tmp_path, words, script)
    seen, differing = [], []
    for state in found:
        with loop.attached(state / other.name) as one, loop.attached(state / node.multiboot.name) as two:
            read = at_hand.beside_menus([str(one), str(two)], node.roots[0])
            assert read.document and read.devices
            seen.append(read.document.decode())
            if read.warnings:
                assert "whose copy of the menu counts" in read.warnings[0] and read.devices == (str(two),)
                differing.append(state)
    assert [x for x, y in pairwise(seen) if x != y] == [DOCUMENTS[0]] and seen[-1] == DOCUMENTS[1]
    assert differing
    with loop.attached(differing[0] / node.multiboot.name) as one, loop.attached(differing[0] / other.name) as two:
        code, said = _started(*words, script=script, cache=tmp_path / "blkid-again")
        assert code == 0, said
        read = at_hand.beside_menus([str(one), str(two)], node.roots[0])
        assert (read.document, read.warnings) == (DOCUMENTS[1].encode(), ())
        with mounted(two, tmp_path / "filling") as place:
            assert (place / "boot/grub2/bareon-input.json").stat().st_mode & 0o777 == 0o600


def test_a_power_cut_leaves_a_list_that_is_true_of_the_menu(node: Node, tmp_path: Path) -> None:
    """While the first image is taken out: no number starts another one than the list says, and the default stays."""
    gone, left, default = "i0", "i1", 1
    with loop.attached(node.multiboot) as device, mounted(device, tmp_path / "filling") as place:
        folder = place / "boot/grub2"
        (folder / "grub.cfg").write_text(config(node.roots).replace("set default=0", f"set default={default}"))
        before = State((folder / "grub.cfg").read_text(), (folder / "bareon-images").read_text())
    new = tmp_path / "new"
    new.mkdir()
    removal.write(removal.without(before, [gone]), new)
    (new / "document").write_text(DOCUMENTS[1])
    found = states([node.multiboot], tmp_path, ["remove", str(new)], node.script)
    journal = {int(x) for x in run(["debugfs", "-R", "blocks <8>", node.multiboot], timeout=30).stdout.split()}
    disks = [path / node.multiboot.name for path in found]
    seen = {_lists(disk) for disk in disks}
    for one, other in pairwise(disks):
        seen |= _cuts(one, other, journal, tmp_path / "cut", _lists)
    assert len(seen) > 2
    for text, images in seen:
        entries = re.findall(r"^menuentry .*?^\}$", text, re.M | re.S)
        for name, number in numbers(images).items():
            assert f"--set=root {node.roots[int(name[1])]}\n" in entries[number]
        chosen = re.search("^set default=([0-9])$", text, re.M)
        assert chosen and f"--set=root {node.roots[default]}\n" in entries[int(chosen[1])]
        assert left in numbers(images)
    last = _lists(node.multiboot)
    assert last[0] == config([node.roots[default]]).replace("System 0", f"System {default}")
    assert numbers(last[1]) == {left: 0}
    # The same command goes on from each of them.
    assert {removal.without(State(*x), [gone])[-1] for x in seen} == {State(*last)}


def test_an_image_is_taken_out_by_the_step(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a deployment does it; what it refuses changes nothing."""
    monkeypatch.setenv("BLKID_FILE", str(tmp_path / "blkid"))
    monkeypatch.setattr(udev, "settle", lambda: None)
    with loop.attached(node.multiboot) as device:
        fs = PlannedFilesystem(str(device), 8 << 20, "ext4", node.uuid, Filesystem("ext4"), decision="keep")
        part = PlannedPartition(str(device), 8 << 20, 2, 1 << 20, "multiboot", "", content=fs, decision="keep")
        layout = Layout("verify", "bios", (PlannedDisk("/dev/absent", 9 << 20, 512, "", (part,)),))

        def step(name: str, *kept: str) -> RemoveEntries:
            return RemoveEntries("do_bootloader", (name,), kept, layout, DOCUMENTS[1])

        before = node.multiboot.read_bytes()
        with pytest.raises(UnsuitableNode, match=r"^image 'i0' is the one that boots by default"):
            step("i0", "i1").preflight()
        with pytest.raises(UnsuitableNode, match=r"^the menu also has image 'i1', which the document has not"):
            step("i2", "i0").preflight()
        step("i1", "i0").preflight()
        assert node.multiboot.read_bytes() == before
        assert step("i1", "i0").run(lambda done, size: None) == {"menu": "1 of 2 images", "removed": "i1"}
        assert menu_on(node.multiboot) == config(node.roots[:1])
        assert on_disk(node.multiboot)[1] == DOCUMENTS[1] and list(numbers(_lists(node.multiboot)[1])) == ["i0"]
        again = step("i1", "i0").run(lambda done, size: None)
        assert again == {"menu": "1 of 1 images", "not in the menu": "i1"}


def on_disk(file: Path) -> tuple[str, str]:
    """The menu and the document as :func:`menu_on` reads them."""
    command = ["debugfs", "-c", "-R", "cat /boot/grub2/bareon-input.json", str(file)]
    return menu_on(file), subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def _lists(file: Path) -> tuple[str, str]:
    """The menu and the list of images as :func:`menu_on` reads them."""
    command = ["debugfs", "-c", "-R", "cat /boot/grub2/bareon-images", str(file)]
    return menu_on(file), subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def _cuts(
    before: Path,
    after: Path,
    journal: set[int],
    disk: Path,
    read: Callable[[Path], tuple[str, str]] = on_disk,
) -> set[tuple[str, str]]:
    """What is between two states of a disk, with each of the blocks written alone, and each alone not written."""
    seen = set()
    for one, other in ((before, after), (after, before)):
        content, others = one.read_bytes(), other.read_bytes()
        disk.write_bytes(content)
        for place in range(0, len(content), BLOCK):
            block, changed = (x[place : place + BLOCK] for x in (content, others))
            if block != changed and place // BLOCK not in journal:
                with disk.open("r+b") as file:
                    os.pwrite(file.fileno(), changed, place)
                    seen.add(read(disk))
                    os.pwrite(file.fileno(), block, place)
    return seen
