# SPDX-License-Identifier: Apache-2.0
"""Images taken out of the menu of several: at each time the list says of each image the number that starts it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bareon.boot import bareon_boot, info, menu
from bareon.boot.info import Listed
from bareon.boot.menu import Entry
from bareon.boot.removal import State, entries, refused, without, write
from bareon.boot.renewal import numbers
from bareon.boot.several import with_older_kernel
from bareon.errors import UnsuitableNode
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.system.kernel import Kernel

NAMES = ("a", "b", "c", "d")


def _entry(name: str) -> Entry:
    return Entry(f"System {name}", "/boot/vmlinuz-2", "/boot/initrd.img-2", f"u-{name}", ("ro",))


def _state(names: Sequence[str], default: int, older: str, *, signed: bool = False) -> State:
    """A menu of these images, some with an older kernel, and its list."""
    kernel = Kernel("/boot/vmlinuz-1", None, "1")
    others = {n: with_older_kernel(_entry(x), kernel) for n, x in enumerate(names) if x in older}
    text = menu.configuration(
        [*map(_entry, names)], menu.once(signed=signed), default=default, older=others, signed=signed
    )
    images = [
        Listed(Image(x, Location(f"rsync://a/{x}")), n, None, f"System {x}", f"r-{x}") for n, x in enumerate(names)
    ]
    return State(text, info.table([*images, Listed(Image("tool", Location("rsync://a/tool")))]))


def _starts(state: State) -> dict[str, str]:
    """What the number of each image starts."""
    found = re.findall(r"^menuentry .*?^\}$", state.menu, re.M | re.S)
    return {name: re.findall(r"--set=root (\S+)$", found[n], re.M)[0] for name, n in numbers(state.images).items()}


@pytest.mark.parametrize(
    ("gone", "default", "older", "then"),
    [
        ("b", 0, "", 0),
        ("d", 2, "bd", 2),
        ("a", 3, "ac", 2),
        ("ac", 1, "abcd", 0),
        ("abc", 3, "abcd", 0),
        ("b", 5, "bc", 3),
        ("ab", 7, "abcd", 3),
        ("b", 4, "a", 3),
        ("", 1, "ad", 1),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_what_is_left_is_as_made_without_them(gone: str, default: int, older: str, then: int, signed: bool) -> None:
    before = _state(NAMES, default, older, signed=signed)
    states = without(before, gone)
    assert states[0] == before
    left = [x for x in NAMES if x not in gone]
    assert states[-1] == _state(left, then, older, signed=signed)
    wanted = entries(before.menu)
    for one, other in pairwise(states):
        assert (one.menu == other.menu) != (one.images == other.images)
        assert _starts(other) == {x: f"u-{x}" for x in left}
        now = entries(other.menu)
        assert now.default_older == wanted.default_older
        assert now.entries[now.default] == wanted.entries[wanted.default]
        # After a power cut the same command goes on from there.
        assert without(other, gone)[-1] == states[-1]


def test_one_that_cannot_boot_is_in_the_list_alone() -> None:
    before = _state(NAMES, 0, "b")
    last = without(before, ["tool"])[-1]
    assert (last.menu, last.images) == (before.menu, re.sub("(?m)^-\ttool\t.*\n", "", before.images))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\nmenuentry 'System b'", "\nset colour=red\nmenuentry 'System b'"),
        ("set default=1", "set default=9"),
        ("set default=1", "set default=${x}"),
        ("# An older kernel of entry 1.\n", ""),
    ],
)
def test_a_menu_that_somebody_has_changed_is_left_alone(old: str, new: str) -> None:
    before = _state(NAMES, 1, "b")
    changed = before.menu.replace(old, new, 1)
    assert changed != before.menu
    if not old.startswith("# An"):
        with pytest.raises(UnsuitableNode, match=r"^grub\.cfg is not as bareon writes it: "):
            without(State(changed, before.images), ["c"])
    else:  # an entry of nobody, as a power cut may leave it: it is one of those that go
        assert len(entries(without(State(changed, before.images), ["c"])[-1].menu).entries) == 3


STATUS: Mapping[str, Any] = {
    **{"running": 0, "default": 0, "next": None, "tried": None, "failed": None},
    "images": [{"name": x, "number": n} for n, x in enumerate(NAMES)] + [{"name": "tool", "number": None}],
}
KEPT = ("a", "b", "c", "tool")


@pytest.mark.parametrize(
    ("changed", "names", "kept", "reason"),
    [
        ({}, ["a"], NAMES, "image 'a' is the one that runs"),
        ({"running": 3}, ["d"], KEPT, "image 'd' is the one that runs"),
        ({"default": 3}, ["d"], KEPT, "image 'd' is the one that boots by default"),
        ({"next": 1}, ["d"], KEPT, "an image is to start the next time only"),
        ({"tried": 0}, ["d"], KEPT, "is not confirmed yet"),
        ({}, ["x"], KEPT, "the menu also has image 'd', which the document has not"),
        ({}, ["d"], ("a", "b", "c"), "the menu also has image 'tool'"),
    ],
)
def test_what_cannot_go(changed: dict[str, Any], names: list[str], kept: Sequence[str], reason: str) -> None:
    status = {**STATUS, **changed}
    assert reason in refused(status, status["default"], names, kept)[0]


@pytest.mark.parametrize("changed", [{}, {"running": None}, {"tried": 3, "failed": 3}])
def test_what_can_go(changed: dict[str, Any]) -> None:
    """One that was tried and failed, too; and one that is gone already."""
    assert refused({**STATUS, **changed}, 0, ["d"], KEPT) == []
    assert refused({**STATUS, **changed}, 0, ["d", "x"], KEPT) == []


def _removed(tmp_path: Path, before: State, gone: Sequence[str]) -> subprocess.CompletedProcess[str]:
    place = tmp_path / "new"
    place.mkdir()
    write(without(before, gone), place)
    (place / "document").write_text("{}\n")
    words = ["sh", "-s", "--", "remove", str(place)]
    return subprocess.run(words, input=bareon_boot.script(["u"]), capture_output=True, text=True)


@pytest.fixture
def partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "multiboot/boot/grub2"
    folder.mkdir(parents=True)
    (folder / "grubenv").write_text(menu.environment().replace("##########", "bareon_trial=3:5\n", 1)[:1024])
    monkeypatch.setenv("BAREON_MULTIBOOT", str(folder.parents[1]))
    return folder


def test_the_script_writes_them(partition: Path, tmp_path: Path) -> None:
    before = _state(NAMES, 2, "bc")
    (partition / "grub.cfg").write_text(before.menu)
    (partition / "bareon-images").write_text(before.images)
    done = _removed(tmp_path, before, ["b", "d"])
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    after = _state(["a", "c"], 1, "c")
    assert (partition / "grub.cfg").read_text() == after.menu
    assert (partition / "bareon-images").read_text() == after.images
    assert (partition / "bareon-input.json").read_text() == "{}\n"
    environment = (partition / "grubenv").read_text()
    assert "bareon_trial" not in environment and len(environment) == 1024


def test_a_menu_that_was_changed_meanwhile_stays(partition: Path, tmp_path: Path) -> None:
    before = _state(NAMES, 2, "bc")
    (partition / "grub.cfg").write_text(_state(NAMES, 3, "bc").menu)
    (partition / "bareon-images").write_text(before.images)
    done = _removed(tmp_path, before, ["b"])
    assert done.returncode == 6 and "the menu was changed meanwhile" in done.stderr
    assert (partition / "grub.cfg").read_text() == _state(NAMES, 3, "bc").menu
    assert (partition / "bareon-images").read_text() == before.images
    assert not (partition / "bareon-input.json").exists()
