# SPDX-License-Identifier: Apache-2.0
"""File systems made on files by the mkfs of this machine, and what their own tools then say of their features.

Readers of file systems are looked for in trees on a real rsync daemon.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bareon import tools
from bareon.drivers.deploy.rsync import Rsync
from bareon.model.deployment import Deployment
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.storage.mkfsoptions import arguments, left_off
from bareon.storage.reader import FEATURES, FLOOR, Reader, unread
from building.process import run
from tests_functional.test_trees import served, written

UUID = "c0ffee00-0000-4000-8000-000000000001"
PRINT = {
    "xfs": ["xfs_info"],
    "ext4": ["dumpe2fs", "-h"],
    "btrfs": ["btrfs", "inspect-internal", "dump-super"],
}


def features(kind: str, file: Path) -> set[str]:
    """The features of the table that a file system has."""
    said = run([*PRINT[kind], file], timeout=30).stdout
    if kind == "xfs":
        return {x.name for x in FEATURES[kind] if re.search(rf"\b{x.name}=1\b", said)}
    words = set(re.findall(r"[a-z0-9_]+", said.lower()))
    return {x.name for x in FEATURES[kind] if x.name.replace("-", "_") in words}


def made(kind: str, folder: Path, readers: tuple[Reader, ...], *given: str) -> set[str]:
    """The features of a file system that was made for these readers, with these options."""
    file = folder / "volume"
    file.unlink(missing_ok=True)
    file.touch()
    os.truncate(file, 400 << 20)
    without = [x.name for x in left_off(unread(kind, readers), given)]
    more = arguments(kind, without, given, tools.filesystem.version(kind))
    tools.filesystem.make(kind, str(file), UUID, None, more=more)
    return features(kind, file)


@pytest.mark.parametrize("kind", FEATURES)
@pytest.mark.parametrize("linux", [(3, 10), (4, 4), (4, 18), (5, 10), (5, 15), (6, 12)])
@pytest.mark.parametrize("grub", [None, (2, 2), (2, 6), (2, 12)])
def test_no_reader_meets_what_it_does_not_know(
    kind: str, linux: tuple[int, int], grub: tuple[int, int] | None, tmp_path: Path
) -> None:
    readers = (Reader("Linux", linux), *([Reader("GRUB", grub)] if grub else []))
    assert not made(kind, tmp_path, readers) & {x.name for x in unread(kind, readers)}


def test_what_readers_know_is_left_to_mkfs(tmp_path: Path) -> None:
    new = (Reader("Linux", (6, 18)), Reader("GRUB", (2, 14)))
    assert {"bigtime", "inobtcount", "sparse"} <= made("xfs", tmp_path, new)
    assert {"no-holes", "free-space-tree"} <= made("btrfs", tmp_path, new)
    # The control: without a word, this mkfs makes what the kernel that is assumed does not mount.
    assert made("xfs", tmp_path, ()) & {x.name for x in unread("xfs", FLOOR)}


def test_options_win(tmp_path: Path) -> None:
    assert {"bigtime", "rmapbt"} <= made("xfs", tmp_path, FLOOR, "-m bigtime=1,rmapbt=1")
    assert "metadata_csum_seed" in made("ext4", tmp_path, FLOOR, "-O metadata_csum_seed")
    assert "no-holes" in made("btrfs", tmp_path, FLOOR, "-O no-holes")
    assert "free-space-tree" not in made("btrfs", tmp_path, FLOOR, "-R ^free-space-tree")


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("xfs", "-K|-b size=4096|-i size=1024,maxpct=10|-l size=64m|-n size=8192|-s size=4096|-d agcount=2"),
        ("ext4", "-b 4096|-I 256|-m 0.5|-T news|-E stride=16,stripe_width=64,nodiscard|-J size=8|-e remount-ro"),
        ("btrfs", "-K|-m single|-n 16k|--checksum xxhash"),
    ],
)
def test_options_of_each_type_are_taken(kind: str, given: str, tmp_path: Path) -> None:
    made(kind, tmp_path, FLOOR, *given.split("|"))


def look(url: str, *flags: str, target: str = "/") -> tuple[str, ...]:
    """What the driver sees of the readers in an image."""
    image = Image("a", Location(url), target)
    deployment = Deployment("clean", (), images=(image,), rsync_flags=flags or ("-a",))
    return tuple(map(str, Rsync().look(deployment, TransferSettings(connect_timeout=1)).images[0].readers))


def test_the_oldest_kernel_and_grub_of_a_tree_are_found(tmp_path: Path) -> None:
    kernels = [f"usr/lib/modules/{x}/modules.dep" for x in ("6.1.0-18-amd64", "5.10.0-28-amd64", "extramodules-2.6")]
    tree = written(tmp_path, *kernels, "usr/lib/modules/4.4.0", "usr/lib/modules/6.1.0-18-amd64/3.2.1-x/y")
    written(tree, "usr/lib/grub/x86_64-efi/modinfo.sh", text='grub_target_cpu=x86_64\ngrub_version="2.12"\n')
    written(tree, "usr/lib/grub/i386-pc/modinfo.sh", text='# grub_version="2.00"\ngrub_version="2.06"\n')
    (tree / "lib").symlink_to("usr/lib")
    with served(tree) as url:
        assert look(url) == ("Linux 5.10 of image 'a'", "GRUB 2.06 of image 'a'")
        assert look(url, "-a", "--exclude=5.10*") == ("Linux 6.1 of image 'a'", "GRUB 2.06 of image 'a'")
        # What goes into a part of a system brings no kernel for it.
        assert look(url, target="/opt") == ()
        assert look(url.replace("/tree/", "/none/")) == ()


def test_a_tree_that_tells_nothing(tmp_path: Path) -> None:
    written(tmp_path, "etc/hostname")
    written(tmp_path, "usr/lib/grub/i386-pc/modinfo.sh", text="grub_version=unknown\n")
    with served(tmp_path) as url:
        assert look(url) == ()


def test_folders_of_modules_where_they_lie_below_lib_itself(tmp_path: Path) -> None:
    written(tmp_path, "lib/modules/4.18.0-553.el8_10.x86_64/modules.dep")
    with served(tmp_path) as url:
        assert look(url) == ("Linux 4.18 of image 'a'",)
