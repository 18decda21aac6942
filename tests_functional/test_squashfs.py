# SPDX-License-Identifier: Apache-2.0
"""Squashfs files unpacked onto real file systems by the deploy driver's step.

No virtual machine: the volumes are loop devices of this machine.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bareon.drivers.deploy import staging
from bareon.drivers.deploy.squashfs import UnpackSquashfs
from bareon.errors import ActionFailed, BareonError, ImageFailed, UnsuitableNode
from bareon.model.image import Digest, Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from building.process import run
from tests_functional.bench.volumes import MIB, Volumes, volumes
from tests_functional.test_archives import entries, is_blank, source

SYSTEM = ("/", "ext4", 96), ("/usr", "ext4", 64), ("/var", "xfs", 320)


def step(file: Path, wanted: Volumes, digest: str | None = None) -> UnpackSquashfs:
    """The driver's step for a squashfs."""
    image = Image("a", Location(file.as_uri()), digest=Digest("sha256", digest) if digest else None)
    return UnpackSquashfs("do_copyimage", image, wanted.mounts, TransferSettings())


def packed(tree: Path, place: Path, *options: str) -> Path:
    run(["mksquashfs", tree, place, "-quiet", "-no-progress", "-e", "lost+found", *options], timeout=60)
    return place


def small(place: Path) -> Path:
    tree = place / "tree"
    for name in ("etc/hostname", "usr/noise", "var/a"):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_bytes(os.urandom(300000))
    return packed(tree, place / "small.squashfs")


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["in memory", "on a volume"])
def test_everything_arrives_as_it_was(memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "available_memory", lambda: memory)
    with source() as tree, volumes(*SYSTEM) as made:
        # What squashfs has not: ACLs, holes that go on for GiB, times before 1970 and parts of seconds.
        run(["setfacl", "--recursive", "--remove-all", "--remove-default", tree], timeout=10)
        (tree / "d/sparse").unlink()
        for folder, folders, files in os.walk(tree):
            for name in (".", *folders, *files):
                os.utime(Path(folder, name), ns=(0, 10**18), follow_symlinks=False)
        file = packed(tree, tmp_path / "whole.squashfs", "-comp", "zstd")
        found = step(file, made, hashlib.sha256(file.read_bytes()).hexdigest())
        found.preflight()
        outcome = found.run(lambda done, total: None)
        assert (outcome["form"], outcome["hard links that became copies"]) == ("squashfs", "2")
        assert outcome["served_bytes"] == file.stat().st_size
        wanted = entries(tree)
        with made.tree() as root:
            brought = entries(root)
            assert (root / "d/f").samefile(root / "d/hard")
    for path in (b".", b"usr", b"var"):  # the time of a file system's top folder is that of its lost+found
        wanted[path], brought[path] = (x[path][:5] + x[path][6:] for x in (wanted, brought))
    assert brought == wanted


def failed(file: Path, kind: type[BareonError], *wanted: tuple[str, str, int], digest: str | None = None) -> str:
    """What the step says when it fails; nothing is left then that looks like a system."""
    with volumes(*wanted) as made:
        with pytest.raises(kind) as caught:
            step(file, made, digest).run(lambda done, total: None)
        assert is_blank(made)
    return str(caught.value)


def test_what_is_damaged_or_not_verified_is_no_system(tmp_path: Path) -> None:
    file = small(tmp_path)
    assert "its sha256 is" in failed(file, ImageFailed, *SYSTEM, digest="00" * 32)
    data = file.read_bytes()
    for place in (40, 64):  # where the superblock says that the tables are
        file.write_bytes(data[:place] + bytes(x ^ 0x55 for x in data[place : place + 24]) + data[place + 24 :])
        assert "is damaged: " in failed(file, ImageFailed, *SYSTEM)
    file.write_bytes(data[: len(data) // 2])
    assert "is damaged: " in failed(file, ImageFailed, *SYSTEM)


def test_a_bomb_ends_at_the_volumes_limit(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with (tree / "zeros").open("wb") as zeros:
        zeros.truncate(1 << 30)
    file = packed(tree, tmp_path / "bomb.squashfs")
    assert file.stat().st_size < MIB
    assert "does not fit" in failed(file, ActionFailed, ("/", "ext4", 32))


def test_a_link_where_a_volume_is_mounted(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "usr").symlink_to("/run")
    file = packed(tree, tmp_path / "link.squashfs")
    assert "has a link to /run at /usr" in failed(file, ImageFailed, *SYSTEM)


@pytest.mark.pain("ramdisk-is-full")
def test_what_is_kept_is_read_through_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = small(tmp_path)
    with volumes(*SYSTEM) as made:
        with made.tree() as root:
            (root / "mine").write_text("mine")
        step(file, made.kept()).preflight()
        with made.tree() as root:
            assert not (root / "etc").exists()
        with monkeypatch.context() as patched:
            patched.setattr(staging, "available_memory", lambda: 0)
            with pytest.raises(UnsuitableNode, match="is to be read whole before it changes what is kept"):
                step(file, made.kept()).preflight()
        step(file, made.kept()).run(lambda done, total: None)
        with made.tree() as root:
            assert (root / "mine").read_text() == "mine"
            assert (root / "etc/hostname").read_bytes() == (tmp_path / "tree/etc/hostname").read_bytes()
