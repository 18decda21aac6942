# SPDX-License-Identifier: Apache-2.0
"""Copies of the menu of several images on more than one disk: planned, written and kept alike."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.boot import bareon_boot, info, menu, nvram, several
from bareon.boot.disks import BootDisk
from bareon.boot.info import Listed
from bareon.boot.install import Source
from bareon.boot.menu import Entry
from bareon.boot.several import Found, InstallMultiboot
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.system.tree import Tree
from bareon.tests.cases import HERE, load, plan_of
from bareon.tools import mount

NAMES = ("grub.cfg", "grubenv", "bareon-images", "bareon-copies")
UUIDS = ["a-1", "b-2"]
IMAGES = [Listed(Image(x, Location(f"rsync://a/{x}")), n, None, x) for n, x in enumerate(("one", "two"))]


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders of two partitions, written alike as a deployment does it."""
    found = [tmp_path / "first", tmp_path / "second"]
    entries = [Entry(x.title, "/boot/vmlinuz-0", None, f"u-{x.title}", ()) for x in IMAGES]
    for place in found:
        folder = place / "boot/grub2"
        folder.mkdir(parents=True)
        (folder / "grub.cfg").write_text(menu.configuration(entries, menu.once(UUIDS)))
        (folder / "grubenv").write_text(menu.environment())
        (folder / "bareon-images").write_text(info.table(IMAGES))
        (folder / "bareon-copies").write_text("".join(f"{x}\n" for x in UUIDS))
    monkeypatch.setenv("BAREON_MULTIBOOT", " ".join(map(str, found)))
    return found


