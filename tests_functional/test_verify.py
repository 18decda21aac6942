# SPDX-License-Identifier: Apache-2.0
"""``/etc/fstab`` of a real file system compared with the input, which is not written by that, not even its journal.

No virtual machine: the volumes are loop devices of this machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bareon.actions.verify import CompareFstab
from bareon.errors import DisksDiffer
from bareon.model.layout import Layout
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.storage.filesystem import Filesystem, Mount, PlannedFilesystem
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


def step(device: Path, *, in_use: bool = False) -> CompareFstab:
    wanted = Filesystem("ext4", (Mount("/", "noatime", images=("a",)),))
    fs = PlannedFilesystem(str(device), 64 * MIB, "ext4", UUID, wanted, decision="keep")
    part = PlannedPartition(str(device), 64 * MIB, 1, MIB, "volume", "", content=fs)
    layout = Layout("verify", "bios", (PlannedDisk("/dev/absent", 99 * MIB, 512, "", (part,)),))
    return CompareFstab("do_verify", ("a",), layout, frozenset([str(device)] if in_use else ()))


def found(step: CompareFstab) -> list[str]:
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
