# SPDX-License-Identifier: Apache-2.0
"""What reaches the device, in which order, and what stays untouched."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareon.errors import ActionFailed
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer.device import Device
from bareon.transfer.image import write

MIB = 1 << 20
OLD = b"\xee"


@contextlib.contextmanager
def target(folder: Path, size: int) -> Iterator[tuple[str, Path]]:
    """A device of that size full of old bytes, a loop device where that is possible, and the file behind it."""
    path = folder / "disk"
    path.write_bytes(OLD * size)
    done = subprocess.run(["losetup", "--find", "--show", path], capture_output=True, text=True, check=False)
    try:
        yield (done.stdout.strip() or str(path)), path
    finally:
        if done.returncode == 0:
            subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


@pytest.mark.parametrize("length", [1, 511, 4096, MIB - 1, MIB, MIB + 1, 3 * MIB - 512, 5 * MIB - 3])
@pytest.mark.pain("odd-lengths")
def test_any_length_and_nothing_behind(tmp_path: Path, length: int) -> None:
    image = random.Random(length).randbytes(length)
    (tmp_path / "image").write_bytes(image)
    with target(tmp_path, 6 * MIB) as (device, path):
        done = write(
            Location(f"file://{tmp_path}/image"),
            device,
            limit=length,
            digest=None,
            settings=TransferSettings(),
            progress=lambda served, of: None,
        )
        assert done.written == done.size == length
        os.sync()
        assert path.read_bytes() == image + OLD * (6 * MIB - length)


def test_the_first_and_the_last_mib_come_last(tmp_path: Path) -> None:
    with target(tmp_path, 4 * MIB) as (name, path), Device(name, 4 * MIB) as device:
        device.begin()
        assert path.read_bytes() == bytes(MIB) + OLD * (2 * MIB) + bytes(MIB)
        device.write(MIB // 2, memoryview(b"n" * MIB))
        device.write(4 * MIB - 8192, memoryview(b"n" * 4096))
        device.flush()
        assert path.read_bytes()[3 * MIB :] == bytes(MIB)
        assert path.read_bytes()[: 2 * MIB] == bytes(MIB) + b"n" * (MIB // 2) + OLD * (MIB // 2)
        device.commit()
        assert path.read_bytes()[: 2 * MIB] == bytes(MIB // 2) + b"n" * MIB + OLD * (MIB // 2)
        assert path.read_bytes()[3 * MIB :] == bytes(MIB - 8192) + b"n" * 4096 + bytes(4096)


@given(st.lists(st.tuples(st.integers(0, 3 * MIB // 512), st.integers(1, MIB // 512), st.booleans()), max_size=8))
@settings(max_examples=20, deadline=None)
@pytest.mark.pain("needed-zeros")
def test_zeros_and_bytes_anywhere(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int, bool]]
) -> None:
    wanted = bytearray(bytes(MIB) + OLD * (2 * MIB) + bytes(MIB))
    with target(tmp_path_factory.mktemp("any"), 4 * MIB) as (name, path):
        with Device(name, 4 * MIB) as device:
            device.begin()
            taken: set[int] = set()
            for start, count, zero in parts:
                blocks = set(range(start, start + count))
                if blocks & taken:
                    continue
                taken |= blocks
                data = bytes(512 * count) if zero else b"n" * (512 * count)
                (device.zero(start * 512, len(data)) if zero else device.write(start * 512, memoryview(data)))
                wanted[start * 512 : start * 512 + len(data)] = data
            device.commit()
        assert path.read_bytes() == wanted


@pytest.mark.pain("needed-zeros")
def test_runs_of_zeros_are_not_written(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"a" * MIB + bytes(3 * MIB) + b"b" * MIB + bytes(MIB))
    with target(tmp_path, 8 * MIB) as (device, path):
        done = write(
            Location(f"file://{tmp_path}/image"),
            device,
            limit=8 * MIB,
            digest=None,
            settings=TransferSettings(),
            progress=lambda served, of: None,
        )
        os.sync()
        assert path.read_bytes() == b"a" * MIB + bytes(3 * MIB) + b"b" * MIB + bytes(MIB) + OLD * MIB + bytes(MIB)
        assert done.written == 2 * MIB or not device.startswith("/dev/")


@pytest.mark.pain("wrong-device-name")
def test_errors_name_the_device(tmp_path: Path) -> None:
    with pytest.raises(ActionFailed, match="/dev/none: cannot be opened for writing: No such file"):
        Device("/dev/none", MIB)
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with Device("/dev/full", 8 * MIB) as device, pytest.raises(ActionFailed, match=r"/dev/full: .*No space left"):
        device.begin()


def test_a_full_device_ends_the_transfer(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"a" * (20 * MIB))
    with pytest.raises(ActionFailed, match=r"^/dev/full: cannot be written at byte 0: No space left on device$"):
        write(
            Location(f"file://{tmp_path}/image"),
            "/dev/full",
            limit=30 * MIB,
            digest=None,
            settings=TransferSettings(),
            progress=lambda served, of: None,
        )


def test_a_device_that_is_smaller_than_told(tmp_path: Path) -> None:
    with target(tmp_path, 2 * MIB) as (name, path):
        if not name.startswith("/dev/"):
            pytest.skip("needs a loop device")
        with pytest.raises(ActionFailed, match="has 2 MiB, 3 MiB were expected"):
            Device(name, 3 * MIB)
        assert path.read_bytes() == OLD * (2 * MIB)