def _run(*words: str) -> tuple[int, str, str]:
    done = subprocess.run(["sh", "-s", "--", *words], input=bareon_boot.script(UUIDS), capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def _texts(place: Path) -> list[str]:
    return [(place / "boot/grub2" / name).read_text() for name in NAMES]


def _config(place: Path) -> Path:
    return place / "boot/grub2/grub.cfg"


root = pytest.mark.skipif(bool(os.geteuid()), reason="only root reads partitions")


@root
def test_a_switch_writes_all_copies(copies: list[Path]) -> None:
    code, out, said = _run("switch", "two")
    assert (code, said) == (0, f"the copy of the menu on {copies[1]} has been written\n")
    assert out.splitlines()[1].startswith("* 1")
    assert _texts(copies[0]) == _texts(copies[1])
    assert "\nset default=1\n" in _config(copies[1]).read_text()
    assert _run("switch", "one", "--once")[0] == 0
    assert _texts(copies[0]) == _texts(copies[1])
    assert "\nnext_entry=0\n" in _texts(copies[1])[1]
    assert [x for x in _config(copies[1]).read_text().splitlines() if x.startswith("# Change")] == ["# Change 2."]
    assert _run("list")[2] == ""


@root
@pytest.mark.parametrize("late", [0, 1])
def test_a_copy_that_was_away_learns_what_was_changed(
    late: int, copies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as alone:
        alone.setenv("BAREON_MULTIBOOT", str(copies[1 - late]))
        assert _run("switch", "two")[0] == 0
    before = _texts(copies[late])
    code, out, said = _run("list")
    assert code == 0 and out.splitlines()[1].startswith("* 1")
    assert said == (
        f"bareon-boot: the copy of the menu on {copies[late]} is not like the one that was changed last; switch and"
        " refresh write it anew\n"
    )
    assert _texts(copies[late]) == before  # who asks changes nothing
    system = copies[0].parent / "system"
    (system / "boot").mkdir(parents=True)
    (system / "boot/vmlinuz-0").write_text("kernel")
    code, out, _ = _run("refresh", "--root", str(system), "--image", "one")
    assert code == 0 and f"the copy of the menu on {copies[late]} has been written" in out
    assert _texts(copies[0]) == _texts(copies[1])
    assert "\nset default=1\n" in _config(copies[late]).read_text()
    assert "written" not in _run("refresh", "--root", str(system), "--image", "one")[1]


@root
def test_an_empty_copy_is_filled(copies: list[Path]) -> None:
    for name in NAMES:
        (copies[0] / "boot/grub2" / name).unlink()
    assert _run("switch", "two")[0] == 0
    assert _texts(copies[0]) == _texts(copies[1])


@root
def test_the_document_beside_the_copies_is_the_same_or_none(copies: list[Path]) -> None:
    documents = [x / "boot/grub2/bareon-input.json" for x in copies]
    documents[0].write_text("{}\n")
    assert "is not like" in _run("list")[2]
    assert _run("switch", "two")[0] == 0
    assert (documents[1].read_text(), documents[1].stat().st_mode & 0o777) == ("{}\n", 0o600)
    documents[0].unlink()
    assert "is not like" in _run("list")[2]
    assert _run("switch", "one")[0] == 0
    assert not documents[1].exists() and _run("list")[2] == ""


@root
@pytest.mark.parametrize("lost", ["", "# Written by bareon.\nset timeout=5\n"], ids=["all", "default"])
def test_a_copy_of_which_the_default_is_lost_is_not_taken(lost: str, copies: list[Path]) -> None:
    _config(copies[0]).write_text(lost)
    assert _run("switch", "two")[0] == 0
    assert _texts(copies[0]) == _texts(copies[1])
    assert "\nset default=1\n" in _config(copies[0]).read_text()


@root
def test_a_copy_with_a_link_is_left_alone(copies: list[Path], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (copies[0] / "boot/grub2/grubenv").unlink()
    (copies[0] / "boot/grub2/grubenv").symlink_to(victim)
    code, _, said = _run("switch", "two")
    assert code == 0 and f"the copy of the menu on {copies[0]} is left alone: there is a link" in said
    assert victim.read_text() == "precious"
    assert "\nset default=1\n" in _config(copies[1]).read_text()
    assert "\nset default=0\n" in _config(copies[0]).read_text()


@root
def test_a_copy_that_cannot_be_written_fails_the_rest_does_not(copies: list[Path]) -> None:
    (copies[1] / "boot/grub2/grubenv.new").mkdir()
    (copies[1] / "boot/grub2/grub.cfg.new").mkdir()
    code, _, said = _run("switch", "two")
    assert code == 6 and f"the copy of the menu on {copies[1]} cannot be written" in said
    assert "\nset default=1\n" in _config(copies[0]).read_text()
    assert "\nset default=0\n" in _config(copies[1]).read_text()


def test_a_menu_that_is_the_only_one_is_not_counted(copies: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (copies[0] / "boot/grub2/bareon-copies").unlink()
    monkeypatch.setenv("BAREON_MULTIBOOT", str(copies[0]))
    assert _run("switch", "two")[0] == 0
    assert "# Change" not in _config(copies[0]).read_text()


def test_what_was_chosen_for_once_is_forgotten_on_each_copy() -> None:
    alone, several = menu.once(), menu.once(UUIDS)
    assert several[8:13] == [
        "  for uuid in a-1 b-2; do",
        "    if search --no-floppy --fs-uuid --set=copy $uuid; then",
        "      save_env --file ($copy)/boot/grub2/grubenv next_entry",
        "    fi",
        "  done",
    ]
    assert alone == several[:8] + several[13:]


def test_each_menu_is_written_and_started_by_its_own_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = plan_of(load(HERE / "cases/plan/multiboot-copies.yaml")).steps[-1]
    assert isinstance(step, InstallMultiboot)
    started: list[tuple[str, list[str]]] = []

    def install(disks: Sequence[BootDisk], source: Source) -> list[str]:
        started.append((Path(source.tree.root).name, [disk.device for disk in disks]))
        return [rf"\EFI\{disk.device}" for disk in disks]

    told: list[tuple[str, str]] = []

    def remember(disks: Sequence[BootDisk], loaders: Sequence[str], _: str) -> dict[str, str]:
        told.extend(zip([disk.device for disk in disks], loaders, strict=True))
        return {}

    monkeypatch.setattr(several, "install_loaders", install)
    monkeypatch.setattr(mount, "write_back", lambda root: None)
    monkeypatch.setattr(nvram, "remember", remember)
    entry = Entry("x", "/vmlinuz", None, "u", ())
    systems = {
        x.name: Found(f"/dev/{x.name}", "u", None, x.name, entry, {}, "vmlinuz", f"/dev/{x.name}")
        for x in step.images
    }
    places = {disk: Tree(str(tmp_path / Path(disk).name)) for disk in step.layout.menus}
    for tree in places.values():
        Path(tree.root).mkdir()
        tree.write("/boot/grub2/bareon-input.json", "that of another deployment")
    step._install(places, systems, step._listed(systems))
    assert started == [("vdb", ["/dev/vda", "/dev/vdb", "/dev/vdd"]), ("vdc", ["/dev/vdc"])]
    assert told == [(x, rf"\EFI\{x}") for x in ("/dev/vda", "/dev/vdb", "/dev/vdc", "/dev/vdd")]
    first, second = (_texts(Path(tree.root)) for tree in places.values())
    assert first == second and first[3].split() == [x.uuid for x in step.layout.menus.values()]
    script = (tmp_path / "vdc/bareon-boot").read_text()
    assert all(x.uuid in script for x in step.layout.menus.values())
    for tree in places.values():
        left = Path(tree.root) / "boot/grub2/bareon-input.json"
        assert left.read_text() == step.document and left.stat().st_mode & 0o777 == 0o600
    replace(step, document=None)._install(places, systems, step._listed(systems))
    assert not any(tree.has("/boot/grub2/bareon-input.json") for tree in places.values())
