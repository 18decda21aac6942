# SPDX-License-Identifier: Apache-2.0
"""Layers on each other: what is there in the end, by what they bring and hide. Real tar, real folders."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from bareon.drivers.deploy.archive import join
from bareon.drivers.deploy.layers import Layering
from bareon.drivers.deploy.listing import Survey
from bareon.errors import ImageFailed
from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.system.tree import Tree
from bareon.tests.registry import DIR, REG, SYM, Entry, archive
from bareon.transfer.tarstream import Member, Walk

Layer = Sequence[str | Entry]


def mounted(point: str, decision: str = "create") -> Mounted:
    wanted = Filesystem("ext4", (Mount(point),), path=f"$.volumes[{point}]")
    planned = PlannedFilesystem(f"/dev{point}", 1 << 30, "ext4", "", wanted, decision=decision)  # type: ignore[arg-type]
    return Mounted(planned, Mount(point))


def brought(
    root: Path, *layers: Layer, points: Sequence[str] = ("/",), kept: Sequence[str] = (), shared: Sequence[str] = ()
) -> Layering:
    """Bring layers to a folder: what goes on is unpacked as soon as it does, in the order of the members."""
    judge = _judged(points, kept, {})
    if kept:
        _walk(judge, layers, None, None)
        judge = _judged(points, kept, judge.hidden)
    tree = Tree(str(root), [mounted(x) for x in points])
    judge.into(tree, shared)
    _walk(judge, layers, root, tree)
    return judge


def _judged(points: Sequence[str], kept: Sequence[str], spared: dict[str, int]) -> Layering:
    return Layering(Survey("/", [mounted(x) for x in points]), kept, (), spared)


def _walk(judge: Layering, layers: Sequence[Layer], root: Path | None, tree: Tree | None) -> None:
    for number, layer in enumerate(layers, 1):
        judge.begin(number)
        passed: list[bytes] = []

        def judged(member: Member, passed: list[bytes] = passed) -> bool:
            if root is not None and passed:  # as where tar is as quick as it can be
                _unpack(root, b"".join(passed) + bytes(1024))
                passed.clear()
            return judge(member)

        walk = Walk(judged)
        passed.extend(bytes(part) for part in walk.feed(archive(*layer)))
        if root is not None and tree is not None:
            _unpack(root, b"".join(passed) + walk.finish())
            join(judge, tree)


def _unpack(root: Path, data: bytes) -> None:
    subprocess.run(["tar", "--extract", "--file=-", f"--directory={root}"], input=data, check=True, timeout=20)


def there(root: Path) -> set[str]:
    """All that a folder has: folders end with a slash, links have what they say behind them."""
    found = set()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            link = f" -> {path.readlink()}" if path.is_symlink() else "/" if path.is_dir() else ""
            found.add(f"{path.relative_to(root)}{link}")
    return found


#: The layers, and what is there in the end.
CASES: dict[str, tuple[list[Layer], set[str]]] = {
    "one": ([["etc/", "etc/a"]], {"etc/", "etc/a"}),
    "a file goes": ([["a", "b"], [".wh.a"]], {"b"}),
    "a folder goes with all in it": ([["d/", "d/e/", "d/e/f", "d/g -> e"], [".wh.d"]], set()),
    "on the way there": ([["a/b/c"], ["a/.wh.b"]], {"a/"}),
    "what is not there": ([["a"], [".wh.b", "x/.wh.y"]], {"a"}),
    "and comes again": ([["d/", "d/old"], [".wh.d", "d/", "d/new"]], {"d/", "d/new"}),
    "its own stays, whatever the order": ([["d/", "d/old"], ["d/", "d/new", ".wh.d"]], {"d/", "d/new"}),
    "its own file stays": ([["a"], ["a", ".wh.a"]], {"a"}),
    "a folder on its own way stays": ([["d/", "d/old"], ["d/new", ".wh.d"]], {"d/", "d/new"}),
    "of the layer two below": ([["a", "b"], ["c"], [".wh.a"]], {"b", "c"}),
    "hidden, and again from a higher one": ([["a"], [".wh.a"], ["a"]], {"a"}),
    "opaque": ([["d/", "d/x", "d/e/", "d/e/y"], ["d/", "d/.wh..wh..opq", "d/z"]], {"d/", "d/z"}),
    "opaque at its end": ([["d/", "d/x", "d/e/", "d/e/y"], ["d/", "d/e/", "d/e/z", "d/.wh..wh..opq"]],
                          {"d/", "d/e/", "d/e/z"}),
    "opaque, the same name": ([["d/x"], ["d/x", "d/.wh..wh..opq"]], {"d/", "d/x"}),
    "opaque, all": ([["a", "d/x"], ["b", ".wh..wh..opq"]], {"b"}),
    "a file for a folder": ([["d/", "d/x", "d/e/y"], ["d"]], {"d"}),
    "a link for a folder": ([["d/", "d/x", "e/"], ["d -> e"]], {"d -> e", "e/"}),
    "a folder for a file": ([["d"], ["d/", "d/x"]], {"d/", "d/x"}),
    "a folder for a link": ([["e/", "e/x", "d -> e"], ["d/", "d/y"]], {"d/", "d/y", "e/", "e/x"}),
    "a file for a link": ([["e", "d -> e"], ["d"]], {"d", "e"}),
    "a link for a file": ([["e", "d"], ["d -> e"]], {"d -> e", "e"}),
    "another link": ([["d -> e"], ["d -> f"]], {"d -> f"}),
    "a link goes, not what it leads to": ([["e/", "e/x", "d -> e"], [".wh.d"]], {"e/", "e/x"}),
    "a link below a folder that goes": ([["e/x", "d/", "d/l -> ../e"], [".wh.d"]], {"e/", "e/x"}),
    "one of two names": ([["a", "b = a"], [".wh.a"]], {"b"}),
    "a name of a lower layer's": ([["a"], ["b = a"]], {"a", "b"}),
    "what AUFS kept": ([[".wh..wh.plnk/", ".wh..wh.plnk/1.2", ".wh..wh.aufs", "a"]], {"a"}),
    "twice in a layer": ([["a", "a"], ["a", "a"]], {"a"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_there_in_the_end(name: str, tmp_path: Path) -> None:
    layers, wanted = CASES[name]
    judge = brought(tmp_path, *layers)
    assert there(tmp_path) == wanted
    assert judge.survey.entries >= 0


def test_what_is_counted_is_what_is_there(tmp_path: Path) -> None:
    judge = brought(tmp_path, ["a", "b", "d/", "d/e"], ["a", ".wh.b"], ["d/.wh..wh..opq", "d/f"])
    assert there(tmp_path) == {"a", "d/", "d/f"}
    assert judge.survey.entries == judge.survey.shares[0].files == 3


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([["e/x", "d -> e"], ["d/y"]], "no link is followed"),
        ([["e/x", "d -> /"], ["d/.wh.etc"]], "no link is followed"),
        ([["e/x", "d -> /"], ["d/.wh..wh..opq"]], "no link is followed"),
        ([["d -> /"], ["x", "y = d/etc/shadow"]], "no link is followed"),
        ([["a"], [".wh."]], "a whiteout of nothing"),
        ([["a"], [".wh.."]], "a whiteout of nothing"),
        ([["a/b"], ["a/.wh..."]], "a whiteout of nothing"),
        ([["a/b"], ["a/.wh..wh.b"]], "a whiteout of nothing"),
        ([["a"], ["../.wh.a"]], "leads out of the archive"),
        ([["a"], ["/.wh.a"]], "leads out of the archive"),
        ([["a"], ["d/.wh.x/y"]], "in a folder that is a whiteout"),
        ([["a"], ["a/b"]], "on whose way there is no folder"),
        ([["a"], ["x", "x/y/z"]], "on whose way there is no folder"),
        ([[("a", SYM, "/", b""), ("a", DIR, "", b"")]], "twice, the first time as a link"),
        ([["a"], [("a", SYM, "/", b""), ("a", REG, "", b"")]], "twice, the first time as a link"),
        ([["x"], [(".", SYM, "/", b"")]], "'.' twice, as a folder and as something else"),
        ([["x"], ["y", (".", REG, "", b"")]], "'.' twice, as a folder and as something else"),
        ([["x"], ["a/b", ("a", SYM, "/", b"")]], "twice, as a folder and as something else"),
    ],
)
def test_layers_that_lie(layers: list[Layer], says: str, tmp_path: Path) -> None:
    with pytest.raises(ImageFailed, match=says):
        brought(tmp_path, *layers)


def test_a_way_that_a_higher_layer_made_free(tmp_path: Path) -> None:
    brought(tmp_path, ["e/x", "d -> e"], [".wh.d", "d/", "d/y"], ["d/z"])
    assert there(tmp_path) == {"e/", "e/x", "d/", "d/y", "d/z"}


def test_no_file_of_somebody_is_taken_away(tmp_path: Path) -> None:
    for name in ("etc/mine", "srv/mine", "d/mine", "new/mine"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("mine")
    (tmp_path / "empty").mkdir()
    layers: list[Layer] = [
        [".", "etc/", "srv/", "etc/mine", "srv/theirs", "d/", "empty/", "f", "g = f"],
        ["etc/", "etc/.wh.mine", ".wh.srv", ".wh.empty", "d/", "d/.wh..wh..opq", ".wh.f", ".wh.new", "h"],
    ]
    layers = [[("." if x == "." else x) if x != "." else (".", DIR, "", b"") for x in layer] for layer in layers]
    brought(tmp_path, *layers, kept=("/",))
    assert there(tmp_path) == {
        *("etc/", "etc/mine", "srv/", "srv/mine", "d/", "d/mine", "new/", "new/mine", "empty/", "g", "h"),
    }
    assert {(tmp_path / x).read_text() for x in ("etc/mine", "srv/mine", "d/mine", "new/mine")} == {"mine"}


def test_no_file_of_an_image_before_this_one_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "home/a/empty").mkdir(parents=True)
    (tmp_path / "home/a/theirs").write_text("theirs")
    layers: list[Layer] = [["home/", "home/a/", "home/a/theirs", "home/a/ours", "home/a/empty/", "home/b/ours"]]
    judge = brought(tmp_path, *layers, ["home/a/ours", "home/.wh.a", "home/.wh.b"], ["home/a/ours", ".wh.home"],
                    points=("/", "/home"), shared=("/home",))  # fmt: skip
    assert judge.left == ["/home/a/theirs"]
    assert there(tmp_path) >= {"home/a/", "home/a/ours", "home/a/theirs", "home/a/empty/"}
    assert "home/b/ours" not in there(tmp_path)


def test_hard_links_across_volumes_are_of_their_layer(tmp_path: Path) -> None:
    layers: list[Layer] = [
        ["usr/a", "boot/b = usr/a"],
        [("usr/a", REG, "", b"other"), ".wh.usr"],
        ["boot/.wh.b", "boot/c = usr/a"],
    ]
    judge = brought(tmp_path, *layers, points=("/", "/boot", "/usr"))
    assert judge.copies == 2
    assert there(tmp_path) == {"usr/", "usr/a", "boot/", "boot/c"}
    assert (tmp_path / "boot/c").read_text() == "other"


def test_the_time_of_a_folder_stays_when_something_in_it_goes(tmp_path: Path) -> None:
    judge = _judged(("/",), (), {})
    tree = Tree(str(tmp_path), [mounted("/")])
    judge.into(tree, ())
    _walk(judge, [["d/", "d/a"]], tmp_path, tree)
    os.utime(tmp_path / "d", ns=(0, 0))
    judge.begin(2)
    walk = Walk(judge)
    assert not b"".join(map(bytes, walk.feed(archive("d/.wh.a"))))
    assert not (tmp_path / "d/a").exists()
    assert (tmp_path / "d").stat().st_mtime_ns == 0


def test_folders_in_each_other_without_end(tmp_path: Path) -> None:
    brought(tmp_path, ["a/" * 99], ["a/.wh.a"])
    assert there(tmp_path) == {"a/"}
    with pytest.raises(ImageFailed, match="folders in each other"):
        brought(tmp_path, ["a/" * 1500])


def test_names_without_end_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bareon.drivers.deploy.placing._MEMORY", 1 << 20)
    judge = _judged(("/",), (), {})
    with pytest.raises(ImageFailed, match="1 MiB of memory"):
        _walk(judge, [[f"{i:04d}" for i in range(6000)]], None, None)
