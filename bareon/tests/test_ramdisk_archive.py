# SPDX-License-Identifier: Apache-2.0
"""The initramfs of the ramdisk, as those read it who hand it to a kernel; and that it does not depend on chance."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ramdisk import again, archive, base

#: What a frame of zstd begins with; RFC 8878, 3.1.1.
ZSTD = b"\x28\xb5\x2f\xfd"


PROGRAMS = pytest.mark.skipif(
    not all(map(shutil.which, ("cpio", "zstd", "bash"))), reason="cpio or zstd is not installed"
)


@PROGRAMS
def test_ironic_does_not_take_a_ramdisk_for_a_compressed_image(tmp_path: Path) -> None:
    """It would unpack one: ``_handle_zstd_compression`` of Ironic's ``images.py`` looks at the first four bytes."""
    for name in ("base", "overlay"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    archive.pack(tmp_path / "base", tmp_path / "base.cpio.zst", level=1)
    archive.pack(tmp_path / "overlay", tmp_path / "overlay.cpio")
    archive.join([tmp_path / "base.cpio.zst", tmp_path / "overlay.cpio"], tmp_path / "initramfs")

    whole = (tmp_path / "initramfs").read_bytes()
    base, overlay = (tmp_path / "base.cpio.zst").read_bytes(), (tmp_path / "overlay.cpio").read_bytes()
    assert base.startswith(ZSTD) and not whole.startswith(ZSTD)
    front = whole.removesuffix(base + overlay)
    assert len(whole) - len(front) == len(base) + len(overlay)
    assert len(front) % archive.ALIGNMENT == 0
    done = subprocess.run(["cpio", "--list", "--quiet"], input=front, capture_output=True, check=True)
    assert done.stdout == b""


def _tree(place: Path, names: list[str], seconds: int) -> Path:
    """A tree with a hard link, a symbolic one, and a time stamp older than any build."""
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
        (place / name).chmod(0o644)
        os.utime(place / name, (seconds, seconds))
    (place / "hard").hardlink_to(place / "a/b")
    (place / "link").symlink_to("a/b")
    os.utime(place / "c", (1000, 1000))
    for folder in (place, place / "a"):
        folder.chmod(0o755)
    return place


@PROGRAMS
@pytest.mark.parametrize("level", [None, 3])
def test_the_same_tree_gives_the_same_bytes(level: int | None, tmp_path: Path) -> None:
    """Whenever and in whatever order it was written."""
    one = _tree(tmp_path / "one", ["a/b", "c", "d"], 5000)
    other = _tree(tmp_path / "other", ["d", "c", "a/b"], 6000)
    for tree in (one, other):
        archive.pack(tree, tmp_path / f"{tree.name}.cpio", date=4000, level=level)
    assert (tmp_path / "one.cpio").read_bytes() == (tmp_path / "other.cpio").read_bytes()


@PROGRAMS
def test_members(tmp_path: Path) -> None:
    """Times after the build's are the build's; all is root's; hard links stay links."""
    archive.pack(_tree(tmp_path / "tree", ["a/b", "c", "d"], 5000), tmp_path / "cpio", date=4000)
    found = {member.name: member for member in archive.members((tmp_path / "cpio").read_bytes() * 2)}
    assert sorted(found) == ["TRAILER!!!", "a", "a/b", "c", "d", "hard", "link"]
    assert {name: member.fields[5] for name, member in found.items()} == {
        **dict.fromkeys(("a", "a/b", "d", "hard", "link"), 4000),
        **{"c": 1000, "TRAILER!!!": 0},
    }
    assert {member.fields[2:4] for member in found.values()} == {(0, 0)}
    assert found["a/b"].fields[0] == found["hard"].fields[0]
    with pytest.raises(ValueError, match="at byte 4"):
        list(archive.members(b"\0\0\0\0zstd"))


@PROGRAMS
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: None, None),
        (lambda tree: (tree / "c").write_text("C"), "/c: contents"),
        (lambda tree: (tree / "d").chmod(0o755), "/d: Member("),
        (lambda tree: (tree / "d").unlink(), "/a/b and /d: Member("),
    ],
)
def test_the_first_path_that_differs(change: Callable[[Path], object], said: str | None, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "other"):
        tree = _tree(tmp_path / name, ["a/b", "c", "d"], 5000)
        if name == "other":
            change(tree)
        archive.pack(tree, tmp_path / "cpio", date=500)
        contents.append((tmp_path / "cpio").read_bytes())
    found = next(again.between(contents[0], contents[1]), None)
    assert found is None if said is None else str(found).startswith(said), found


@PROGRAMS
def test_what_is_compressed_is_compared_unpacked(tmp_path: Path) -> None:
    """Whatever padding it has."""
    for length in range(1, 9):
        tree = tmp_path / f"tree{length}"
        tree.mkdir()
        (tree / "file").write_bytes(os.urandom(length))
        archive.pack(tree, tmp_path / "plain", date=0)
        archive.pack(tree, tmp_path / "packed", date=0, level=1)
        assert again.unpacked(tmp_path / "packed") == (tmp_path / "plain").read_bytes()
    (tmp_path / "packed").write_bytes(b"none")
    with pytest.raises(ValueError, match="packed: "):
        again.unpacked(tmp_path / "packed")


def test_packages_that_have_changed_between_two_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are named in place of the first file that they bring, and what would mend it."""
    monkeypatch.setenv("BAREON_CACHE", str(tmp_path))
    made: list[Path] = []

    def build(place: Path) -> Path:
        number = len(made) + 1
        made.append(tmp_path / f"base{number}")
        made[-1].mkdir()
        packages = [("one", f"1.{number}"), ("other", "2")]
        parts = [{"purl": f"pkg:deb/debian/{name}@{x}", "name": name, "version": x} for name, x in packages]
        (made[-1] / base.BILL).write_text(json.dumps({"components": parts}))
        return made[-1]

    assert again.difference(build, lambda line: None) == (
        "deb:one: 1.1 before, 1.2 now. The archive has moved on since the first one was built: "
        f"remove {made[0]}, and build again"
    )
