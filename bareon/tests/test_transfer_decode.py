# SPDX-License-Identifier: Apache-2.0
"""Compressed images, in whatever pieces they come, complete or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer import decode
from bareon.transfer.decode import Decoding
from bareon.transfer.format import Format, recognised
from bareon.transfer.image import Written, inspect, write

MIB = 1 << 20
SETTINGS = TransferSettings()
PLAIN = random.Random(5).randbytes(1500) * 800 + bytes(3 * MIB) + random.Random(6).randbytes(200_000) + b"end"
PACK: dict[Format, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
FORMATS = pytest.mark.parametrize("kind", list(PACK))
SMALL = {kind: pack(b"some" * 5000) for kind, pack in PACK.items()}


def unpacked(kind: Format, data: bytes, step: int = 65536, room: int = MIB) -> bytes:
    chunks = (memoryview(data)[i : i + step] for i in range(0, len(data), step))
    parts = list(Decoding(kind).run(chunks, lambda: room))
    assert all(0 < len(part) <= room for part in parts)
    return b"".join(parts)


@FORMATS
def test_an_image(kind: Format, tmp_path: Path) -> None:
    image, device = tmp_path / "image", tmp_path / "device"
    image.write_bytes(PACK[kind](PLAIN))
    device.write_bytes(b"\xee" * (6 * MIB))
    done = bring(image, device)
    assert (done.format, done.size, done.served) == (kind, len(PLAIN), image.stat().st_size)
    data = device.read_bytes()
    assert data[: len(PLAIN)] == PLAIN and data[len(PLAIN) :] == b"\xee" * (6 * MIB - len(PLAIN))
    assert inspect(Location(f"file://{image}"), SETTINGS).size == (len(PLAIN) if kind in ("zstd", "xz") else None)


def bring(image: Path, device: Path, limit: int = 6 * MIB) -> Written:
    return write(
        Location(f"file://{image}"),
        str(device),
        limit=limit,
        digest=None,
        settings=SETTINGS,
        progress=lambda served, of: None,
    )


@FORMATS
@given(step=st.integers(1, 3000), room=st.integers(1, 5000), members=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_any_pieces(kind: Format, step: int, room: int, members: int) -> None:
    assert unpacked(kind, SMALL[kind] * members, step, room) == b"some" * 5000 * members


@FORMATS
def test_cut_anywhere(kind: Format) -> None:
    for end in range(len(SMALL[kind])):
        with pytest.raises(ImageFailed, match="cut off"):
            unpacked(kind, SMALL[kind][:end], 17)


@FORMATS
@pytest.mark.parametrize("step", [13, 1 << 16])
def test_garbage_behind_the_end(kind: Format, step: int) -> None:
    for tail in (b"garbage", b"\0\0\0x", b"x", SMALL["zstd" if kind == "xz" else "xz"]):
        with pytest.raises(ImageFailed, match=r"behind the end|cut off"):
            unpacked(kind, SMALL[kind] + tail, step)


@FORMATS
def test_padding(kind: Format) -> None:
    if kind in ("gzip", "xz"):
        assert unpacked(kind, SMALL[kind] + bytes(512)) == b"some" * 5000
    else:
        with pytest.raises(ImageFailed):
            unpacked(kind, SMALL[kind] + bytes(512))
    if kind == "xz":
        assert unpacked(kind, SMALL[kind] + bytes(8) + SMALL[kind], 5) == b"some" * 10000
        with pytest.raises(ImageFailed, match="behind the end"):
            unpacked(kind, SMALL[kind] + bytes(6))


@FORMATS
def test_damage(kind: Format) -> None:
    packed = bytearray(PACK[kind](PLAIN[:50_000]))
    packed[len(packed) // 2] ^= 0x55
    if kind == "zstd":
        packed = bytearray(zstd.compress(PLAIN[:50_000], options={zstd.CompressionParameter.checksum_flag: 1}))
        packed[len(packed) // 2] ^= 0x55
    with pytest.raises(ImageFailed, match=r"damaged|behind the end|cut off"):
        unpacked(kind, bytes(packed))


class Counting:
    """A decoder, and the bytes that all of them were given."""

    given = 0

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def decompress(self, data: bytes | memoryview, max_length: int) -> Any:
        Counting.given += len(data)
        return self._decoder.decompress(data, max_length)


@FORMATS
def test_a_member_is_given_no_more_where_much_comes_at_once(kind: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind its end is copied by the decoder: by a stream of tiny members nobody may be kept busy."""
    real = decode._decoder
    monkeypatch.setattr(decode, "_decoder", lambda kind: ((found := real(kind)) and Counting(found[0]), found[1]))
    empty = {"zstd": struct.pack("<II", 0x184D2A50, 0), "xz": PACK["xz"](b"") + bytes(4)}.get(kind, PACK[kind](b""))
    given = []
    for step in (4096, MIB):
        Counting.given = 0
        assert unpacked(kind, empty * 2000 + SMALL[kind], step) == b"some" * 5000
        given.append(Counting.given)
    assert given[1] < 2 * given[0]


def test_frames_to_be_skipped() -> None:
    skipped = struct.pack("<II", 0x184D2A50, 5) + b"hello"
    assert recognised(skipped) == "zstd"
    assert unpacked("zstd", skipped + SMALL["zstd"] + skipped + SMALL["zstd"] + skipped, 3) == b"some" * 10000


@pytest.mark.pain("ramdisk-is-full")
def test_a_window_that_needs_too_much_memory() -> None:
    level = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.compression_level: 1}
    packer = zstd.ZstdCompressor(options=level)
    packed = packer.compress(b"x" * 1000) + packer.flush()
    with pytest.raises(ImageFailed, match=r"64 MiB window.*without --long"):
        unpacked("zstd", packed)
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 256 * MIB}]
    with pytest.raises(ImageFailed, match="more memory than allowed"):
        unpacked("xz", lzma.compress(b"x", filters=filters))
    assert unpacked("xz", lzma.compress(b"x", preset=9)) == b"x"


@FORMATS
def test_larger_than_the_device(kind: Format, tmp_path: Path) -> None:
    image, device = tmp_path / "image", tmp_path / "device"
    image.write_bytes(PACK[kind](PLAIN))
    device.write_bytes(b"\xee" * (6 * MIB))
    with pytest.raises(ImageFailed, match="more than the 2 MiB"):
        bring(image, device, 2 * MIB)
    assert device.read_bytes()[2 * MIB :] == b"\xee" * (4 * MIB)
    assert device.read_bytes()[:MIB] in (bytes(MIB), b"\xee" * MIB)


@pytest.mark.pain("compressed-by-name")
def test_recognised_by_content() -> None:
    assert recognised(b"BZh9 is how a text may begin") == "raw"
    assert recognised(b"") == recognised(b"QFI") == "raw"
    assert recognised(b"QFI\xfb\0\0\0\3") == "qcow2"
    assert [recognised(SMALL[kind]) for kind in PACK] == list(PACK)
