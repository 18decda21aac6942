# SPDX-License-Identifier: Apache-2.0
"""``bareon-boot status`` and ``confirm``: what runs, is the default and comes next, for people and for programs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bareon.boot import bareon_boot, info, menu
from bareon.boot.info import Listed
from bareon.boot.menu import Entry
from bareon.model.image import Image
from bareon.model.location import Location

NO_SYSTEM = "(cannot boot: holds no system)"
ODD = 'a "b" \\c'
IMAGES = [
    Listed(Image("one", Location("rsync://a/1"), uuid="i-1"), 0, None, "One", "r-1"),
    Listed(Image(ODD, Location("rsync://a/2")), 1, None, ODD, "r-2"),
    Listed(Image("data", Location("rsync://a/3"))),
]


@pytest.fixture
def partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "boot/grub2"
    folder.mkdir(parents=True)
    entries = [Entry(x, "/vmlinuz", None, "u", ()) for x in ("One", "Two")]
    (folder / "grub.cfg").write_text(menu.configuration(entries, menu.once()))
    (folder / "grubenv").write_text(menu.environment())
    (folder / "bareon-images").write_text(info.table(IMAGES))
    monkeypatch.setenv("BAREON_MULTIBOOT", str(tmp_path))
    return folder


def _run(*words: str, running: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script where the image with that number is the one that runs."""
    there = f"is_on() {{ [ \"$2\" = '{running}' ]; }}\ncommand=${{1:-}}\n" if running else "command=${1:-}\n"
    script = bareon_boot.script(["u"]).replace("command=${1:-}\n", there)
    return subprocess.run(["sh", "-s", "--", *words], input=script, capture_output=True, text=True)


def test_it_says_what_runs_and_what_comes_next(partition: Path) -> None:
    done = _run("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "running: none\ndefault: one\nnext time only: none\n"
    assert _run("switch", "--once", "1").returncode == 0
    done = _run("status", running="r-1")
    assert done.stdout == f"running: one\ndefault: one\nnext time only: {ODD}\n"


def test_programs_get_it_as_json(partition: Path) -> None:
    assert json.loads(_run("status", "--json", running="r-2").stdout) == {
        "running": 1,
        "default": 0,
        "next": None,
        "images": [
            {"number": 0, "name": "one", "uuid": "i-1", "root_uuid": "r-1", "title": "One"},
            {"number": 1, "name": ODD, "uuid": None, "root_uuid": "r-2", "title": ODD},
            {"number": None, "name": "data", "uuid": None, "root_uuid": None, "title": NO_SYSTEM},
        ],
    }


def test_what_runs_becomes_the_default(partition: Path) -> None:
    assert _run("switch", "--once", "one").returncode == 0
    done = _run("confirm", running="r-2")
    assert (done.returncode, done.stderr) == (0, "")
    status = json.loads(_run("status", "--json").stdout)
    assert (status["default"], status["next"]) == (1, None)
    before = (partition / "grub.cfg").stat().st_ino
    assert _run("confirm", running="r-2").returncode == 0
    assert (partition / "grub.cfg").stat().st_ino == before


def test_a_system_that_is_no_image_confirms_nothing(partition: Path) -> None:
    before = (partition / "grub.cfg").read_text()
    done = _run("confirm")
    assert (done.returncode, done.stderr) == (4, "bareon-boot: this system is none of the images in the menu\n")
    assert (partition / "grub.cfg").read_text() == before


@pytest.mark.parametrize("words", [("status", "x"), ("status", "--json", "x"), ("confirm", "one")])
def test_words_that_no_command_has(partition: Path, words: tuple[str, ...]) -> None:
    assert _run(*words).returncode == 2
