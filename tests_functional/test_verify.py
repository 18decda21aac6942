# SPDX-License-Identifier: Apache-2.0
"""Files of a real file system compared with the input and the manifest; it is not written by that, nor its journal.

No virtual machine: the volumes are loop devices of this machine.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.actions.manifest import PLACE, WriteManifest
from bareon.actions.verify import CompareFiles
from bareon.errors import DisksDiffer
from bareon.model.layout import Layout
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.storage.filesystem import Filesystem, Mount, PlannedFilesystem
from bareon.system import mtree
from bareon.system.bindings.fstab import HEADER
from building.process import run
from tests_functional.bench import loop
from tests_functional.bench.cell import SCRATCH

MIB = 1 << 20
UUID = "0b5e6a0e-6d0c-4f0e-9c53-2f8f4a3f1d10"
LINE = f"UUID={UUID} / ext4 noatime 0 1"
OTHERS = "server:/srv /srv nfs ro 0 0"


@pytest.fixture
def file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        made = Path(folder) / "volume"
        made.touch()
        os.truncate(made, 64 * MIB)
        run(["mkfs.ext4", "-q", "-F", "-U", UUID, made], timeout=60)
        yield made


@contextmanager
def mounted(file: Path) -> Iterator[tuple[Path, Path]]:
    """The device of a volume, and where it is mounted."""
    with ExitStack() as stack:
        device = stack.enter_context(loop.attached(file))
        point = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=SCRATCH)))
        run(["mount", device, point], timeout=30)
        stack.callback(run, ["umount", point], timeout=30)
        yield device, point


def written(file: Path, *lines: str) -> None:
    """Write the file system's fstab."""
    with mounted(file) as (_, point):
        (point / "etc").mkdir(exist_ok=True)
        (point / "etc/fstab").write_text("".join(f"{line}\n" for line in lines))


def step(device: Path, *, in_use: bool = False) -> CompareFiles:
    wanted = Filesystem("ext4", (Mount("/", "noatime", images=("a",)),))
    fs = PlannedFilesystem(str(device), 64 * MIB, "ext4", UUID, wanted, decision="keep")
    part = PlannedPartition(str(device), 64 * MIB, 1, MIB, "volume", "", content=fs)
    layout = Layout("verify", "bios", (PlannedDisk("/dev/absent", 99 * MIB, 512, "", (part,)),))
    return CompareFiles("do_verify", ("a",), layout, frozenset([str(device)] if in_use else ()))


def found(step: CompareFiles) -> list[str]:
    """The differences."""
    try:
        assert step.run(lambda *_: None) == {}
    except DisksDiffer as error:
        return error.lines()
    return []


def digest(file: Path, device: Path) -> str:
    """The digest of what has been written. In memory ext4 adds up its free blocks, and leaves it at that."""
    run(["blockdev", "--flushbufs", device], timeout=30)
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("lines", "differences"),
    [
        ((HEADER, LINE, OTHERS), []),
        (
            (HEADER, LINE.replace("noatime", "defaults"), OTHERS),
            [
                f"image 'a': /etc/fstab: expected the line '{LINE}', found none",
                f"image 'a': /etc/fstab: expected no line '{LINE.replace('noatime', 'defaults')}', found it",
            ],
        ),
    ],
    ids=["as-written", "changed"],
)
def test_a_volume_that_nobody_uses(file: Path, lines: tuple[str, ...], differences: list[str]) -> None:
    written(file, *lines)
    with loop.attached(file) as device:
        before = digest(file, device)
        assert found(step(device)) == differences
        assert digest(file, device) == before


def test_a_journal_is_not_played_back(file: Path) -> None:
    """As after a power cut: a read-only mount as such would write to the volume."""
    written(file, HEADER, LINE)
    cut = file.with_name("cut")
    with mounted(file) as (_, point):
        (point / "new").write_text("new")
        os.sync()
        shutil.copyfile(file, cut)
    with loop.attached(cut) as device:
        assert "needs_recovery" in run(["dumpe2fs", "-h", device], timeout=30).stdout
        before = digest(cut, device)
        assert found(step(device)) == []
        assert digest(cut, device) == before


def test_a_volume_in_use_is_read_where_it_is_mounted(file: Path) -> None:
    written(file, HEADER, LINE)
    with mounted(file) as (device, point):
        assert found(step(device, in_use=True)) == []
        (point / "etc/fstab").unlink()
        assert found(step(device, in_use=True)) == [f"image 'a': /etc/fstab: expected the line '{LINE}', found none"]


def test_what_cannot_be_read_is_passed_over(file: Path) -> None:
    told = {"passed_over": "image 'a': {} cannot be read as it is now"}
    for device, in_use in ((Path("/dev/absent"), False), (file, True)):
        assert step(device, in_use=in_use).run(lambda *_: None) == {
            key: words.format(device) for key, words in told.items()
        }


def drifted(device: Path) -> list[str]:
    """What differs from the manifest, on a volume whose fstab is as written."""
    return [x.removeprefix("image 'a': ") for x in found(replace(step(device), manifest=True))]


