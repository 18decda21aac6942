# SPDX-License-Identifier: Apache-2.0
"""``file://``: regular files alone, whatever a path leads through; a device or FIFO is not even opened."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.transfer.deadline import Deadline
from bareon.transfer.failure import NotThere
from bareon.transfer.source import FileSource


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "image").write_bytes(b"content")
    (tmp_path / "link").symlink_to("image")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name, target in (("to-null", "/dev/null"), ("to-kernel", "/proc/self/environ"), ("dev", "/dev")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "to-fifo").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        yield tmp_path


@pytest.mark.parametrize("name", ["image", "link", "folder/../image"])
def test_a_regular_file(places: Path, name: str) -> None:
    source = FileSource(Location(f"file://{places}/{name}"), Deadline(60))
    buffer = memoryview(bytearray(16))
    assert source.length == 7
    assert bytes(buffer[: source.fill(buffer)]) == b"content"
    source.close()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        *((f"{{}}/{name}", "is no regular file") for name in ("folder", "fifo", "to-fifo", "socket", "to-null")),
        *((path, "is no regular file") for path in ("/dev/null", "/dev/zero", "{}/dev/zero", "/proc/self/fd")),
        *(
            (path, r"one of the kernel's \(proc\)")
            for path in ("/proc/version", "/proc/self/environ", "{}/to-kernel")
        ),
        ("/sys/class/net/lo/address", r"one of the kernel's \(sysfs\)"),
    ],
)
def test_whatever_else_has_a_path(places: Path, path: str, reason: str) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(ImageFailed, match=reason):
        FileSource(Location(f"file://{path.format(places)}"), Deadline(60))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_nothing_there(places: Path) -> None:
    with pytest.raises(NotThere):
        FileSource(Location(f"file://{places}/none"), Deadline(60))
    for url in (f"file://{places}/a%00b", f"file://{places}/{'n' * 300}"):
        with pytest.raises(ImageFailed):
            FileSource(Location(url), Deadline(60))
