# SPDX-License-Identifier: Apache-2.0
"""qcow2 files streamed onto a device, against what qemu-img makes of them; and such that nobody should trust."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tests.imageserver import Fault, serving
from bareon.transfer import qcow2
from bareon.transfer.image import Written, inspect, write

MIB = 1 << 20
SETTINGS = TransferSettings(attempts=3, back_off=0.01, idle_timeout=2)
SIZE = 6 * MIB
qemu = pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")


def plain(size: int = SIZE) -> bytes:
    """Bytes, text, zeros and a hole of everything in between."""
    rng = random.Random(7)
    data = bytearray(size)
    for start in range(0, size, 300_000):
        part = [rng.randbytes(100_000), b"text" * 30_000, bytes(90_000), rng.randbytes(70_000)][start // 300_000 % 4]
        data[start : start + len(part)] = part[: size - start]
    return bytes(data)


def made(folder: Path, *options: str, data: bytes | None = None, name: str = "image.qcow2") -> Path:
    raw, path = folder / "raw", folder / name
    raw.write_bytes(plain() if data is None else data)
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(raw), str(path)]
    subprocess.run(argv, check=True, capture_output=True)
    return path


def brought(url: str, folder: Path, limit: int = 7 * MIB) -> tuple[bytes, Written]:
    device = folder / "device"
    device.write_bytes(b"\xee" * (8 * MIB))
    done = write(
        Location(url), str(device), limit=limit, digest=None, settings=SETTINGS, progress=lambda served, of: None
    )
    assert done.format == "qcow2"
    return device.read_bytes(), done


@qemu
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-o", "compat=0.10"],
        ["-o", "cluster_size=512"],
        ["-o", "cluster_size=2M"],
        ["-c"],
        ["-c", "-o", "cluster_size=4k"],
        ["-c", "-o", "compression_type=zstd"],
        ["-o", "preallocation=metadata"],
        ["-o", "lazy_refcounts=on"],
        ["-S", "0"],
    ],
    ids=" ".join,
)
def test_as_qemu_img_reads_it(tmp_path: Path, options: list[str]) -> None:
    path = made(tmp_path, *options)
    assert inspect(Location(f"file://{path}"), SETTINGS, "qcow2").size == SIZE
    data, done = brought(f"file://{path}", tmp_path)
    assert data == plain() + b"\xee" * (2 * MIB)
    assert (done.size, done.served) == (SIZE, path.stat().st_size)


@qemu
def test_written_in_no_order_with_snapshots_and_zeros(tmp_path: Path) -> None:
    path = made(tmp_path, data=plain(SIZE - 512))
    rng = random.Random(9)
    for turn in range(3):
        writes = [
            f"write -P {rng.randrange(1, 255)} {rng.randrange(0, SIZE // 65536 - 2) * 65536 + 512} 66048"
            for _ in range(6)
        ]
        writes += [f"write -z {rng.randrange(0, SIZE // 65536 - 2) * 65536} 131072", "discard 2M 128k"]
        argv = [word for command in writes for word in ("-c", command)]
        subprocess.run(["qemu-io", "-f", "qcow2", *argv, str(path)], check=True, capture_output=True)
        subprocess.run(["qemu-img", "snapshot", "-c", f"s{turn}", str(path)], check=True, capture_output=True)
    raw = tmp_path / "reference"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(path), str(raw)], check=True, capture_output=True)
    data, _ = brought(f"file://{path}", tmp_path)
    assert data == raw.read_bytes() + b"\xee" * (2 * MIB + 512)


@qemu
@pytest.mark.parametrize("options", [[], ["-c"]], ids=["plain", "compressed"])
def test_over_http_and_cut(tmp_path: Path, options: list[str]) -> None:
    path = made(tmp_path, *options)
    with serving(path.read_bytes()) as site:
        size = path.stat().st_size
        site.before = lambda request: None if "-" in request.get("Range", "x")[:-1] else Fault(cut=size // 3)
        data, done = brought(site.url, tmp_path)
        assert data == plain() + b"\xee" * (2 * MIB)
        assert done.attempts > 1


@qemu
def test_a_server_without_ranges(tmp_path: Path) -> None:
    with serving(made(tmp_path).read_bytes()) as site:
        site.ranges = False
        with pytest.raises(ImageFailed, match="needs a server that gives parts"):
            brought(site.url, tmp_path)
    assert (tmp_path / "device").read_bytes() == b"\xee" * (8 * MIB)


@qemu
def test_larger_than_the_device(tmp_path: Path) -> None:
    path = made(tmp_path)
    with pytest.raises(ImageFailed, match="is 6 MiB, 1 MiB more than the 5 MiB"):
        brought(f"file://{path}", tmp_path, limit=5 * MIB)
    assert (tmp_path / "device").read_bytes() == b"\xee" * (8 * MIB)


@qemu
def test_what_is_refused(tmp_path: Path) -> None:
    base = made(tmp_path, name="base.qcow2")
    for argv, words in (
        (["-b", str(base), "-F", "qcow2"], "backing file"),
        (["-o", f"data_file={tmp_path / 'data'}", "6M"], "another file"),
        (["-o", "extended_l2=on", "6M"], "extended L2"),
    ):
        path = tmp_path / "refused.qcow2"
        path.unlink(missing_ok=True)
        create = ["qemu-img", "create", "-f", "qcow2", *[x for x in argv if x != "6M"], str(path), *argv[-1:]]
        subprocess.run(create if argv[-1] == "6M" else create[:-1], check=True, capture_output=True)
        with pytest.raises(ImageFailed, match=words):
            inspect(Location(f"file://{path}"), SETTINGS)


def test_other_disk_formats(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"no magic")
    with pytest.raises(ImageFailed, match="is no qcow2 image"):
        inspect(Location(f"file://{raw}"), SETTINGS, "qcow2")
    raw.write_bytes(minimal())
    with pytest.raises(ImageFailed, match="is a qcow2 image"):
        inspect(Location(f"file://{raw}"), SETTINGS, "raw")
    raw.write_bytes(zlib_gzip(minimal()))
    with pytest.raises(ImageFailed, match="inside gzip"):
        brought(f"file://{raw}", tmp_path)
    assert (tmp_path / "device").read_bytes()[:MIB] == bytes(MIB)


def zlib_gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def minimal(l2: list[int] | None = None, size: int = 4096, l1: int = 1024, bits: int = 9, entries: int = 1) -> bytes:
    """Header, L1 at 512, L2 at 1024, data from 1536 on; clusters of 512 bytes."""
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, bits, size, 0, entries, 512, 0, 0, 0, 0, 0, 0, 0, 4, 104
    )
    table = struct.pack(f">{len(l2 or [])}Q", *(l2 or []))
    return header.ljust(512, b"\0") + struct.pack(">Q", l1).ljust(512, b"\0") + table.ljust(512, b"\0") + b"d" * 1024


def test_one_cluster_used_twice_and_one_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(minimal([1536, 0, 1536, 2048])[:-100])
    data, _ = brought(f"file://{path}", tmp_path)
    assert data[:4096] == b"d" * 512 + bytes(512) + b"d" * 512 + b"d" * 412 + bytes(100) + bytes(2048)


def test_nothing_is_read_again_that_went_by() -> None:
    """As of a run that is read in steps, and another one that begins inside of it."""
    pieces = [(place, memoryview(bytes([place // 100]) * 100)) for place in range(0, 1000, 100)]
    window = qcow2.Window(iter(pieces))
    assert window.read(150, 300) == b"\1" * 50 + b"\2" * 100 + b"\3" * 100 + b"\4" * 50
    assert window.read(450, 10) == b"\4" * 10
    with pytest.raises(ImageFailed, match="a cluster is used twice"):
        window.read(200, 10)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (minimal([1 << 40]), "outside the file"),
        (minimal([1536 + 256 & ~511 | 1 << 30]), "outside the file"),
        (minimal([1 << 62 | 1 << 45]), "outside the file"),
        (minimal([1 << 62 | 1536]), "cannot be decoded"),
        (minimal(l1=1 << 40), "outside the file"),
        (minimal(size=1 << 63), "does not fit its size"),
        (minimal(size=1 << 50, entries=0xFFFFFFFF), "does not fit its size"),
        (minimal(size=1 << 46, entries=0xFFFFFFFF), "too large for clusters"),
        (minimal(bits=30), "no such size of clusters"),
        (minimal()[:50], "cut off"),
        (minimal()[:90], "cut off"),
        (minimal()[:600], "cut off"),
    ],
)
def test_hostile(tmp_path: Path, image: bytes, words: str) -> None:
    path, device = tmp_path / "image", tmp_path / "device"
    path.write_bytes(image)
    device.write_bytes(b"\xee" * MIB)
    with pytest.raises(ImageFailed, match=words):
        write(
            Location(f"file://{path}"),
            str(device),
            limit=1 << 62,
            digest=None,
            settings=SETTINGS,
            progress=lambda s, o: None,
        )


@given(st.lists(st.tuples(st.integers(0, 1600), st.binary(min_size=1, max_size=9)), max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_damage(changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(minimal([1536, 0, 2048]))
    for position, new in changes:
        data[position : position + len(new)] = new

    def read_at(offset: int, length: int) -> bytes:
        assert min(offset, length) >= 0 and offset + length <= len(data)
        return bytes(data[offset : offset + length])

    try:
        mapped = qcow2.Map(qcow2.header(bytes(data)), len(data), read_at)
    except ImageFailed:
        return
    size = mapped.header.size
    starts = [run.host for run in mapped.runs()]
    assert starts == sorted(starts) and len(starts) <= 64 + 64
    covered = sum(
        min(mapped.header.cluster, size - run.guest) if run.compressed else run.length for run in mapped.runs()
    )
    assert covered + sum(length for _, length in mapped.holes()) == size
