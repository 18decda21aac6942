# SPDX-License-Identifier: Apache-2.0
"""Partitions of whole disks over http: what is fetched of the file, and what arrives."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from bareon.errors import ImageFailed
from bareon.model.image import Digest, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tests.imageserver import Site, serving
from bareon.transfer.disk import Transfer, stage_parts, survey
from bareon.transfer.extents import joined, located
from bareon.transfer.image import Written

MIB = 1 << 20
SETTINGS = TransferSettings(attempts=2, back_off=0.01, idle_timeout=2)
#: Partitions by their numbers: first MiB, and MiB.
PLACES = {1: (2, 4), 2: (12, 2), 3: (20, 3)}
SIZE = 40 * MIB


def disk() -> bytes:
    """A disk with an MBR, and random bytes on it but for holes in the first partition."""
    data = bytearray(random.Random(5).randbytes(SIZE))
    data[3 * MIB : 4 * MIB] = bytes(MIB)
    data[446:510] = b"".join(
        struct.pack("<B3xB3xII", 0, 0x83, start * 2048, size * 2048) for start, size in PLACES.values()
    ).ljust(64, b"\0")
    data[510:512] = b"\x55\xaa"
    return bytes(data)


DISK = disk()


def part(number: int, of: bytes = DISK) -> bytes:
    start, size = PLACES[number]
    return of[start * MIB : (start + size) * MIB]


def brought(site: Site, *numbers: int, digest: str | None = None) -> tuple[list[bytes], Written]:
    """What arrives of some partitions."""
    location = Location(site.url)
    seen = survey(location, SETTINGS)
    given = Digest("sha256", digest) if digest else None
    transfer = Transfer(location, given, Published(), SETTINGS, None, lambda done, total: None)
    with ExitStack() as stack:
        files = {}
        for entry in seen.table.partitions:
            if entry.number in numbers:
                files[entry] = os.memfd_create("part")
                stack.callback(os.close, files[entry])
        written = stage_parts(transfer, seen, files)
        return [os.pread(file, entry.size, 0).ljust(entry.size, b"\0") for entry, file in files.items()], written


def served(folder: Path, form: str) -> bytes:
    if form == "raw":
        return DISK
    raw, file = folder / "raw", folder / "qcow2"
    raw.write_bytes(DISK)
    options = ["-c"] if form == "packed" else []
    subprocess.run(["qemu-img", "convert", *options, "-f", "raw", "-O", "qcow2", raw, file], check=True)
    return file.read_bytes()


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")
@pytest.mark.parametrize("form", ["raw", "qcow2", "packed"])
@pytest.mark.parametrize("numbers", [(1,), (2,), (3, 1), (1, 2, 3)])
def test_only_what_is_wanted_is_fetched(form: str, numbers: tuple[int, ...], tmp_path: Path) -> None:
    with serving(served(tmp_path, form)) as site:
        found, written = brought(site, *numbers)
        assert found == [part(number) for number in sorted(numbers)]
        wanted = sum(PLACES[number][1] for number in numbers) * MIB
        assert written.served <= wanted + 2 * MIB + MIB * len(numbers)
        assert written.digest is None


def test_a_digest_is_of_all_of_the_file() -> None:
    with serving(DISK) as site:
        found, written = brought(site, 2, digest=hashlib.sha256(DISK).hexdigest())
        assert found == [part(2)]
        assert written.served == SIZE
        with pytest.raises(ImageFailed, match="its sha256 is"):
            brought(site, 2, digest="00" * 32)


def test_a_server_without_parts_is_read_on_and_once() -> None:
    with serving(DISK) as site:
        site.ranges = False
        found, _ = brought(site, 1, 3)
        assert found == [part(1), part(3)]
        assert len([x for x in site.requests if x.get("Range", "").endswith("-")]) == 1  # the next would be in vain


@pytest.mark.parametrize("place", [100, 2 * MIB + 1024, 12 * MIB + 60000])
def test_what_was_looked_at_must_come(place: int) -> None:
    other = bytearray(DISK)
    other[place] ^= 1
    with serving(DISK) as site:
        site.etag = None
        location = Location(site.url)
        seen = survey(location, SETTINGS)
        site.body = bytes(other)
        transfer = Transfer(location, None, Published(), SETTINGS, None, lambda done, total: None)
        files = {entry: os.memfd_create("part") for entry in seen.table.partitions[:2]}
        try:
            with pytest.raises(ImageFailed, match="somebody has changed it"):
                stage_parts(transfer, seen, files)
        finally:
            for file in files.values():
                os.close(file)


def test_an_image_that_became_longer_is_another() -> None:
    with serving(DISK) as site:
        site.etag = None
        location = Location(site.url)
        seen = survey(location, SETTINGS)
        site.body = DISK + bytes(MIB)
        file = os.memfd_create("part")
        try:
            transfer = Transfer(location, None, Published(), SETTINGS, None, lambda done, total: None)
            with pytest.raises(ImageFailed, match="somebody has changed it"):
                stage_parts(transfer, seen, {seen.table.partitions[0]: file})
        finally:
            os.close(file)


def test_extents_are_few_and_hold_all() -> None:
    assert joined([(5 * MIB, 6 * MIB), (9, 9), (MIB // 2, MIB)], 100) == [(0, MIB), (5 * MIB, 6 * MIB)]
    many = [(start, start + 7) for start in range(0, 4000 * MIB, 3 * MIB)]
    found = joined(many, 100)
    assert len(found) <= 64
    assert all(any(start <= x and y <= end for start, end in found) for x, y in many)


def test_pieces_know_their_places() -> None:
    pieces = [memoryview(b"abc"), memoryview(b"defg"), memoryview(b"h")]
    found = [(place, bytes(data)) for place, data in located(pieces, [(0, 2), (10, 13), (20, 23)])]
    assert found == [(0, b"ab"), (10, b"c"), (11, b"de"), (20, b"fg"), (22, b"h")]