@pytest.fixture
def system(file: Path) -> Path:
    """A volume with the files of a system, and its manifest."""
    written(file, HEADER, LINE)
    with mounted(file) as (device, point):
        (point / "usr").mkdir()
        (point / "usr/program").write_bytes(b"program")
        (point / "usr/link").symlink_to("program")
        (point / "var").mkdir()
        os.mkfifo(point / "usr/pipe")
        os.mknod(point / "usr/null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        for name in (b"a b\nc", b"\xff\xfe", b"*=\\#[", b"nested"):
            (point / "usr" / os.fsdecode(name)).mkdir()
        (point / "usr/nested/one").write_bytes(b"1")
        (point / "usr/nested/two").write_bytes(b"2")
        os.setxattr(point / "usr/program", "user.bareon", b"one")
        outcome = WriteManifest("do_copyimage", "a", step(device).layout).run(lambda *_: None)
        assert (outcome["files"], outcome["left_out"]) == (15, 2)
        assert (point / PLACE[1:]).stat().st_mode & 0o7777 == 0o600
    return file


def test_nothing_differs_from_a_manifest_just_written(system: Path) -> None:
    with loop.attached(system) as device:
        before = digest(system, device)
        assert drifted(device) == []
        assert digest(system, device) == before
    with mounted(system) as (device, point):
        os.utime(point / "usr/program", (0, 0))
        times = [(point / x).stat().st_atime_ns for x in ("usr/program", "usr", PLACE[1:])]
        assert drifted(device) == []
        assert [(point / x).stat().st_atime_ns for x in ("usr/program", "usr", PLACE[1:])] == times


def test_each_kind_of_drift_has_a_line(system: Path) -> None:
    with mounted(system) as (device, point):
        (point / "var/log").mkdir()  # left out
        usr = point / "usr"
        (usr / "program").write_bytes(b"proGram")
        os.setxattr(usr / "program", "user.bareon", b"two")
        (usr / "link").unlink()
        (usr / "link").symlink_to("/etc")
        (usr / "pipe").unlink()
        (usr / "null").chmod(0o666)
        (usr / os.fsdecode(b"\xff\xfe")).rmdir()
        os.chown(usr / os.fsdecode(b"a b\nc"), 5, 6)
        shutil.rmtree(usr / "nested")
        (usr / "new").mkdir()
        (usr / "new/one").touch()
        assert sorted(drifted(device)) == sorted(
            [
                "/usr/a b\\nc: gid: expected 0, found 6; uid: expected 0, found 5",
                "/usr/link: link: expected program, found /etc",
                "/usr/nested is missing",
                "/usr/new is extra",
                "/usr/null: mode: expected 0600, found 0666",
                "/usr/pipe is missing",
                "/usr/program: xattr.user.bareon: expected another value, found another value;"
                " its content has changed (sha256digest)",
                "/usr/\\udcff\\udcfe is missing",
            ]
        )


def test_other_mounts_on_top_are_not_looked_into(system: Path) -> None:
    with mounted(system) as (device, point):
        run(["mount", "-t", "tmpfs", "bareon", point / "usr"], timeout=30)
        try:
            assert drifted(device) == []
        finally:
            run(["umount", point / "usr"], timeout=30)


def changed(data: bytes) -> bytes:
    return gzip.compress(gzip.decompress(data).replace(b"/usr/program", b"/usr/porgram"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[: len(data) // 2], "is cut off: its last line is missing"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-80]), "is cut off: its last line is missing"),
        (changed, "was changed: its digest is not that of its lines"),
        (lambda data: data + gzip.compress(b"./zzz type=dir\n"), "was changed: it goes on behind its last line"),
        (lambda _: b"", "is cut off: its last line is missing"),
        (lambda _: gzip.compress(b"other\n"), "is no manifest of bareon"),
        (lambda _: b"plain", "cannot be read: Not a gzipped file (b'pl')"),
        (lambda data: data[:40] + bytes(9) + data[49:], "cannot be read: "),
    ],
    ids=["cut", "cut-inside", "changed", "behind", "empty", "other", "no-gzip", "spoilt"],
)
def test_a_manifest_that_is_not_what_was_written(system: Path, spoil: Callable[[bytes], bytes], words: str) -> None:
    with mounted(system) as (device, point):
        place = point / PLACE[1:]
        place.write_bytes(spoil(place.read_bytes()))
        (line,) = drifted(device)
    assert line.startswith(f"{PLACE} {words}")
    assert line.endswith(": no files are compared")


def test_a_manifest_of_another_deployment_and_none(system: Path) -> None:
    with mounted(system) as (device, point):
        place = point / PLACE[1:]
        with place.open("wb") as file:
            mtree.Writer(file, mtree.Head("a", "another")).end()
        whose = "is of image 'a' on the file system another, of another deployment"
        assert drifted(device) == [f"{PLACE} {whose}: no files are compared"]
        place.unlink()
        assert drifted(device) == [f"{PLACE} is missing: no files are compared"]


def test_a_volume_that_a_manifest_tells_nothing_of_is_told(system: Path) -> None:
    with mounted(system) as (device, point):
        verify = replace(step(device), manifest=True)
        (root,) = verify.layout.tree("a")
        with (point / PLACE[1:]).open("wb") as file:
            mtree.Writer(file, mtree.Head("a", root.uuid)).end()
        outcome = verify.run(lambda *_: None)
    assert outcome == {"passed_over": "image 'a': the manifest tells nothing of the files of /"}
