# SPDX-License-Identifier: Apache-2.0
"""Whatever the bytes of an image are: it arrives, or an error says what is wrong with it; limits hold, and it ends.

``BAREON_MUTATIONS`` says how many images of each kind are tried.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import shutil
import struct
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from bareon.errors import ActionFailed, CommandError, ImageFailed
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tests import ocilayout
from bareon.tests.conftest import Record
from bareon.tests.damage import damaged
from bareon.tests.registry import Store, digest, text
from bareon.tests.test_transfer_qcow2 import minimal
from bareon.tools import squashfs
from bareon.transfer import manifest, oci, partitions
from bareon.transfer.image import inspect, write
from bareon.transfer.layoutstore import find
from bareon.transfer.tarstream import Walk

#: Images of each kind; 3,000 of each are over 20,000.
TRIES = int(os.environ.get("BAREON_MUTATIONS", "40"))
LIMIT = 1 << 20  # bytes that an image may have
GUARD = b"\xa5" * 65536
SECONDS = 10.0  # of the processor for each image, most of which a machine that is shared may take
SETTINGS = TransferSettings(attempts=1, back_off=0.0)
NUMBERS = (0, 1, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
OUTCOMES: Counter[str] = Counter()


def mutated(data: bytes, dice: random.Random, sizes: tuple[int, ...] = (1, 2, 4, 8)) -> bytes:
    """Bytes with one to four things changed, numbers of any size among them; more often near the beginning."""
    found = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(min(len(found), dice.choice((128, 1024, 8192, len(found) or 1))) or 1)
        match dice.randint(0, 6):
            case 0:
                found[at : at + 1] = bytes([dice.randrange(256)])
            case 1 | 2:
                size, order = dice.choice(sizes), dice.choice((">", "<"))
                number = dice.choice(NUMBERS) & ((1 << 8 * size) - 1)
                found[at : at + size] = struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], number)
            case 3:
                found[at : at + 1] = bytes([found[at] ^ 1 << dice.randrange(8)]) if at < len(found) else b""
            case 4:
                del found[at : len(found) if dice.random() < 0.5 else at + dice.randint(1, 600)]
            case 5:
                found[at:at] = dice.randbytes(dice.randint(1, 600))
            case _:
                other = dice.randrange(len(found) or 1)
                found[at : at + 64] = found[other : other + 64]
    return bytes(found)


def outcome(kind: str, once: Callable[[], object]) -> bool:
    """Run something that may end with an error for people, in time; True where it did not."""
    started = time.process_time()
    try:
        once()
    except (ImageFailed, ActionFailed, CommandError) as error:
        assert str(error) and "Traceback" not in str(error)
        OUTCOMES[f"{kind} refused"] += 1
        return False
    finally:
        assert time.process_time() - started < SECONDS
    OUTCOMES[f"{kind} taken"] += 1
    return True


# Block images.


def _raw() -> bytes:
    """A small file system, as far as its superblock says: an ext2 of 64 blocks of 1 KiB."""
    head = bytearray(random.Random(1).randbytes(65536))
    head[1024:2048] = bytes(1024)
    struct.pack_into("<III", head, 1024, 16, 64, 3)
    struct.pack_into("<H", head, 1024 + 56, 0xEF53)
    return bytes(head)


def _qcow2_of_qemu(*options: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        raw, made = Path(folder, "raw"), Path(folder, "made")
        raw.write_bytes(_raw() + bytes(65536) + b"text" * 30_000)
        argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(raw), str(made)]
        subprocess.run(argv, check=True, capture_output=True)
        return made.read_bytes()


BLOCKS: dict[str, Callable[[], bytes]] = {
    "raw": _raw,
    "qcow2": lambda: minimal([1536, 0, 2048, 1 << 62 | 1536]),
    "gzip": lambda: gzip.compress(_raw(), mtime=0),
    "xz": lambda: lzma.compress(_raw()),
    "bzip2": lambda: bz2.compress(_raw()),
    "zstd": lambda: zstd.compress(_raw()),
}
if shutil.which("qemu-img"):
    BLOCKS |= {
        "qcow2-of-qemu": lambda: _qcow2_of_qemu("-o", "cluster_size=4096"),
        "qcow2-compressed": lambda: _qcow2_of_qemu("-c"),
    }


def _written(location: Location, device: Path) -> None:
    write(location, str(device), limit=LIMIT, digest=None, settings=SETTINGS, progress=lambda done, total: None)


@pytest.mark.pain("mutated-images")
@pytest.mark.parametrize("kind", BLOCKS)
def test_block_images(kind: str, tmp_path: Path) -> None:
    whole, dice = BLOCKS[kind](), random.Random(kind)
    image, device = tmp_path / "image", tmp_path / "device"
    location = Location(f"file://{image}")
    for number in range(TRIES):
        image.write_bytes(whole if number == 0 else mutated(whole, dice))
        outcome(kind, lambda: inspect(location, SETTINGS))
        device.write_bytes(b"\xee" * LIMIT + GUARD)
        came = outcome(kind, lambda: _written(location, device))
        assert came or number or kind == "qcow2", "an image that is whole does not arrive"
        with device.open("rb") as file:
            head = file.read(65536)
            assert came or not head.strip(b"\0\xee"), "what has failed looks like something"
            file.seek(LIMIT)
            assert file.read() == GUARD, "something was written behind the limit"


# Tables of whole disks.


def _gpt() -> bytes:
    """A GPT with two partitions, whose check sums are right."""
    entries = bytearray(128 * 128)
    for index, (first, last) in enumerate(((64, 127), (128, 191))):
        name = f"part{index}".encode("utf-16-le")
        struct.pack_into("<16s16sQQQ", entries, index * 128, b"\1" * 16, bytes([index + 2]) * 16, first, last, 0)
        entries[index * 128 + 56 : index * 128 + 56 + len(name)] = name
    return _sealed(bytearray(446) + b"\0\0\2\0\xee" + bytes(59) + b"\x55\xaa" + bytes(512) + entries + bytes(100_000))


def _sealed(disk: bytes | bytearray) -> bytes:
    """The disk with a header whose check sums fit its partitions, so that what is wrong is read."""
    found = bytearray(disk)
    places = (0x5452415020494645, 0x10000, 92, 0, 0, 1, 255, 34, 220)
    struct.pack_into("<QIIIIQQQQ16sQIII", found, 512, *places, b"\3" * 16, 2, 128, 128, zlib.crc32(found[1024:17408]))
    struct.pack_into("<I", found, 528, zlib.crc32(bytes(found[512:528]) + bytes(4) + bytes(found[532:604])))
    return bytes(found)


@pytest.mark.pain("mutated-images")
def test_partition_tables() -> None:
    whole, dice = _gpt(), random.Random("tables")
    for number in range(TRIES):
        data = whole if number == 0 else mutated(whole, dice)
        if dice.random() < 0.5 and len(data) > 20_000:
            data = _sealed(data)

        def once(data: bytes = data) -> None:
            table = partitions.read_table(lambda offset, length: data[offset : offset + length], len(data))
            for entry in table.partitions if table else ():
                assert 0 < entry.start < entry.end <= len(data)

        assert outcome("table", once) or number


# Archives.


def _tar(form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, pax_headers={"comment": "x"}) as made:
        for name, kind, link, content in (
            *(("etc", tarfile.DIRTYPE, "", b""), ("etc/hosts", tarfile.REGTYPE, "", b"127.0.0.1\n" * 90)),
            *(("etc/" + "x" * 200, tarfile.SYMTYPE, "y" * 200, b""), ("é", tarfile.LNKTYPE, "etc/hosts", b"")),
            ("dev/null", tarfile.CHRTYPE, "", b""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _with_right_sums(data: bytes, dice: random.Random) -> bytes:
    """An archive with the check sums of all its blocks that might be headers made right."""
    found = bytearray(data)
    for place in range(0, len(found) - 511, 512):
        if found[place + 257 : place + 262] == b"ustar" and dice.random() < 0.9:
            found[place + 148 : place + 156] = b" " * 8
            found[place + 148 : place + 156] = b"%06o\0 " % sum(found[place : place + 512])
    return bytes(found)


@pytest.mark.pain("mutated-images")
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_archives(form: int) -> None:
    whole, dice = _tar(form), random.Random(f"tar {form}")
    for number in range(TRIES):
        data = whole if number == 0 else _with_right_sums(mutated(whole, dice, (1, 8)), dice)

        def once(data: bytes = data) -> None:
            walk = Walk(lambda member: "hosts" not in member.path)
            step = dice.choice((511, 512, 10_000))
            out = sum(len(x) for place in range(0, len(data), step) for x in walk.feed(data[place : place + step]))
            assert out + len(walk.finish()) <= len(data) + 10_240

        assert outcome("tar", once) or number


@pytest.mark.pain("mutated-images")
@pytest.mark.skipif(not shutil.which("sqfs2tar") or not shutil.which("mksquashfs"), reason="needs squashfs-tools")
@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_squashfs(packing: str, tmp_path: Path) -> None:
    """Each starts a program, so that these are fewer."""
    tree, made, empty = tmp_path / "tree", tmp_path / "made", tmp_path / "empty"
    (tree / "etc").mkdir(parents=True)
    empty.mkdir()
    (tree / "etc/hosts").write_bytes(b"127.0.0.1\n" * 90_000)
    (tree / "link").symlink_to("etc/hosts")
    subprocess.run(["mksquashfs", tree, made, "-quiet", "-no-progress", "-comp", packing], check=True)
    whole, dice = made.read_bytes(), random.Random(packing)
    for number in range(max(3, TRIES // 10)):
        made.write_bytes(whole if number == 0 else mutated(whole, dice))
        archived = tmp_path / "archive"

        def once(archived: Path = archived) -> None:
            with made.open("rb") as file, archived.open("wb") as out:
                squashfs.to_tar(file.fileno(), out.fileno(), str(empty), 60.0)
            walk = Walk(lambda member: True)
            for _ in walk.feed(archived.read_bytes()):
                pass
            walk.finish()

        assert outcome("squashfs", once) or number
        assert not list(empty.iterdir())


# Images of registries.


class _Documents:
    """A store whose documents are mutated; each has the digest that the one above wants."""

    def __init__(self, dice: random.Random, number: int) -> None:
        made = Store()
        made.image(["etc/", "etc/a"], ["usr/"])
        kind, top = made.manifests["latest"]
        document = json.loads(top)
        config = json.loads(made.blobs[document["config"]["digest"]])
        if number:
            config = damaged(config, dice) if dice.random() < 0.5 else config
            packed = text(config)
            document["config"] |= {"digest": digest(packed), "size": len(packed)}
            document = damaged(document, dice) if dice.random() < 0.8 else document
            made.blobs[digest(packed)] = packed
        top = text(document)
        index = {"schemaVersion": 2, "manifests": [{"mediaType": kind, "digest": digest(top), "size": len(top)}]}
        self.index = text(damaged(index, dice) if number and dice.random() < 0.3 else index)
        self.texts = {digest(top): top, **made.blobs}
        self.kind = kind

    def document(self, wanted: Any = None, tag: str | None = None) -> manifest.Document:
        found = self.index if wanted is None else self.texts.get(f"{wanted.algorithm}:{wanted.value}")
        if found is None:
            raise ImageFailed("is not there")
        return manifest.Document(found, "", manifest.digest_of(found))

    def blob(self, wanted: manifest.Descriptor, deadline: Any = None) -> Any:
        return _Blob(self.texts.get(str(wanted), b""))


class _Blob(io.BytesIO):
    def fill(self, buffer: memoryview) -> int:
        return self.readinto(buffer)


@pytest.mark.pain("mutated-images")
def test_documents_of_registries() -> None:
    dice = random.Random("oci")
    for number in range(TRIES):
        store = _Documents(dice, number)

        def once(store: _Documents = store) -> None:
            found = oci.found_in(store)
            assert 1 <= len(found.layers) <= manifest.MOST_LAYERS and found.size >= 0

        assert outcome("manifest", once) or number


@pytest.mark.pain("mutated-images")
def test_layouts_in_a_file(tmp_path: Path) -> None:
    store, dice = Store(), random.Random("layout")
    store.image(["etc/", "etc/a"], ["usr/"])
    whole, path = ocilayout.layout(store), tmp_path / "layout"
    for number in range(TRIES):
        path.write_bytes(whole if number == 0 else _with_right_sums(mutated(whole, dice, (1, 8)), dice))
        assert outcome("layout", lambda: find(Location(f"file://{path}"), SETTINGS, LIMIT)) or number


def test_all_of_it_was_tried(record_property: Record) -> None:
    record_property("mutated images", f"{sum(OUTCOMES.values())}: {dict(sorted(OUTCOMES.items()))}")
